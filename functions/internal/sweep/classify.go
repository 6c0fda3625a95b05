// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// rules decide on keys. They are fixed when an account's plan begins, so that a decision
// made again before a key is changed differs only if the key does.
type rules struct {
	settings  settings.Sweep
	account   fleet.Account
	engines   []string // access keys that Vault signs with, on all accounts of the run
	own       string   // the access key that signs
	root      bool     // whether the signing identity is the account itself
	expires   bool     // whether the cloud ends keys at their date
	bounded   bool     // whether the account's policy demands dates
	hasLedger bool
	hasStore  bool
	inactive  map[string]time.Time // since when their quarantine runs, by our own record
	refused   map[string]Refusal   // deletes, by our own record
	notified  map[string]time.Time // owners, by our own record
	drifted   map[string]int       // nights in a row, by our own record
	now       time.Time
}

// decision is what is to be done with a key, and why.
type decision struct {
	class  Class
	reason string
	action Action
}

func (r rules) decide(key provider.Key, entry *fleet.LedgerKey) decision {
	class, reason := r.classify(key, entry)
	action, more := r.act(key, class)
	if (action == ActionDelete || action == ActionRemove) && !key.Active && r.refused[key.ID].Times >= mostRefusals {
		return decision{ClassUndeletable, reason + ": the cloud has refused its delete three times", ActionKeep}
	}
	if more != "" {
		reason += ": " + more
	}
	return decision{class, reason, action}
}

// classify returns the first class that fits. A key is judged by its date and never by its
// state: OUTSCALE lists keys as ACTIVE years after their date.
func (r rules) classify(key provider.Key, entry *fleet.LedgerKey) (Class, string) {
	if class, reason := r.protected(key); class != "" {
		return class, reason
	}
	if entry != nil {
		return r.recorded(key, *entry)
	}
	label, err := keylabel.Parse(key.Label)
	switch {
	case err != nil:
		return r.foreign(key)
	case r.account.Instance == "" || label.Instance != r.account.Instance:
		return r.otherEngine(key, label.Instance)
	case label.Kind == keylabel.KindRoot && r.now.Sub(key.Created) < newEngineKey:
		return ClassYoung, "labelled as the engine's own key, and younger than a day: the engine may be about to take it"
	default:
		return r.ours(key)
	}
}

// protected finds what keeps a key whatever else is known of it.
func (r rules) protected(key provider.Key) (Class, string) {
	user := r.name(key.User)
	switch {
	case key.ID == r.own:
		return ClassOwn, "signs the calls of this run"
	case slices.Contains(r.account.EngineKeys, key.ID), slices.Contains(r.engines, key.ID):
		return ClassEngine, "signs Vault's calls"
	case matches(r.settings.KeepKeys, key.ID):
		return ClassListed, "its id is in KEEP_KEYS"
	case matches(r.settings.KeepUsers, user):
		return ClassListed, "its user is in KEEP_USERS"
	}
	if until, reason := r.exempt(key); reason != "" && r.now.Before(until) {
		return ClassExempt, reason
	}
	switch {
	case key.Created.IsZero():
		return ClassYoung, "the cloud does not tell its age"
	case r.now.Sub(key.Created) < r.settings.MinAge:
		return ClassYoung, "younger than MIN_AGE"
	default:
		return "", ""
	}
}

// name is what a user is called in settings and reports.
func (r rules) name(user string) string {
	if user == "" && r.root {
		return "root"
	}
	return user
}

// matches believes in patterns that were checked when they were read.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok || err != nil
	})
}

const keepUntil = "vault-keep-until="

const (
	// unreadExemption is how long an exemption holds whose date cannot be read.
	unreadExemption = 7 * 24 * time.Hour

	// newEngineKey is how long a key that is labelled as the engine's own is left alone though
	// nobody knows it: a rotation may be under way, or Vault down in the middle of one.
	newEngineKey = 24 * time.Hour

	// mostRefusals is how often the delete of a key is tried, a run each.
	mostRefusals = 3
)

