// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestRotationBySchedule waits for the time that a static role's schedule names.
func TestRotationBySchedule(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	m.account.AddUser("db", "api:ReadVms")
	m.configure()
	at := time.Now().UTC().Truncate(time.Minute).Add(2 * time.Minute)
	m.write("static-roles/db", "user_name=db", "rotation_window=1h", "rotation_grace_period=10m",
		fmt.Sprintf("rotation_schedule=%d %d * * *", at.Minute(), at.Hour()))
	first := m.read("static-creds/db")

	t.Run("its next rotation is shown, as the time and as the seconds until then", func(t *testing.T) {
		m.mustRotateNext(t, at)
		creds := m.read("static-creds/db")
		if ttl := number(t, creds["ttl"]); ttl < 0 || ttl > 120 {
			t.Errorf("ttl %d, and the rotation is at %s", ttl, at)
		}
		if creds["rotation_schedule"] == "" || number(t, creds["rotation_period"]) != 0 {
			t.Errorf("%v", creds)
		}
		if role := m.read("static-roles/db"); number(t, role["rotation_window"]) != 3600 {
			t.Errorf("%v", role)
		}
	})
	t.Run("it comes at that time, and the one after it a day later", func(t *testing.T) {
		until(t, time.Until(at)+2*tick+20*time.Second, "the key is another one", func() bool {
			creds, err := m.tryRead("static-creds/db")
			return err == nil && creds["access_key"] != first["access_key"]
		})
		rotated, err := time.Parse(time.RFC3339Nano, m.read("static-creds/db")["last_vault_rotation"].(string))
		if err != nil || rotated.Before(at) {
			t.Errorf("rotated at %s, want %s or later (%v)", rotated, at, err)
		}
		m.mustRotateNext(t, at.AddDate(0, 0, 1))
	})
	t.Run("the key before it works through the grace", func(t *testing.T) {
		old := &lease{m: m, AccessKey: first["access_key"].(string), SecretKey: first["secret_key"].(string)}
		if err := errors.Join(old.call(), m.staticKeyWorks()); err != nil {
			t.Error(err)
		}
		if previous := m.read("static-roles/db")["previous_access_keys"].([]any); !slices.Equal(previous, []any{first["access_key"]}) {
			t.Errorf("previous_access_keys %v, want %v", previous, first["access_key"])
		}
	})
	t.Run("a rotation by hand leaves the schedule as it is", func(t *testing.T) {
		m.write("rotate-role/db")
		m.mustRotateNext(t, at.AddDate(0, 0, 1))
	})
}

func (m *mount) mustRotateNext(t *testing.T, at time.Time) {
	t.Helper()
	if got, want := m.read("static-roles/db")["next_vault_rotation"], at.Format(time.RFC3339); got != want {
		t.Errorf("the next rotation is at %v, want %s", got, want)
	}
}

// TestBadSchedules sees the sentence that each mistake gets.
func TestBadSchedules(t *testing.T) {
	m := newMount(t)
	m.account.AddUser("db", "api:ReadVms")
	m.setPolicy(86400)
	m.configure()
	for name, test := range map[string]struct {
		fields []string
		says   []string
	}{
		"neither period nor schedule": {nil, []string{"either rotation_period or rotation_schedule"}},
		"both": {
			[]string{"rotation_period=4h", "rotation_schedule=0 * * * *"},
			[]string{"either rotation_period or rotation_schedule"},
		},
		"a schedule that is none":     {[]string{"rotation_schedule=at dawn"}, []string{`"at dawn" is not a cron expression`, "UTC"}},
		"a schedule that never comes": {[]string{"rotation_schedule=0 0 31 2 *"}, []string{"never comes"}},
		"a window with a period": {
			[]string{"rotation_period=4h", "rotation_window=1h"},
			[]string{"rotation_window goes with rotation_schedule"},
		},
		"a window of less than an hour": {
			[]string{"rotation_schedule=0 * * * *", "rotation_window=59m"},
			[]string{"rotation_window is 59m0s, and 1h0m0s is the least"},
		},
		"a grace longer than the gap": {
			[]string{"rotation_schedule=0 * * * *", "rotation_grace_period=1h"},
			[]string{"rotation_grace_period", "1h0m0s"},
		},
		"more than the policy leaves": {[]string{"rotation_schedule=0 3 * * *"}, []string{"24h0m0s at most", "this rotation needs 25h"}},
		"more with its window than without": {
			[]string{"rotation_schedule=0 */12 * * *", "rotation_window=12h"},
			[]string{"rotation_window", "this rotation needs 25h"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := m.tryWrite("static-roles/db", append([]string{"user_name=db"}, test.fields...)...)
			m.mustRefuse(err, test.says...)
			if _, err := m.tryRead("static-roles/db"); err == nil {
				t.Error("the role is there")
			}
		})
	}
}

