// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package policysync

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	// shownBlockers is how many blockers a result names; the others are counted.
	shownBlockers = 100
	// stateLife is how long what a run saw of an account is worth going on with.
	stateLife = 24 * time.Hour
)

// Blocker is a key that keeps the policy from being tightened.
type Blocker struct {
	AccessKey string // whole: reports mask it
	User      string // empty: the identity whose key signs the calls
	Ours      bool
	Active    bool
	Expires   time.Time // zero: never
	Reason    string
	Advice    string
}

// State is what was seen of an account for which time ran out. What has changed since among the
// users that it covers the cloud itself knows when the policy is set. It marshals to JSON.
type State struct {
	Cursor       string        `json:"cursor"` // the user after which the next run goes on
	Began        time.Time     `json:"began"`
	Wanted       time.Duration `json:"wanted"`
	NoExpiration int           `json:"no_expiration"`
	Latest       time.Time     `json:"latest"` // at which the longest-lived key ends
	Blockers     int           `json:"blockers"`
	Shown        []Blocker     `json:"shown"`
	Shortened    int           `json:"shortened"` // keys brought forward, or that would be
	Lives        Lives         `json:"lives"`
	OfUser       bool          `json:"of_user,omitempty"` // the key that signs the calls is one of a user
}

// search goes over all keys of an account: those of the signing identity and of every
// user, switched off ones too, since the policy's text says "all your access keys".
type search struct {
	job     Job
	account fleet.Account
	cloud   fleet.Cloud
	who     provider.Whoami
	wanted  time.Duration
	now     time.Time
	walk    fleet.Walk

	state    State
	problems []error
}

func (s *search) run(ctx context.Context, share fleet.Share) (err error) {
	if !share.Change.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, share.Change)
		defer cancel()
	}
	if s.job.Store != nil {
		if s.state, err = s.job.Store.Load(ctx, s.account.Name); err != nil {
			return fmt.Errorf("loading what earlier runs left: %w", err)
		}
	}
	resumed := s.state.Cursor != ""
	if s.state.Cursor == "" || s.state.Wanted != s.wanted || s.now.Sub(s.state.Began) > stateLife {
		s.state = State{Began: s.now, Wanted: s.wanted}
	}
	s.walk = fleet.Walk{
		Cloud: s.cloud, Account: s.account.Name, Workers: s.job.Settings.Workers, Until: share.Plan,
		Start: s.state.Cursor, Reached: s.state.Cursor,
	}
	if s.job.Settings.Shorten {
		s.walk.Ledger = s.job.Ledger
	}
	held, err := s.walk.Own(ctx, s.who.Identity)
	if err != nil {
		return err
	}
	root := s.who.Identity.Kind == provider.IdentityRoot
	own := func() error {
		l := s.walk.LookUp(ctx, "", held, s.concernsLedger)
		s.user(ctx, l)
		return l.Err
	}
	if root && s.walk.Start == "" {
		if err := own(); err != nil {
			return err
		}
	}
	err = s.walk.Users(ctx, s.concernsLedger, func(looks []fleet.Look) error {
		if s.walk.Start != s.state.Cursor { // its user is gone: all are looked at again
			s.state = State{Began: s.now, Wanted: s.wanted}
		}
		for _, l := range looks {
			if l.Err != nil {
				return l.Err
			}
			held = slices.DeleteFunc(held, func(own provider.Key) bool {
				return slices.ContainsFunc(l.Keys, func(key provider.Key) bool { return key.ID == own.ID })
			})
			s.user(ctx, l)
		}
		return nil
	})
	if err == nil && !s.walk.Partial && (!root || resumed && s.walk.Start == "") {
		err = own()
	}
	return s.save(ctx, resumed, err)
}

// save keeps what was seen where time ran out, and forgets it where it did not.
func (s *search) save(ctx context.Context, resumed bool, err error) error {
	if err != nil || s.job.Store == nil || !s.walk.Partial && !resumed {
		return err
	}
	state := State{}
	if s.walk.Partial {
		state = s.state
		state.Cursor = s.walk.Reached
	}
	if err := s.job.Store.Save(context.WithoutCancel(ctx), s.account.Name, state); err != nil {
		return fmt.Errorf("saving what the next run needs: %w", err)
	}
	return nil
}