// exempt reads the end of an exemption from a key's tag. Whoever may write the tag may write any
// date, so that none holds for longer than MAX_EXEMPTION from the key's creation or last
// change on, and one whose date cannot be read for a week: somebody meant to keep the key.
func (r rules) exempt(key provider.Key) (until time.Time, reason string) {
	_, rest, found := strings.Cut(key.Label, keepUntil)
	since := key.Created
	_, byUs := r.inactive[key.ID] // switched off by an earlier run: that is no change of its owner's
	if key.Changed.After(since) && (key.Active || !byUs) {
		since = key.Changed
	}
	if !found || since.IsZero() {
		return time.Time{}, ""
	}
	date, _, _ := strings.Cut(rest, " ")
	until, err := time.Parse(time.RFC3339, date)
	if err != nil {
		until, err = time.Parse(time.DateOnly, date)
		until = until.AddDate(0, 0, 1) // the end of that day
	}
	if err != nil {
		until = since.Add(unreadExemption)
		return until, fmt.Sprintf("its tag says: keep, until a date that cannot be read (give 2006-01-02): it is kept until %s", day(until))
	}
	if longest := since.Add(r.settings.MaxExemption); until.After(longest) {
		return longest, fmt.Sprintf("its tag says: keep until %s, and MAX_EXEMPTION (%d days) "+
			"until %s", date, days(r.settings.MaxExemption), day(longest))
	}
	return until, "its tag says: keep until " + date
}

// otherEngine classifies what the label of another engine stands on. That may be forged: what
// such an engine would have removed, or replaced long ago, is listed.
func (r rules) otherEngine(key provider.Key, instance string) (Class, string) {
	switch {
	case r.past(key):
		return ClassOther, fmt.Sprintf("labelled by the secrets engine %s, and expired since %s: see whether that engine "+
			"exists", instance, day(key.End()))
	case r.old(key):
		return ClassOther, fmt.Sprintf("labelled by the secrets engine %s, and older than MAX_AGE: see whether that engine exists", instance)
	default:
		return ClassOther, "made by the secrets engine " + instance
	}
}

// recorded classifies what Vault's ledger knows. Vault removes its own keys; one that it
// did not is said, and left to it.
func (r rules) recorded(key provider.Key, entry fleet.LedgerKey) (Class, string) {
	switch keylabel.Kind(entry.Kind) {
	case keylabel.KindRoot:
		return ClassEngine, "Vault's own key, by its ledger"
	case keylabel.KindStatic:
		return ClassStatic, fmt.Sprintf("of the static role %q", entry.Role)
	default:
		if r.past(key) {
			return ClassOverdue, fmt.Sprintf("leased by the role %q until %s, and Vault has not removed it: see its "+
				"tidy-status", entry.Role, day(key.End()))
		}
		return ClassLeased, fmt.Sprintf("leased by the role %q", entry.Role)
	}
}

// ours classifies a key of this engine that its ledger does not know.
func (r rules) ours(key provider.Key) (Class, string) {
	switch {
	case r.past(key):
		return ClassExpired, "created by the secrets engine, expired since " + day(key.End())
	case !r.hasLedger:
		return ClassUnverified, "made by the secrets engine, and there is no Vault to ask for its lease"
	default:
		return ClassOrphan, "made by the secrets engine, and its ledger has no such key"
	}
}

func (r rules) foreign(key provider.Key) (Class, string) {
	age := r.now.Sub(key.Created)
	switch {
	case r.past(key):
		return ClassExpired, "expired since " + day(key.End())
	case r.settings.MaxAge > 0 && age > r.settings.MaxAge:
		return ClassOverAge, fmt.Sprintf("%d days old, and MAX_AGE is %d", days(age), days(r.settings.MaxAge))
	case r.bounded && key.End().IsZero():
		return ClassNoExpiration, "never expires, although the account's access policy demands an expiration date"
	default:
		return ClassForeign, "not made by the secrets engine"
	}
}