// TestStaticRoleTakesAUserOn gives a user that others use a static role: their keys stay.
func TestStaticRoleTakesAUserOn(t *testing.T) {
	m := newMount(t)
	m.account.AddUser("db", "api:ReadVms")
	m.configure()
	var foreign []string
	for range 8 { // of the ten that a user can have
		foreign = append(foreign, m.account.AddKey(cloudsim.KeySpec{User: "db"}).AccessKey)
	}
	holds := func(t *testing.T, ours ...any) {
		t.Helper()
		want := slices.Clone(foreign)
		for _, id := range ours {
			want = append(want, id.(string))
		}
		var keys []string
		for _, key := range m.account.Keys() {
			if key.User == "db" {
				keys = append(keys, key.ID)
			}
		}
		if !sameElements(keys, want) {
			t.Errorf("the user has the keys %v, want %v", keys, want)
		}
	}
	current := func() any { return m.read("static-creds/db")["access_key"] }

	m.write("static-roles/db", "user_name=db", "rotation_period=4h", "rotation_grace_period=1h")
	first := current()
	t.Run("its first key is one more", func(t *testing.T) { holds(t, first) })
	m.write("rotate-role/db")
	second := current()
	t.Run("so is the next one", func(t *testing.T) { holds(t, first, second) })
	m.write("rotate-role/db")
	t.Run("with all slots taken its own oldest key makes room", func(t *testing.T) { holds(t, second, current()) })
	t.Run("no other static role, nor the engine's own identity, can have the user", func(t *testing.T) {
		_, err := m.tryWrite("static-roles/other", "user_name=db", "rotation_period=4h")
		m.mustRefuse(err, `belongs to static role "db" already`)
	})
	if _, err := m.server.Client.Logical().DeleteWithContext(t.Context(), m.path+"/static-roles/db"); err != nil {
		t.Fatal(err)
	}
	t.Run("a delete takes its keys away, and no others", func(t *testing.T) { holds(t) })
}

// TestOwnKeyIsRotatedByPeriod gives the engine a key that has been used for longer than the
// account's rotation_period.
func TestOwnKeyIsRotatedByPeriod(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	m.root = m.account.AddKey(cloudsim.KeySpec{Created: time.Now().Add(-time.Hour)})
	m.configure("ttl=10m")
	l := m.lease("")
	m.write("config/default", "rotation_period=30m")
	until(t, 2*tick+20*time.Second, "the engine's key is another one", func() bool {
		config, err := m.tryRead("config/default")
		return err == nil && config["access_key"] != m.root.AccessKey
	})
	l.renew(0)
	l.revoke()
	expires, err := time.Parse(time.RFC3339, m.read("config/default")["key_expiration"].(string))
	// The date is rounded up to a whole second, and the tick may have been a moment ago.
	if left := time.Until(expires); err != nil || left > time.Hour+time.Second || left < 50*time.Minute {
		t.Errorf("the new key ends at %s, want twice the period from now (%v)", expires, err)
	}
}
