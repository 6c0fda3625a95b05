// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"errors"
	"fmt"
	"time"
)

// longestPolicy is the cloud's own bound of a hundred years.
const longestPolicy = 36500 * 24 * time.Hour

// PolicySync are the settings of sync-policy.
type PolicySync struct {
	Run
	Wanted       time.Duration // 0: what Vault's leases need
	Ratchet      bool
	Shorten      bool
	AllowLoosen  bool
	TuneMaxLease bool
	Reserve      time.Duration
}

// PolicySyncEvent is what an event may say to sync-policy.
type PolicySyncEvent struct {
	Mode     string   `json:"mode,omitempty"`
	Accounts []string `json:"accounts,omitempty"`
}

// ReadPolicySync reads the settings of sync-policy. Every error names its setting.
func ReadPolicySync(getenv func(string) string, event PolicySyncEvent) (PolicySync, error) {
	var s PolicySync
	if err := fill(&s, policyRows(), getenv); err != nil {
		return PolicySync{}, err
	}
	if err := s.check(); err != nil {
		return PolicySync{}, err
	}
	if err := s.chooseMode(getenv, event.Mode); err != nil {
		return PolicySync{}, err
	}
	if err := s.chooseAccounts(event.Accounts); err != nil {
		return PolicySync{}, err
	}
	return s, nil
}

func (s PolicySync) check() error {
	switch {
	case s.Wanted > longestPolicy:
		return fmt.Errorf("WANTED_MAX (%s) is longer than the hundred years that OUTSCALE allows", s.Wanted)
	case s.Wanted%time.Second != 0 || s.Wanted > 0 && s.Wanted < time.Minute:
		return fmt.Errorf("WANTED_MAX (%s) must be whole seconds, a minute or more, or 0", s.Wanted)
	case s.AllowLoosen && s.TuneMaxLease:
		return errors.New("ALLOW_LOOSEN and TUNE_MAX_LEASE are both true: one raises the policy to Vault's leases, the other lowers the leases to the policy. Choose one")
	default:
		return nil
	}
}

func policyRows() []row[PolicySync] {
	return []row[PolicySync]{
		{"MODE", Report, "report: say what would be done; enforce: do it. An event can lower it, never raise it. AWS_SAM_LOCAL forces report unless ALLOW_LOCAL_ENFORCE is true", "report or enforce", choice(func(s *PolicySync) *string { return &s.Mode }, Report, Enforce)},
		{"ACCOUNTS", "", "accounts to sync, as Vault names them; empty: all. An event can narrow them", "names, between commas", list(func(s *PolicySync) *[]string { return &s.Accounts })},
		{"WANTED_MAX", "0", "longest life of a key that the policy is to allow; 0: the longest that Vault needs", "0, or a minute and more", duration(func(s *PolicySync) *time.Duration { return &s.Wanted }, 0)},
		{"RATCHET", "true", "where keys stand in the way, lower the policy as far as they allow, a little more each run", "true or false", boolean(func(s *PolicySync) *bool { return &s.Ratchet })},
		{"SHORTEN_KEYS", "false", "bring the date of the engine's keys that stand in the way forward, never below what Vault's ledger promises", "true or false", boolean(func(s *PolicySync) *bool { return &s.Shorten })},
		{"ALLOW_LOOSEN", "false", "raise a policy that is stricter than Vault's leases need", "true or false, not with TUNE_MAX_LEASE", boolean(func(s *PolicySync) *bool { return &s.AllowLoosen })},
		{"TUNE_MAX_LEASE", "false", "lower the mount's longest lease to what the strictest policy allows", "true or false, not with ALLOW_LOOSEN", boolean(func(s *PolicySync) *bool { return &s.TuneMaxLease })},
		{"RESERVE", "10s", "time left for the report when the function's own time ends", "1s or more", duration(func(s *PolicySync) *time.Duration { return &s.Reserve }, time.Second)},
	}
}
