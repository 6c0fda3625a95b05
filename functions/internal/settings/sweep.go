// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"fmt"
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
	AllowEmptyLedger bool
	Workers          int
	Reserve          time.Duration

	// Of a state machine's run, over all accounts together.
	RunMaxKeys    int
	RunMaxPercent int
	Approval      bool // a person is asked before anything is changed
	Concurrency   int  // accounts at once
}

// The phases of a state machine's run over many accounts. An event without phase sweeps its accounts.
const (
	PhaseList  = "list"  // writes the accounts down
	PhasePlan  = "plan"  // plans one account, or a part of it
	PhaseJudge = "judge" // judges the plans of all accounts together
	PhaseApply = "apply" // applies one part of one account's plan
)

// SweepEvent is what an event may say to revoke-expired-keys.
type SweepEvent struct {
	Mode     string            `json:"mode,omitempty"`
	Accounts []string          `json:"accounts,omitempty"`
	Resume   map[string]string `json:"resume,omitempty"` // cursors of an earlier result, by account

	Phase string   `json:"phase,omitempty"` // one of the Phase constants; empty: a sweep
	Part  int      `json:"part,omitempty"`  // of one account's plan, from 0
	Plans []string `json:"plans,omitempty"` // to be applied: the checksum of each part
}

// ReadSweep reads the settings of revoke-expired-keys. Every error names its setting.
func ReadSweep(getenv func(string) string, event SweepEvent) (Sweep, error) {
	var s Sweep
	if err := fill(&s, sweepRows(), getenv); err != nil {
		return Sweep{}, err
	}
	if err := s.check(); err != nil {
		return Sweep{}, err
	}
	if err := s.chooseMode(getenv, event.Mode); err != nil {
		return Sweep{}, err
	}
	if err := s.chooseAccounts(event.Accounts); err != nil {
		return Sweep{}, err
	}
	return s, event.check()
}

// check refuses a phase that nobody knows, and one of a single account that names none.
func (e SweepEvent) check() error {
	switch e.Phase {
	case "", PhaseList, PhaseJudge:
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
		return fmt.Errorf("the event's phase is %q: give none; a state machine's are list, plan, judge and apply", e.Phase)
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

func sweepRows() []row[Sweep] {
	return []row[Sweep]{
		{"MODE", Report, "report: plan, and change nothing; enforce: apply the plan. An event can lower it, never raise it. AWS_SAM_LOCAL forces report unless ALLOW_LOCAL_ENFORCE is true", "report or enforce", choice(func(s *Sweep) *string { return &s.Mode }, Report, Enforce)},
		{"ACCOUNTS", "", "accounts to sweep, as Vault names them; empty: all. An event can narrow them", "names, between commas", list(func(s *Sweep) *[]string { return &s.Accounts })},
		{"MIN_AGE", "1h", "a younger key is kept whatever else is known of it", "5m or more", duration(func(s *Sweep) *time.Duration { return &s.MinAge }, leastAge)},
		{"GRACE", "1h", "how long after its date a key of the engine is left to the engine", "0 or more", duration(func(s *Sweep) *time.Duration { return &s.Grace }, 0)},
		{"QUARANTINE", "7d", "how long a key is switched off before it is deleted", "0 or more", duration(func(s *Sweep) *time.Duration { return &s.Quarantine }, 0)},
		{"MAX_AGE", "90d", "an older key that the engine did not make is over-age; 0: none is", "longer than MIN_AGE and USED_WITHIN, or 0", duration(func(s *Sweep) *time.Duration { return &s.MaxAge }, 0)},
		{"USED_WITHIN", "7d", "a key used since then is kept, where the cloud tells; 0: not asked", "0 or more", duration(func(s *Sweep) *time.Duration { return &s.UsedWithin }, 0)},
		{"FOREIGN", Report, "what is done with expired and over-age keys that the engine did not make", "report or enforce", choice(func(s *Sweep) *string { return &s.Foreign }, Report, Enforce)},
		{"KEEP_USERS", "", "users whose keys are kept", "patterns such as ci-*, between commas", patterns(func(s *Sweep) *[]string { return &s.KeepUsers })},
		{"KEEP_KEYS", "", "access keys that are kept", "patterns, between commas", patterns(func(s *Sweep) *[]string { return &s.KeepKeys })},
		{"MAX_KEYS", "100", "a plan that changes more keys of an account is not applied at all", "1 to 1000000", number(func(s *Sweep) *int { return &s.MaxKeys }, 1, 1_000_000)},
		{"MAX_PERCENT", "25", "a plan that changes a greater part of an account's keys is not applied at all", "1 to 100", number(func(s *Sweep) *int { return &s.MaxPercent }, 1, 100)},
		{"ALLOW_EMPTY_LEDGER", "false", "believe a ledger that is empty, or has less than half of the keys that it had, although keys would become orphans by it", "true or false", boolean(func(s *Sweep) *bool { return &s.AllowEmptyLedger })},
		{"WORKERS", "4", "users and keys of an account that are worked on at once", "1 to 32", number(func(s *Sweep) *int { return &s.Workers }, 1, 32)},
		{"RESERVE", "10s", "time left for the report when the function's own time ends", "1s or more", duration(func(s *Sweep) *time.Duration { return &s.Reserve }, time.Second)},
		{"RUN_MAX_KEYS", "1000", "plans of a state machine's run that change more keys together are not applied, none of them", "1 to 10000000", number(func(s *Sweep) *int { return &s.RunMaxKeys }, 1, 10_000_000)},
		{"RUN_MAX_PERCENT", "10", "plans of a state machine's run that change a greater part of all accounts' keys are not applied, none of them", "1 to 100", number(func(s *Sweep) *int { return &s.RunMaxPercent }, 1, 100)},
		{"APPROVAL", "false", "a state machine's run waits for a person before it applies the plans", "true or false", boolean(func(s *Sweep) *bool { return &s.Approval })},
		{"CONCURRENCY", "10", "accounts that a state machine's run works on at once", "1 to 1000", number(func(s *Sweep) *int { return &s.Concurrency }, 1, 1000)},
	}
}
