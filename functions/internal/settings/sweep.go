// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"fmt"
	"slices"
	"time"
)

// leastAge is longer than the engine takes to issue a key and to write it down, every
// retry and two rollback ticks included: a younger key may be on its way to a lease.
const leastAge = 5 * time.Minute

// Sweep are the settings of revoke-expired-keys.
type Sweep struct {
	Run
	MinAge           time.Duration
	Grace            time.Duration
	Quarantine       time.Duration
	MaxAge           time.Duration // 0: no key is too old
	UsedWithin       time.Duration // 0: nobody asks
	Foreign          string        // Report or Enforce
	KeepUsers        []string      // patterns
	KeepKeys         []string      // patterns
	MaxKeys          int
	MaxPercent       int
	UserMaxKeys      int           // 0: no bound
	Notify           string        // where owners are told; empty: nowhere
	Notice           time.Duration // between the message and the switching off
	MaxExemption     time.Duration // of a key from its creation or last change on
	AllowEmptyLedger bool

	// Of all accounts together, by a state machine or by the command.
	RunMaxKeys    int
	RunMaxPercent int
	Tolerated     int  // percent of the accounts that may be left without a plan
	Approval      bool // a person is asked before anything is changed
	Concurrency   int  // accounts at once
}

// The phases of a state machine's run over many accounts. An event without phase sweeps its accounts.
const (
	PhaseList   = "list"   // writes the accounts down
	PhasePlan   = "plan"   // plans one account, or a part of it
	PhaseDecide = "decide" // holds the plans of all accounts together against the caps
	PhaseApply  = "apply"  // applies one part of one account's plan
	PhaseClose  = "close"  // writes the run's page when its changes are over
)

// SweepEvent is what an event may say to revoke-expired-keys.
type SweepEvent struct {
	Mode     string            `json:"mode,omitempty"`
	Accounts []string          `json:"accounts,omitempty"`
	Resume   map[string]string `json:"resume,omitempty"` // cursors of an earlier result, by account

	Phase string   `json:"phase,omitempty"` // one of the Phase constants; empty: a sweep
	Part  int      `json:"part,omitempty"`  // of one account's plan, from 0
	Plans []string `json:"plans,omitempty"` // to be applied: the checksum of each part

	// Of a command's own, which no event can say.
	Approved bool   `json:"-"` // somebody has approved the plan that is applied
	ModeWhy  string `json:"-"` // why the event lowers the mode
}

// NeedsRecords tells whether a run must remember something for the next.
func (s Sweep) NeedsRecords() bool { return s.Mode == Enforce && s.Quarantine > 0 }

// ReadSweep reads the settings of revoke-expired-keys. Every error names its setting.
func ReadSweep(getenv func(string) string, event SweepEvent) (Sweep, error) {
	var s Sweep
	if err := fill(s.rows(), getenv); err != nil {
		return Sweep{}, err
	}
	if err := s.check(); err != nil {
		return Sweep{}, err
	}
	if err := s.choose(getenv, event.Mode, event.Accounts); err != nil {
		return Sweep{}, err
	}
	if event.ModeWhy != "" && s.Mode == Report {
		s.ModeWhy = event.ModeWhy
	}
	if s.Approval && s.Mode == Enforce && event.Phase == "" && !event.Approved {
		s.Mode, s.ModeWhy = Report, "APPROVAL is true: nothing is changed but by a run of the state machine that was approved, or by -apply"
	}
	return s, event.check()
}

// check refuses a phase that nobody knows, and one of a single account that names none.
func (e SweepEvent) check() error {
	for account := range e.Resume {
		if len(e.Accounts) > 0 && !slices.Contains(e.Accounts, account) {
			return fmt.Errorf("the event has a cursor of the account %q, which is none of its accounts", account)
		}
	}
	switch e.Phase {
	case "", PhaseList, PhaseDecide, PhaseClose:
		return nil
	case PhasePlan:
		if len(e.Accounts) != 1 || e.Part < 0 {
			return fmt.Errorf("the event's phase is %q: it needs one account, and a part of 0 or more", e.Phase)
		}
		return nil
	case PhaseApply:
		if len(e.Accounts) != 1 || e.Part < 0 || e.Part >= len(e.Plans) {
			return fmt.Errorf("the event's phase is %q: it needs one account, the checksums of its plan, and a part of it", e.Phase)
		}
		return nil
	default:
		return fmt.Errorf("the event's phase is %q: give none; a state machine's are list, plan, decide, apply and close", e.Phase)
	}
}

