// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Finding is one key with what was decided and done. It holds the key's whole id, which
// reports and logs do not show: see Mask.
type Finding struct {
	Account   string    `json:"account"`
	AccessKey string    `json:"access_key"`
	User      string    `json:"user,omitempty"` // empty: the identity whose key signs the calls
	Label     string    `json:"label,omitempty"`
	Active    bool      `json:"active"`
	Created   time.Time `json:"created,omitzero"`
	Changed   time.Time `json:"changed,omitzero"`
	Expires   time.Time `json:"expires,omitzero"` // at which the cloud ends it
	Due       time.Time `json:"due,omitzero"`     // at which it should be removed, where the cloud ends none
	Class     Class     `json:"class"`
	Reason    string    `json:"reason"`
	Action    Action    `json:"action"`
	Outcome   Outcome   `json:"outcome,omitempty"`
	Detail    string    `json:"detail,omitempty"`
}

// Key is the key as it was listed.
func (f Finding) Key() provider.Key {
	return provider.Key{
		ID: f.AccessKey, User: f.User, Label: f.Label, Active: f.Active,
		Created: f.Created, Changed: f.Changed, Expires: f.Expires, Due: f.Due,
	}
}

// Class says what a key is to the sweep.
type Class string

// The classes, in the order in which they are tried: the first that fits decides.
const (
	ClassOwn        Class = "own key"       // signs the sweep's calls
	ClassEngine     Class = "engine key"    // signs Vault's calls
	ClassListed     Class = "allow-listed"  // KEEP_USERS, KEEP_KEYS
	ClassExempt     Class = "exempt"        // by its tag, until a date
	ClassYoung      Class = "young"         // below MIN_AGE
	ClassLeased     Class = "leased"        // in Vault's ledger
	ClassStatic     Class = "static"        // in Vault's ledger, of a static role
	ClassOverdue    Class = "overdue"       // in Vault's ledger, past its date: Vault should have removed it
	ClassExpired    Class = "expired"       // past its date
	ClassOrphan     Class = "orphan"        // the engine's, and the ledger does not know it
	ClassUnverified Class = "unverified"    // the engine's, and there is no ledger to ask
	ClassOther      Class = "other engine"  // has the label of another engine
	ClassOverAge    Class = "over-age"      // older than MAX_AGE
	ClassUndated    Class = "undated"       // without date, though the account's policy demands one
	ClassForeign    Class = "foreign"       // nothing is wrong with it
	ClassUsed       Class = "recently used" // would be changed, and was used within USED_WITHIN
	ClassUnclear    Class = "unclear"       // of the sweep's own identity, whose name is not known yet
)

// Classes returns every class in the order of a report.
func Classes() []Class {
	return []Class{
		ClassOrphan, ClassExpired, ClassOverAge, ClassUndated, ClassOverdue, ClassLeased, ClassStatic, ClassOwn, ClassEngine,
		ClassListed, ClassExempt, ClassYoung, ClassUsed, ClassUnverified, ClassOther, ClassUnclear, ClassForeign,
	}
}

// Action is what the plan wants done with a key.
type Action string

// The actions. The last three change something.
const (
	ActionKeep       Action = "keep"
	ActionFlag       Action = "flag"       // only said
	ActionWait       Action = "wait"       // switched off; its quarantine is not over
	ActionDeactivate Action = "deactivate" // switched off, its date resent
	ActionDelete     Action = "delete"     // its quarantine is over
	ActionRemove     Action = "remove"     // both: the cloud itself has ended it, or there is no quarantine
)

// Changes tells whether an action changes something in the cloud.
func (a Action) Changes() bool {
	return a == ActionDeactivate || a == ActionDelete || a == ActionRemove
}

// Outcome is what became of an action.
type Outcome string

// The outcomes.
const (
	OutcomePlanned     Outcome = "planned" // the mode is report
	OutcomeRefused     Outcome = "refused" // a cap stopped the whole plan
	OutcomeDeactivated Outcome = "deactivated"
	OutcomeDeleted     Outcome = "deleted"
	OutcomeGone        Outcome = "gone"        // somebody else was faster
	OutcomeDrifted     Outcome = "drifted"     // it has changed since the plan, and was left alone
	OutcomeUndeletable Outcome = "undeletable" // the cloud refuses to delete it; it stays switched off
	OutcomeFailed      Outcome = "failed"
	OutcomeNotReached  Outcome = "not reached" // time ran out, or the account was given up
)

// Counts are the numbers of a run.
type Counts struct {
	Seen      int // keys
	Protected int // kept, with a reason
	Flagged   int // only said
	Waiting   int // in quarantine
	Planned   int // to be changed

	Deactivated, Deleted, Gone, Drifted, Undeletable, Failed, NotReached int

	ByClass map[Class]int
	ByAge   [8]int // as Ages names them
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
	switch outcome {
	case OutcomeDeactivated:
		c.Deactivated++
	case OutcomeDeleted:
		c.Deleted++
	case OutcomeGone:
		c.Gone++
	case OutcomeDrifted:
		c.Drifted++
	case OutcomeUndeletable:
		c.Undeletable++
	case OutcomeFailed:
		c.Failed++
	case OutcomeNotReached:
		c.NotReached++
	default: // planned and refused change nothing
	}
}

func (c *Counts) add(other Counts) {
	c.Seen += other.Seen
	c.Protected += other.Protected
	c.Flagged += other.Flagged
	c.Waiting += other.Waiting
	c.Planned += other.Planned
	c.Deactivated += other.Deactivated
	c.Deleted += other.Deleted
	c.Gone += other.Gone
	c.Drifted += other.Drifted
	c.Undeletable += other.Undeletable
	c.Failed += other.Failed
	c.NotReached += other.NotReached
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