// past leaves GRACE to the engine, and to clocks that differ.
func (r rules) past(key provider.Key) bool {
	end := key.End()
	return !end.IsZero() && !r.now.Before(end.Add(r.settings.Grace))
}

// act chooses the action for a class, and says more where the reason needs it.
func (r rules) act(key provider.Key, class Class) (Action, string) {
	ours := !isForeign(key)
	switch class {
	case ClassOrphan:
		return r.stage(key)
	case ClassExpired, ClassOverAge:
		if !ours && r.settings.Foreign != settings.Enforce {
			return ActionFlag, ""
		}
		if r.expires && class == ClassExpired {
			return ActionRemove, "" // it cannot sign: nobody would miss it in a quarantine
		}
		return r.stage(key)
	case ClassNoExpiration, ClassOverdue, ClassExempt:
		return ActionFlag, ""
	case ClassOther:
		if r.past(key) || r.old(key) {
			return ActionFlag, ""
		}
		return ActionKeep, ""
	default:
		return ActionKeep, ""
	}
}

// old tells of a key that is older than anybody's should be.
func (r rules) old(key provider.Key) bool {
	return r.settings.MaxAge > 0 && r.now.Sub(key.Created) > r.settings.MaxAge
}

func isForeign(key provider.Key) bool {
	_, err := keylabel.Parse(key.Label)
	return err != nil
}

// stage finds how far a key is on its way out. Its quarantine runs from when it was first switched off,
// as we have recorded, or where nothing is recorded as the cloud's date of its last change says:
// whoever may change the key would put its end off for ever by touching it, or by switching it on
// again each morning. Huawei has no such date; there our own record, kept in the Store, is all.
func (r rules) stage(key provider.Key) (Action, string) {
	since := r.inactive[key.ID]
	recorded := !since.IsZero()
	if !recorded && !key.Active {
		since = key.Changed
	}
	over := since.Add(r.settings.Quarantine)
	switch {
	case r.settings.Quarantine == 0 && !key.Active:
		return ActionRemove, ""
	case r.settings.Quarantine == 0:
		return r.afterNotice(key, ActionRemove)
	case key.Active && recorded && !r.now.Before(over):
		action, why := r.afterNotice(key, ActionRemove)
		return action, cmp.Or(why, "switched on again, and its quarantine is over since "+day(over))
	case key.Active && recorded:
		action, why := r.afterNotice(key, ActionDeactivate)
		return action, cmp.Or(why, "switched on again: its quarantine goes on until "+over.UTC().Format(time.RFC3339))
	case key.Active:
		return r.afterNotice(key, ActionDeactivate)
	case since.IsZero() && !r.hasStore:
		return ActionWait, "switched off, but this cloud does not tell since when, and no store was given to remember it"
	case since.IsZero():
		return ActionWait, "switched off, its quarantine begins now"
	case r.now.Before(over):
		return ActionWait, "switched off, in quarantine until " + over.UTC().Format(time.RFC3339)
	default:
		return ActionDelete, "switched off since " + day(since)
	}
}

// afterNotice puts off what ends a key that works until its owner has been told, and has had time.
func (r rules) afterNotice(key provider.Key, action Action) (Action, string) {
	at, ok := r.notified[key.ID]
	switch from := at.Add(r.settings.Notice); {
	case r.settings.Notify == "":
		return action, ""
	case !ok:
		return ActionNotify, "its owner is told first"
	case r.now.Before(from):
		return ActionWait, fmt.Sprintf("its owner was told on %s, and it is switched off from %s on", day(at), from.UTC().Format(time.RFC3339))
	default:
		return action, ""
	}
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func days(d time.Duration) int { return int(d / (24 * time.Hour)) }

// finding puts a key and the decision on it together.
func (r rules) finding(key provider.Key, d decision) Finding {
	return Finding{
		Account: r.account.Name, AccessKey: key.ID, User: key.User, Label: key.Label, Active: key.Active, Trusted: key.Trusted,
		Created: key.Created, Changed: key.Changed, Expires: key.Expires, Due: key.Due,
		Class: d.class, Reason: d.reason, Action: d.action,
	}
}