// check compares settings with each other. Out of order, a key would be deactivated or
// deleted by the rule that was to warn of it.
func (s Sweep) check() error {
	switch {
	case s.MaxAge > 0 && s.MaxAge <= s.MinAge:
		return fmt.Errorf("MAX_AGE (%s) must be longer than MIN_AGE (%s), or 0", s.MaxAge, s.MinAge)
	case s.MaxAge > 0 && s.MaxAge <= s.UsedWithin:
		return fmt.Errorf("MAX_AGE (%s) must be longer than USED_WITHIN (%s), or 0", s.MaxAge, s.UsedWithin)
	default:
		return nil
	}
}

func (s *Sweep) rows() []row {
	return append(s.Run.rows(), []row{
		{"MIN_AGE", "1h", "5m or more", duration(&s.MinAge, leastAge), "a younger key is kept whatever else is known of it"},
		{"GRACE", "1h", "0 or more", duration(&s.Grace, 0), "how long after it expires a key of the engine is left to the engine"},
		{"QUARANTINE", "7d", "0 or more", duration(&s.Quarantine, 0), "how long a key is switched off before it is deleted"},
		{
			"MAX_AGE", "90d", "longer than MIN_AGE and USED_WITHIN, or 0", duration(&s.MaxAge, 0),
			"an older key that the engine did not make is over-age; 0: none is",
		},
		{
			"USED_WITHIN", "7d", "0 or more", duration(&s.UsedWithin, 0),
			"a key used since then is kept, where the cloud tells; 0: not asked",
		},
		{
			"FOREIGN", Report, "report or enforce", choice(&s.Foreign, Report, Enforce),
			"what is done with expired and over-age keys that the engine did not make",
		},
		{
			"NOTIFY", "", "the ARN of an SNS topic, or an https address", notify(&s.Notify),
			"where owners are told before their keys are switched off; empty: they are not told",
		},
		{"NOTICE", "3d", "1h or more", duration(&s.Notice, time.Hour), "how long after that message a key is switched off, where " +
			"NOTIFY is set"},
		{"KEEP_USERS", "", "patterns such as ci-*, between commas or as a list in JSON", patterns(&s.KeepUsers), "users whose keys are kept"},
		{"KEEP_KEYS", "", "patterns, between commas", patterns(&s.KeepKeys), "access keys that are kept"},
		{
			"MAX_KEYS", "100", "1 to 1000000", number(&s.MaxKeys, 1, 1_000_000),
			"a plan that changes more keys of an account is not applied at all",
		},
		{
			"MAX_PERCENT", "25", "1 to 100", number(&s.MaxPercent, 1, 100),
			"a plan of five keys or more that changes a greater part of an account's keys is not applied at all",
		},
		{
			"USER_MAX_KEYS", "20", "0 to 1000000", number(&s.UserMaxKeys, 0, 1_000_000),
			"keys of one user that a plan changes; from five planned keys on also half of the plan. The others are listed, and left to " +
				"later runs; 0: no bound",
		},
		{
			"MAX_EXEMPTION", "365d", "1d or more", duration(&s.MaxExemption, 24*time.Hour),
			"how long the tag vault-keep-until keeps a key from its creation or last change on, whatever date it says",
		},
		{
			"ALLOW_EMPTY_LEDGER", "false", "true or false", boolean(&s.AllowEmptyLedger),
			"believe a ledger that is empty, or has less than half of the keys that it had, although keys would become orphans by it",
		},
		{
			"RUN_MAX_KEYS", "1000", "1 to 10000000", number(&s.RunMaxKeys, 1, 10_000_000),
			"plans of all accounts that change more keys together are not applied, none of them",
		},
		{
			"RUN_MAX_PERCENT", "10", "1 to 100", number(&s.RunMaxPercent, 1, 100),
			"plans of several accounts that change a greater part of all their keys are not applied, none of them",
		},
		{
			"TOLERATED_FAILURES", "100", "0 to 100", number(&s.Tolerated, 0, 100),
			"percent of the accounts that may be left without a plan; where more are, no plan is applied. 100: the others' plans always are",
		},
		{
			"APPROVAL", "false", "true or false", boolean(&s.Approval),
			"nothing is changed that no person has approved: a state machine's run waits for one, and the command takes the file of -plan with " +
				"-apply",
		},
		{
			"CONCURRENCY", "10", "1 to 1000", number(&s.Concurrency, 1, 1000),
			"accounts that are worked on at once, by a state machine or by the command",
		},
	}...)
}
