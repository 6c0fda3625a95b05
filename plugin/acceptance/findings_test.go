// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestCheckFinds sees what a check says of each thing that will go wrong.
func TestCheckFinds(t *testing.T) {
	fill := func(m *mount, user string, keys int, expires time.Time) {
		for range keys {
			m.account.AddKey(cloudsim.KeySpec{User: user, Expires: expires})
		}
	}
	nextYear := time.Now().AddDate(1, 0, 0)
	for name, test := range map[string]struct {
		severity string
		spoil    func(m *mount)
		says     []string
	}{
		"a clock that is wrong": {
			"warning", func(m *mount) { m.sim.SetClockSkew(90 * time.Second) }, []string{"clock", "behind", "NTP"},
		},
		"foreign keys without a date": {
			"warning", func(m *mount) { fill(m, "app", 1, time.Time{}) },
			[]string{"not created by this mount never expire", `user "app"`, "policy greater than 0"},
		},
		"a quota that is nearly full": {
			"warning", func(m *mount) { fill(m, "app", 8, nextYear) }, []string{`user "app" has 8 of 10 (0 issued by this mount, 8 others)`},
		},
		"a quota that is full": {
			"error", func(m *mount) { fill(m, "app", 10, nextYear) }, []string{`role "app" cannot lease`, "add users to roles/app"},
		},
		"an own key that ends soon, and that nothing can replace": {
			"error", func(m *mount) {
				m.root = m.account.AddKey(cloudsim.KeySpec{Created: time.Now().Add(-time.Hour), Expires: time.Now().Add(20 * time.Minute)})
				fill(m, "", 8, nextYear) // with the first key and this one: all ten slots
				m.write("config/default", m.accountFields()...)
			},
			[]string{"engine key cannot be rotated", "take the slots of its identity"},
		},
		"a static role whose next key has no slot": {
			"error", func(m *mount) {
				m.account.AddUser("db", "api:ReadVms")
				m.write("static-roles/db", "user_name=db", "rotation_period=4h")
				fill(m, "db", 9, nextYear)
			},
			[]string{`static role "db" cannot be rotated`, "9 other access keys"},
		},
		"a user that is gone": {
			"error", func(m *mount) { m.account.DeleteUser("app") }, []string{`user "app" of role app does not exist`},
		},
		"a policy of 0": {
			"warning", func(*mount) {}, []string{"sets no longest life", "MaxAccessKeyExpirationSeconds"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t)
			m.configure()
			test.spoil(m)
			findings := m.findings()
			if !slices.ContainsFunc(findings, func(finding string) bool {
				return strings.HasPrefix(finding, test.severity+": ") && !slices.ContainsFunc(test.says,
					func(part string) bool { return !strings.Contains(finding, part) })
			}) {
				t.Errorf("no %s says %q:\n%s", test.severity, test.says, strings.Join(findings, "\n"))
			}
			if healthy := m.read("check/default")["healthy"]; healthy != (test.severity != "error") {
				t.Errorf("healthy is %v", healthy)
			}
		})
	}
}

// TestWarnings reads what a write tells an operator who will be surprised later.
func TestWarnings(t *testing.T) {
	m := newMount(t)
	m.setPolicy(900)
	m.configure()
	warns := func(name, path string, fields []string, parts ...string) {
		t.Run(name, func(t *testing.T) {
			answer := m.write(path, fields...)
			if answer == nil {
				t.Fatal("no warning")
			}
			warnings := strings.Join(answer.Warnings, "\n")
			for _, part := range parts {
				if !strings.Contains(warnings, part) {
					t.Errorf("%q does not say %q", warnings, part)
				}
			}
		})
	}
	warns("a role that asks for more than the policy gives", "roles/long", []string{"user_names=app", "max_ttl=2h"}, "cut to 13m55s",
		"policy", "2h0m0s")
	warns("the engine's own identity in leases", "config/default", []string{"allow_root_identity=true"}, "can extend itself")
	warns("how long Vault may be down", "config/default", []string{"ttl=5m"}, "must not be down")
	warns("a key that was not tried", "config/untried", append(m.accountFields(), "verify=false"), "was not tried")
	warns("a role whose users may do nothing", "roles/empty", []string{"credential_type=iam_user"}, "may do nothing")
	m.account.SetPolicy(cloudsim.Policy{})
	warns("a policy of 0, when it is read", "policy/default", nil, "MaxAccessKeyExpirationSeconds is 0")
	warns("a policy of 0, when the account is written", "config/default", m.accountFields(), "MaxAccessKeyExpirationSeconds is 0")
	warns("a role that nothing but the mount bounds", "roles/long", []string{"max_ttl=0"}, "nothing bounds its leases but the mount")
}
