// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
)

const (
	// reconcilePrefix is where each account's next comparison stands, in local storage.
	reconcilePrefix = "reconcile/"

	// reconcilePeriod is how often the cloud is compared with the ledger. What it finds
	// should not exist: it is the net below the rollback and the reaper.
	reconcilePeriod = 24 * time.Hour

	// staticKeyAge is how old a static role's key must be before its absence is believed.
	staticKeyAge = 10 * time.Minute

	// keptFor is longer than any grace.
	keptFor = 40 * 24 * time.Hour

	// maxChanges is how many keys a comparison may delete or replace, and a tenth of the account's: a
	// storage that is not the mount's own, or a list that is not whole, must not end them all.
	maxChanges = 5
)

// reconcileState is an account's progress. A round that does not fit into a tick is taken up by the next.
type reconcileState struct {
	Next time.Time `json:"next"` // when the next round begins, or goes on
	comparison
	Last outcome `json:"last"` // of the round before
}

// comparison is how far an account's ledger has been held against its cloud.
type comparison struct {
	Left    []string          `json:"left,omitempty"`    // identities still to be looked at, or, where it is judged, to be acted on
	Tries   map[string]int    `json:"tries,omitempty"`   // of those of them that a tick was too short for
	Users   []string          `json:"users,omitempty"`   // identities with something to be done
	Gone    map[string]string `json:"gone,omitempty"`    // static roles whose key the cloud does not have, and that key
	Orphans int               `json:"orphans,omitempty"` // still to be deleted
	Judged  time.Time         `json:"judged,omitzero"`   // when all were looked at; zero: not yet
	Found   outcome           `json:"found,omitzero"`

	// Kept is when orphans were first found that may be in use, under the user of a static role.
	Kept map[string]time.Time `json:"kept,omitempty"`
}

// outcome is what a comparison has left to people.
type outcome struct {
	Rotate int       `json:"rotate,omitempty"` // static roles, and
	Delete int       `json:"delete,omitempty"` // orphans that it has not touched, since they were too many
	Off    tidyLines `json:"off,omitzero"`     // static keys that are switched off
}

// over tells that nothing is left to be done.
func (c *comparison) over() bool { return len(c.Left) == 0 && !c.Judged.IsZero() }

// waits tells that it is too soon to prove once more that keys are gone.
func (c *comparison) waits() bool {
	return !c.over() && len(c.Gone) > 0 && lifetime.Waits(c.Judged.Add(tickPeriod), time.Now(), tickPeriod)
}

// withheld says what was not done; empty: all was.
func (o outcome) withheld(account string) string {
	if o.Rotate+o.Delete == 0 {
		return ""
	}
	return fmt.Sprintf("the comparison of account %q with its cloud would rotate %d static roles, whose key is gone, and delete %d orphans: "+
		"more than %d keys and a tenth of the account's, so that it has changed nothing. Look at them (vault write tidy account=%s "+
		"dry_run=true), and if that is right: vault write tidy account=%s confirm=%d",
		account, o.Rotate, o.Delete, maxChanges, account, account, o.Rotate+o.Delete)
}

// reconcileIfDue compares an account once a day. The first round is put at a random time
// of the day, so that the mounts of a fleet do not call the cloud together.
func (b *backend) reconcileIfDue(ctx context.Context, s logical.Storage, a *account) error {
	if lifetime.Waits(a.next.reconcile, time.Now(), reconcilePeriod) {
		return nil
	}
	state, err := load[reconcileState](ctx, s, reconcilePrefix+a.name)
	if err != nil {
		return err
	}
	now := time.Now()
	if state == nil {
		return save(ctx, s, reconcilePrefix+a.name, &reconcileState{Next: now.Add(rand.N(reconcilePeriod))})
	}
	b.compared.LoadOrStore(a.name, state.Last)
	if a.next.reconcile = state.Next; lifetime.Waits(state.Next, now, reconcilePeriod) {
		return nil
	}
	if len(state.Left) == 0 {
		if state.Left, err = b.identities(ctx, s, a.name); err != nil {
			return err
		}
	}
	c := &comparer{backend: b, storage: s, name: a.name, note: func(func(*tidyReport)) {}}
	problem := c.advance(ctx, &state.comparison)
	if state.over() {
		b.compared.Store(a.name, state.Found)
		*state = state.ended()
	}
	return errors.Join(problem, save(context.WithoutCancel(ctx), s, reconcilePrefix+a.name, state))
}

// ended is the state between a round that is over and the next.
func (c *comparison) ended() reconcileState {
	maps.DeleteFunc(c.Kept, func(_ string, first time.Time) bool { // it was deleted long ago
		return !lifetime.Waits(first.Add(keptFor), time.Now(), keptFor)
	})
	return reconcileState{Next: time.Now().Add(reconcilePeriod), Last: c.Found, comparison: comparison{Kept: c.Kept}}
}

// lastFound is the outcome of an account's last comparison, as far as this process has heard of it.
func (b *backend) lastFound(account string) outcome {
	known, _ := b.compared.Load(account)
	found, _ := known.(outcome)
	return found
}

// comparer holds an account's ledger against its cloud, in both directions.
type comparer struct {
	*backend
	storage logical.Storage
	name    string // of the account

	statics map[string]*staticRole // of all accounts
	note    func(func(*tidyReport))
	dryRun  bool
	confirm int // as many changes may be made, however many that is
}