// user looks at one user's keys, after they were listed.
func (s *search) user(ctx context.Context, l fleet.Look) {
	for _, key := range l.Keys {
		s.state.OfUser = s.state.OfUser || l.User != "" && key.ID == s.who.Key.ID
		s.state.Lives.add(key.Expires, s.now, s.blocks(key))
		if s.blocks(key) {
			s.blocker(ctx, key, l.Known)
		} else {
			s.lives(key.Expires)
		}
	}
}

func (s *search) lives(until time.Time) {
	if until.After(s.state.Latest) {
		s.state.Latest = until
	}
}

// remains is what the keys leave of the choice.
func (s *search) remains() remains {
	return remains{noExpiration: s.state.NoExpiration, longest: max(0, s.state.Latest.Sub(s.now))}
}

// blocks tells a key that a policy of the wanted life would not admit: the policy must be
// greater than each key's remaining life (UpdateApiAccessPolicy).
func (s *search) blocks(key provider.Key) bool {
	return key.Expires.IsZero() || key.Expires.Sub(s.now) >= s.wanted
}

// concernsLedger tells a key that might be brought forward, never below what the ledger promises.
func (s *search) concernsLedger(key provider.Key) bool { return s.blocks(key) && s.ours(key) }

func (s *search) ours(key provider.Key) bool {
	label, err := keylabel.Parse(key.Label)
	return err == nil && s.account.Instance != "" && label.Instance == s.account.Instance
}

// blocker brings a blocking key forward where that is asked for and possible, and else
// says why it blocks.
func (s *search) blocker(ctx context.Context, key provider.Key, promised map[string]fleet.LedgerKey) {
	if date := s.forward(key, promised); !date.IsZero() {
		err := s.move(ctx, key, date)
		if err == nil {
			s.state.Shortened++
			key.Expires = date
			if !s.blocks(key) {
				s.lives(date)
				return
			}
		} else {
			s.problems = append(s.problems, fmt.Errorf("bringing the expiration date of access key %s forward: %w", fleet.Mask(key.ID), err))
		}
	}
	s.state.Blockers++
	if key.Expires.IsZero() {
		s.state.NoExpiration++
	} else {
		s.lives(key.Expires)
	}
	if len(s.state.Shown) < shownBlockers {
		s.state.Shown = append(s.state.Shown, s.describe(key))
	}
}

// forward is the date that a key may be brought forward to; zero: it must stay. The
// engine's own key must: the engine dates it when it replaces it.
func (s *search) forward(key provider.Key, promised map[string]fleet.LedgerKey) time.Time {
	label, err := keylabel.Parse(key.Label)
	if !s.job.Settings.Shorten || s.job.Ledger == nil || err != nil || !s.ours(key) || label.Kind == keylabel.KindRoot {
		return time.Time{}
	}
	entry, recorded := promised[key.ID]
	if recorded && (entry.Expires.IsZero() || keylabel.Kind(entry.Kind) == keylabel.KindRoot) {
		return time.Time{}
	}
	return shortened(s.now, key.Expires, entry.Expires, s.wanted)
}

func (s *search) move(ctx context.Context, key provider.Key, date time.Time) error {
	if s.job.Settings.Mode != settings.Enforce {
		return nil
	}
	ref := key.Ref(s.who.AccountID)
	ref.Expires = date
	return s.cloud.MoveExpiry(ctx, ref)
}

// describe says why a key blocks and what can be done about it.
func (s *search) describe(key provider.Key) Blocker {
	b := Blocker{AccessKey: key.ID, User: key.User, Ours: s.ours(key), Active: key.Active, Expires: key.Expires}
	b.Reason = "it never expires"
	if !key.Expires.IsZero() {
		b.Reason = fmt.Sprintf("it lives until %s, longer than the wanted %s", key.Expires.UTC().Format(time.RFC3339), short(s.wanted))
	}
	label, err := keylabel.Parse(key.Label)
	switch {
	case key.ID == s.who.Key.ID:
		b.Advice = "it signs this run's calls: give it an expiration date, or let the run take its key from Vault"
	case slices.Contains(s.account.EngineKeys, key.ID) || err == nil && label.Kind == keylabel.KindRoot:
		b.Advice = "it is Vault's own: set the account's rotation_period and write rotate-root"
	case b.Ours:
		b.Advice = "Vault made it: it ends with its lease, or sooner with SHORTEN_KEYS"
	case err == nil:
		b.Advice = "another secrets engine made it: see there"
	default:
		b.Advice = "ask its owner to give it an earlier expiration date, or to delete it"
	}
	return b
}
