// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"encoding/json"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Finding is one key with what was decided and done. It holds the key's whole id, which
// reports and logs do not show: see fleet.Mask.
type Finding struct {
	Account   string    `json:"account"`
	AccessKey string    `json:"access_key"`
	User      string    `json:"user,omitempty"` // empty: the identity whose key signs the calls
	Label     string    `json:"label,omitempty"`
	Active    bool      `json:"active"`
	Trusted   bool      `json:"trusted,omitempty"` // made in a trusted session, where the cloud tells
	Created   time.Time `json:"created,omitzero"`
	Changed   time.Time `json:"changed,omitzero"`
	Expires   time.Time `json:"expires,omitzero"` // at which the cloud ends it
	Due       time.Time `json:"due,omitzero"`     // at which it should be removed, where the cloud ends none
	Used      time.Time `json:"used,omitzero"`    // last, where the cloud tells and was asked
	Class     Class     `json:"class"`
	Reason    string    `json:"reason"`
	Action    Action    `json:"action"`
	Outcome   Outcome   `json:"outcome,omitempty"`
	Detail    string    `json:"detail,omitempty"`
}

// Key is the key as it was listed.
func (f Finding) Key() provider.Key {
	return provider.Key{
		ID: f.AccessKey, User: f.User, Label: f.Label, Active: f.Active, Trusted: f.Trusted,
		Created: f.Created, Changed: f.Changed, Expires: f.Expires, Due: f.Due,
	}
}

// Class says what a key is to the sweep.
type Class string

// The classes, in the order in which they are tried: the first that fits decides.
const (
	ClassOwn          Class = "own key"            // signs the sweep's calls
	ClassEngine       Class = "engine key"         // signs Vault's calls
	ClassListed       Class = "allow-listed"       // KEEP_USERS, KEEP_KEYS
	ClassExempt       Class = "exempt"             // by its tag, until a date
	ClassYoung        Class = "young"              // below MIN_AGE
	ClassLeased       Class = "leased"             // in Vault's ledger
	ClassStatic       Class = "static"             // in Vault's ledger, of a static role
	ClassOverdue      Class = "overdue"            // in Vault's ledger, expired: Vault should have removed it
	ClassExpired      Class = "expired"            // expired
	ClassOrphan       Class = "orphan"             // the engine's, and the ledger does not know it
	ClassUnverified   Class = "unverified"         // the engine's, and there is no ledger to ask
	ClassOther        Class = "other engine"       // has the label of another engine
	ClassOverAge      Class = "over-age"           // older than MAX_AGE
	ClassNoExpiration Class = "no expiration date" // without date, though the account's policy demands one
	ClassForeign      Class = "foreign"            // nothing is wrong with it
	ClassUsed         Class = "recently used"      // would be changed, and was used within USED_WITHIN
	ClassUndeletable  Class = "undeletable"        // would be deleted, and the cloud has refused that three times
	ClassUnclear      Class = "unclear"            // of the sweep's own identity, whose name is not known yet
)

// Classes returns every class in the order of a report.
func Classes() []Class {
	return []Class{
		ClassOrphan, ClassExpired, ClassOverAge, ClassNoExpiration, ClassOverdue, ClassLeased, ClassStatic, ClassOwn, ClassEngine,
		ClassListed, ClassExempt, ClassYoung, ClassUsed, ClassUndeletable, ClassUnverified, ClassOther, ClassUnclear, ClassForeign,
	}
}

// Action is what the plan wants done with a key.
type Action string

// The actions. The last four do something.
const (
	ActionKeep       Action = "keep"
	ActionFlag       Action = "flag"       // only said
	ActionWait       Action = "wait"       // switched off; its quarantine is not over
	ActionDeactivate Action = "deactivate" // switched off, its date resent
	ActionNotify     Action = "notify"     // its owner is told that it will be switched off
	ActionDelete     Action = "delete"     // its quarantine is over
	ActionRemove     Action = "remove"     // both: the cloud itself has ended it, or there is no quarantine
)

// Changes tells whether an action changes something in the cloud.
func (a Action) Changes() bool {
	return a == ActionNotify || a == ActionDeactivate || a == ActionDelete || a == ActionRemove
}

// Outcome is what became of an action.
type Outcome string

// The outcomes.
const (
	OutcomePlanned       Outcome = "planned"  // the mode is report
	OutcomeRefused       Outcome = "refused"  // a cap stopped the whole plan
	OutcomeLeftOut       Outcome = "left out" // one user has too many: a later run does it
	OutcomeNotified      Outcome = "notified"
	OutcomeNotNotified   Outcome = "not notified" // the message failed, and the key is kept
	OutcomeDeactivated   Outcome = "deactivated"
	OutcomeDeleted       Outcome = "deleted"
	OutcomeGone          Outcome = "gone"           // its user has it no more: somebody was faster, or has renamed the user
	OutcomeDrifted       Outcome = "drifted"        // it has changed since the plan, and was left alone
	OutcomeDeleteRefused Outcome = "delete refused" // it stays switched off, and is tried again
	OutcomeUndeletable   Outcome = "undeletable"    // refused for the third time; it stays switched off and is not tried again
	OutcomeFailed        Outcome = "failed"
	OutcomeNotReached    Outcome = "not reached" // time ran out, or the account was given up
)

