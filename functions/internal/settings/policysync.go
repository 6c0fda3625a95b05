// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"errors"
	"fmt"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
)

// PolicySync are the settings of sync-policy.
type PolicySync struct {
	Run
	Wanted       time.Duration // 0: what Vault's leases need
	Floor        time.Duration // the lowest policy that is ever written
	Ratchet      bool
	Shorten      bool
	AllowLoosen  bool
	TuneMaxLease bool
}

// PolicySyncEvent is what an event may say to sync-policy.
type PolicySyncEvent struct {
	Mode     string   `json:"mode,omitempty"`
	Accounts []string `json:"accounts,omitempty"`
}

// ReadPolicySync reads the settings of sync-policy. Every error names its setting.
func ReadPolicySync(getenv func(string) string, event PolicySyncEvent) (PolicySync, error) {
	var s PolicySync
	if err := fill(s.rows(), getenv); err != nil {
		return PolicySync{}, err
	}
	if err := s.check(); err != nil {
		return PolicySync{}, err
	}
	if err := s.choose(getenv, event.Mode, event.Accounts); err != nil {
		return PolicySync{}, err
	}
	return s, nil
}

func (s PolicySync) check() error {
	switch {
	case s.Wanted > lifetime.MaxKeyLifetime:
		return fmt.Errorf("WANTED_MAX (%s) is longer than the hundred years that OUTSCALE allows", s.Wanted)
	case s.Wanted%time.Second != 0 || s.Wanted > 0 && s.Wanted < time.Minute:
		return fmt.Errorf("WANTED_MAX (%s) must be whole seconds, a minute or more, or 0", s.Wanted)
	case s.Wanted > 0 && s.Wanted < s.Floor:
		return fmt.Errorf("WANTED_MAX (%s) is below POLICY_FLOOR (%s), below which no policy is written: lower the floor if that is "+
			"meant", s.Wanted, s.Floor)
	case s.AllowLoosen && s.TuneMaxLease:
		return errors.New("ALLOW_LOOSEN and TUNE_MAX_LEASE are both true: one raises the policy to Vault's leases, the other lowers " +
			"the leases to the policy. Choose one")
	default:
		return nil
	}
}

func (s *PolicySync) rows() []row {
	return append(s.Run.rows(), []row{
		{"POLICY_FLOOR", "1d", "1m or more", duration(&s.Floor, time.Minute), "the lowest policy that is ever written, whatever Vault needs"},
		{
			"WANTED_MAX", "0", "0, or a minute and more", duration(&s.Wanted, 0),
			"longest life of a key that the policy is to allow; 0: the longest that Vault needs",
		},
		{
			"RATCHET", "true", "true or false", boolean(&s.Ratchet),
			"where keys stand in the way, lower the policy as far as they allow, a little more each run",
		},
		{
			"SHORTEN_KEYS", "false", "true or false", boolean(&s.Shorten),
			"bring the expiration date of the engine's keys that stand in the way forward, never below what Vault's ledger promises",
		},
		{
			"ALLOW_LOOSEN", "false", "true or false, not with TUNE_MAX_LEASE", boolean(&s.AllowLoosen),
			"raise a policy that is stricter than Vault's leases need",
		},
		{
			"TUNE_MAX_LEASE", "false", "true or false, not with ALLOW_LOOSEN", boolean(&s.TuneMaxLease),
			"lower the mount's longest lease to what the strictest policy allows",
		},
	}...)
}
