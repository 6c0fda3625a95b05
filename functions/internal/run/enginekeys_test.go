// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// readOnly is an archive to which nothing can be written.
type readOnly struct{ archive.Archive }

func (readOnly) Put(context.Context, string, string, func(io.Writer) error) (string, error) {
	return "", errors.New("AccessDenied")
}

// With FOREIGN=enforce a key that has no label may be switched off; only this list keeps Vault's own keys of other accounts from it.
func TestTheEnginesKeysAreNoOlderThanAnHourWhenAStepActs(t *testing.T) {
	config := settings.Sweep{Run: settings.Run{Accounts: []string{"a"}}, Foreign: settings.Enforce}
	// kept is a run whose list was read so long ago, before the operator gave the engine the key NEW.
	kept := func(t *testing.T, ago time.Duration) (s Env, vault func(context.Context) ([]string, error), reads *int) {
		t.Helper()
		s, reads = around(t, nil), new(int)
		if err := s.putEngineKeys(t.Context(), time.Now().Add(-ago), []string{"OLD", "SAME"}); err != nil {
			t.Fatal(err)
		}
		return s, func(context.Context) ([]string, error) { *reads++; return []string{"SAME", "NEW"}, nil }, reads
	}
	steps := func(t *testing.T, s Env, vault func(context.Context) ([]string, error), want ...string) {
		t.Helper()
		for range 2 {
			if keys, err := s.engineKeys(t.Context(), config, vault); err != nil || !slices.Equal(keys, want) {
				t.Errorf("got %q and error %v, want %q", keys, err, want)
			}
		}
	}

	t.Run("the steps of one hour take what the first of them has read", func(t *testing.T) {
		s, vault, reads := kept(t, 50*time.Minute)
		if steps(t, s, vault, "OLD", "SAME"); *reads != 0 {
			t.Errorf("Vault was read %d times", *reads)
		}
	})

	t.Run("a step half a day later reads Vault, once for all steps, and forgets no key", func(t *testing.T) {
		s, vault, reads := kept(t, 12*time.Hour)
		if steps(t, s, vault, "NEW", "OLD", "SAME"); *reads != 1 {
			t.Errorf("Vault was read %d times", *reads)
		}
	})

	t.Run("a role that may not write the list reads Vault each time", func(t *testing.T) {
		s, vault, reads := kept(t, 12*time.Hour)
		s.Archive = readOnly{s.Archive}
		if steps(t, s, vault, "NEW", "OLD", "SAME"); *reads != 2 {
			t.Errorf("Vault was read %d times", *reads)
		}
	})

	t.Run("a step that cannot read Vault does nothing with the old list", func(t *testing.T) {
		s, _, _ := kept(t, 12*time.Hour)
		sealed := func(context.Context) ([]string, error) { return nil, errors.New("sealed") }
		if keys, err := s.engineKeys(t.Context(), config, sealed); err == nil {
			t.Errorf("got %q", keys)
		}
	})

	t.Run("a list that says nothing of its time is refused", func(t *testing.T) {
		s, vault, _ := kept(t, 0)
		if err := s.putJSON(t.Context(), s.inRun(engineKeysName), []string{"OLD"}); err != nil {
			t.Fatal(err)
		}
		if keys, err := s.engineKeys(t.Context(), config, vault); err == nil {
			t.Errorf("got %q", keys)
		}
	})
}