// advance goes on with a comparison as far as ctx lets it:
//
//	(1) look at each identity: what is there that no record knows, static keys that are not, and leased
//	    keys that their holder has changed, which are set right at once
//	    → crash: the round goes on with what was left when it was last stored
//	(2) judge all of it: too much changes nothing
//	    → crash: the same is judged again
//	(3) a tick later, rotate each static role whose key is proven gone once more
//	    → crash: its key is there now, and nothing is to be done
//	(4) look again, and delete what still is an orphan; of a static role's user, not before it has a key
//	    → crash: the next round finds it
func (c *comparer) advance(ctx context.Context, at *comparison) (err error) {
	if c.statics, err = allStaticRoles(ctx, c.storage); err != nil {
		return err
	}
	if err := c.ledger.Load(ctx, c.storage, c.name); err != nil {
		return err
	}
	var problems []error
	if at.Judged.IsZero() {
		if problems = c.each(ctx, at, c.look); len(at.Left) > 0 {
			return errors.Join(problems...)
		}
		c.decide(at)
	}
	if !at.waits() {
		problems = append(problems, c.each(ctx, at, c.act)...)
	}
	return errors.Join(problems...)
}

// decide says what of the findings is acted on.
func (c *comparer) decide(at *comparison) {
	at.Judged, at.Tries = time.Now(), nil
	records := len(c.ledger.Select(c.name, func(*ledger.Item) bool { return true }))
	switch changes := len(at.Gone) + at.Orphans; {
	case changes > max(maxChanges, records/10, c.confirm):
		at.Found.Rotate, at.Found.Delete = len(at.Gone), at.Orphans
		c.Logger().Warn(at.Found.withheld(c.name))
		c.note(func(r *tidyReport) { r.Withheld.add(at.Found.withheld(c.name)) })
	case !c.dryRun:
		at.Left = at.Users
	}
}

// look is step (1) for one identity. It notes nothing before all of it is known: it may begin anew.
func (c *comparer) look(ctx context.Context, a *account, at *comparison, user string) error {
	if user == usersIdentity {
		orphans, err := c.findOrphanUsers(ctx, c.storage, a)
		for _, orphan := range orphans {
			c.note(func(r *tidyReport) { r.Found.add("user " + orphan.Name) })
		}
		at.plan(user, len(orphans), nil)
		return err
	}
	keys, orphans, err := c.findOrphans(ctx, c.storage, a, user)
	if err != nil {
		return err
	}
	gone, off, problem := c.lookAtStatic(ctx, a, user, keys)
	problem = errors.Join(problem, c.setRight(ctx, a, keys))
	free, kept, err := c.deletable(ctx, a, at, user, keys, orphans)
	problem = errors.Join(problem, err)
	if isCutShort(ctx, problem) {
		return problem
	}
	at.plan(user, len(free), gone)
	for _, line := range off {
		at.Found.Off.add(line)
	}
	c.note(func(r *tidyReport) {
		r.Keys += len(keys)
		for _, orphan := range orphans {
			r.Found.add(orphan.ID)
		}
		for _, line := range off {
			r.Off.add(line)
		}
		for _, line := range kept {
			r.Waiting.add(line)
		}
	})
	return problem
}

// plan takes over what is to be done for an identity.
func (at *comparison) plan(user string, orphans int, gone map[string]string) {
	if orphans+len(gone) == 0 {
		return
	}
	at.Users = append(at.Users, user)
	at.Orphans += orphans
	if at.Gone == nil {
		at.Gone = map[string]string{}
	}
	maps.Copy(at.Gone, gone)
}

// act is steps (3) and (4) for one identity. It deletes no more than was judged.
func (c *comparer) act(ctx context.Context, a *account, at *comparison, user string) error {
	if user == usersIdentity {
		return c.removeUsers(ctx, a, at)
	}
	names, err := c.ownRolesOf(ctx, a, user)
	problems := []error{err}
	replaced := false
	for _, name := range names {
		if at.Gone[name] != "" {
			replaced = true
			problems = append(problems, c.replaceGone(ctx, a, name, at.Gone[name]))
		}
	}
	if ctx.Err() != nil || at.Orphans == 0 && !replaced { // else the time of what may be in use begins now
		return errors.Join(append(problems, ctx.Err())...) // cut short, it is not done
	}
	keys, orphans, err := c.findOrphans(ctx, c.storage, a, user)
	if err == nil {
		orphans, _, err = c.deletable(ctx, a, at, user, keys, orphans)
	}
	problems = append(problems, err)
	for _, orphan := range orphans {
		if at.Orphans == 0 || ctx.Err() != nil {
			break
		}
		problems = append(problems, c.removed(at, orphan.ID, c.removeOrphan(ctx, c.storage, a, orphan)))
	}
	return errors.Join(problems...)
}

// removed counts an orphan that is gone, and tells of it; err: it is not.
func (c *comparer) removed(at *comparison, what string, err error) error {
	if err == nil {
		at.Orphans--
		c.note(func(r *tidyReport) { r.Removed.add(what) })
	}
	return err
}

func (c *comparer) removeUsers(ctx context.Context, a *account, at *comparison) error {
	orphans, err := c.findOrphanUsers(ctx, c.storage, a)
	problems := []error{err}
	for _, orphan := range orphans {
		if at.Orphans == 0 || ctx.Err() != nil {
			break
		}
		problems = append(problems, c.removed(at, "user "+orphan.Name, c.removeOrphanUser(ctx, a, orphan)))
	}
	return errors.Join(problems...)
}
