// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package settings reads what a run is told by the environment and by its event, once, and
// refuses what does not fit together.
package settings

import "time"

// The modes of a run.
const (
	Report  = "report"
	Enforce = "enforce"
)

// Sweep are the settings of revoke-expired-keys.
type Sweep struct {
	Mode             string
	Accounts         []string // names; empty: all
	MinAge           time.Duration
	Grace            time.Duration
	Quarantine       time.Duration
	MaxAge           time.Duration // 0: no key is too old
	UsedWithin       time.Duration
	Foreign          string // report or enforce
	KeepUsers        []string
	KeepKeys         []string
	MaxKeys          int
	MaxPercent       int
	Workers          int
	Reserve          time.Duration
	AllowEmptyLedger bool
}

// PolicySync are the settings of sync-policy.
type PolicySync struct {
	Mode         string
	Accounts     []string
	Wanted       time.Duration // 0: what Vault's leases need
	Ratchet      bool
	Shorten      bool
	AllowLoosen  bool
	TuneMaxLease bool
	Reserve      time.Duration
}

// SweepEvent is what an event may say to revoke-expired-keys.
type SweepEvent struct {
	Mode     string            `json:"mode,omitempty"`
	Accounts []string          `json:"accounts,omitempty"`
	Resume   map[string]string `json:"resume,omitempty"` // by account
}

// PolicySyncEvent is what an event may say to sync-policy.
type PolicySyncEvent struct {
	Mode     string   `json:"mode,omitempty"`
	Accounts []string `json:"accounts,omitempty"`
}

// ReadSweep reads the settings of revoke-expired-keys. Every error names its setting.
func ReadSweep(getenv func(string) string, event SweepEvent) (Sweep, error) {
	return Sweep{}, nil
}

// ReadPolicySync reads the settings of sync-policy. Every error names its setting.
func ReadPolicySync(getenv func(string) string, event PolicySyncEvent) (PolicySync, error) {
	return PolicySync{}, nil
}