// Counts are the numbers of a run.
type Counts struct {
	Seen        int `json:"seen"`      // keys
	Protected   int `json:"protected"` // kept, with a reason
	Flagged     int `json:"flagged"`   // only said
	Waiting     int `json:"waiting"`   // in quarantine
	Planned     int `json:"planned"`   // to be changed
	LeftOut     int `json:"left_out"`  // to be changed by a later run: one user has too many
	Notified    int `json:"notified"`
	NotNotified int `json:"not_notified"` // the message failed
	Deactivated int `json:"deactivated"`
	Deleted     int `json:"deleted"`
	Gone        int `json:"gone"`
	Drifted     int `json:"drifted"`
	Undeletable int `json:"undeletable"`
	Failed      int `json:"failed"`
	NotReached  int `json:"not_reached"`
	UnreadUsers int `json:"unread_users"` // whose keys could not be read

	ByClass map[Class]int `json:"by_class"`
	ByAge   AgeCounts     `json:"by_age"`
}

// AgeCounts are the keys of each age group, as Ages names them.
type AgeCounts [8]int

// MarshalJSON names the groups.
func (c AgeCounts) MarshalJSON() ([]byte, error) {
	named := map[string]int{}
	for i, name := range Ages() {
		named[name] = c[i]
	}
	return json.Marshal(named)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (c *AgeCounts) UnmarshalJSON(text []byte) error {
	var named map[string]int
	if err := json.Unmarshal(text, &named); err != nil {
		return err
	}
	for i, name := range Ages() {
		c[i] = named[name]
	}
	return nil
}

func newCounts() Counts { return Counts{ByClass: map[Class]int{}} }

// plan counts a finding as it was decided.
func (c *Counts) plan(f Finding, now time.Time) {
	c.Seen++
	c.ByAge[AgeGroup(f.Created, now)]++
	c.ByClass[f.Class]++
	switch f.Action {
	case ActionKeep:
		c.Protected++
	case ActionFlag:
		c.Flagged++
	case ActionWait:
		c.Waiting++
	default:
		c.Planned++
	}
}

// done counts what became of one.
func (c *Counts) done(outcome Outcome) {
	n, ok := map[Outcome]*int{
		OutcomeNotified: &c.Notified, OutcomeNotNotified: &c.NotNotified, OutcomeDeactivated: &c.Deactivated,
		OutcomeDeleted: &c.Deleted, OutcomeGone: &c.Gone, OutcomeDrifted: &c.Drifted,
		OutcomeUndeletable: &c.Undeletable, OutcomeFailed: &c.Failed, OutcomeNotReached: &c.NotReached,
	}[outcome]
	if ok { // planned and refused change nothing
		*n++
	}
}

func (c *Counts) numbers() []*int {
	return []*int{
		&c.Seen, &c.Protected, &c.Flagged, &c.Waiting, &c.Planned, &c.LeftOut, &c.Notified, &c.NotNotified,
		&c.Deactivated, &c.Deleted, &c.Gone, &c.Drifted, &c.Undeletable,
		&c.Failed, &c.NotReached, &c.UnreadUsers,
	}
}

func (c *Counts) add(other Counts) {
	for i, n := range other.numbers() {
		*c.numbers()[i] += *n
	}
	for i, n := range other.ByAge {
		c.ByAge[i] += n
	}
	for class, n := range other.ByClass {
		c.ByClass[class] += n
	}
}

// listedAs tells whether a key is still listed as it was when it was planned.
func (f Finding) listedAs(key provider.Key) bool {
	return f.AccessKey == key.ID && f.Label == key.Label && f.Active == key.Active && f.Created.Equal(key.Created) &&
		f.Changed.Equal(key.Changed) && f.Expires.Equal(key.Expires) && f.Due.Equal(key.Due)
}

// switchedOff tells whether a key is as it was planned, but switched off, with the date that
// it gets by that where it had none. A date is resent in whole seconds.
func (f Finding) switchedOff(key provider.Key) bool {
	return f.Active && !key.Active && f.AccessKey == key.ID && f.Label == key.Label && f.Created.Equal(key.Created) &&
		(f.Expires.IsZero() || f.Expires.Sub(key.Expires).Abs() < time.Second) && f.Due.Equal(key.Due)
}

// begun tells whether a key that had ended is as it was planned, but for what an attempt to remove it has left that was cut off: to be
// switched off it gets a date just ahead. Nobody who wants to keep a key gives it such a one.
func (f Finding) begun(key provider.Key, now time.Time) bool {
	return f.Action == ActionRemove && f.Active && !key.Active && f.AccessKey == key.ID && f.Label == key.Label &&
		f.Created.Equal(key.Created) && !f.Expires.IsZero() && key.Expires.After(f.Expires) && key.Expires.Before(now.Add(time.Minute))
}

// Ages are the names of the age groups that keys are counted in, the youngest first. The
// last is for keys whose age the cloud does not tell.
func Ages() [8]string {
	return [8]string{"under 1 day", "1–7 days", "7–30 days", "30–90 days", "90–180 days", "180–365 days", "over 1 year", "unknown"}
}

// AgeGroup is the index in Ages of a key made at that time.
func AgeGroup(created, now time.Time) int {
	if created.IsZero() {
		return 7
	}
	const day = 24 * time.Hour
	age := now.Sub(created)
	for i, limit := range []time.Duration{day, 7 * day, 30 * day, 90 * day, 180 * day, 365 * day} {
		if age < limit {
			return i
		}
	}
	return 6
}
