// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

// lateTimer is a context whose time is up, and whose timer has not said so yet.
type lateTimer struct {
	context.Context
	until time.Time
}

// Deadline implements context.Context.
func (l lateTimer) Deadline() (time.Time, bool) { return l.until, true }

// storage lets a test fail or stop at each call.
type storage struct {
	logical.Storage
	before func(op, key string) error
}

var errInjected = errors.New("injected fault")

func newStorage() *storage {
	return &storage{Storage: &logical.InmemStorage{}, before: func(string, string) error { return nil }}
}

// fail has the operations of a name fail from now on.
func (s *storage) fail(ops ...string) {
	s.before = func(op, _ string) error {
		if strings.Contains(strings.Join(ops, " "), op) {
			return errInjected
		}
		return nil
	}
}

// List implements logical.Storage.
func (s *storage) List(ctx context.Context, prefix string) ([]string, error) {
	if err := s.before("list", prefix); err != nil {
		return nil, err
	}
	return s.Storage.List(ctx, prefix)
}

// Get implements logical.Storage.
func (s *storage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if err := s.before("get", key); err != nil {
		return nil, err
	}
	return s.Storage.Get(ctx, key)
}

// Put implements logical.Storage.
func (s *storage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	if err := s.before("put", entry.Key); err != nil {
		return err
	}
	return s.Storage.Put(ctx, entry)
}

// Delete implements logical.Storage.
func (s *storage) Delete(ctx context.Context, key string) error {
	if err := s.before("delete", key); err != nil {
		return err
	}
	return s.Storage.Delete(ctx, key)
}

var instance = keylabel.NewID()

func newEntry(kind keylabel.Kind) *Entry {
	return &Entry{
		Kind: kind, Label: keylabel.New(instance, kind).String(), Account: "default", AccountID: "1", User: "app", Role: "app",
		Issued: time.Now(), Expires: time.Now().Add(time.Hour),
	}
}

// mount is a ledger with its storage.
type mount struct {
	*Ledger
	t *testing.T
	s *storage
}

func newMount(t *testing.T) *mount { return &mount{New(), t, newStorage()} }

// restart is a new process on the same storage.
func (m *mount) restart() { m.Ledger = New() }

func (m *mount) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// made is a key that was begun and finished.
func (m *mount) made() *Entry {
	m.t.Helper()
	e := newEntry(keylabel.KindLease)
	m.must(m.Begin(m.t.Context(), m.s, e, 0))
	e.AccessKey = "KEY-" + e.Label
	m.must(m.Finish(m.t.Context(), m.s, e))
	m.End(e.Account, e.Label)
	return e
}

func (m *mount) stored(e *Entry) *Entry {
	m.t.Helper()
	stored, err := Read(m.t.Context(), m.s.Storage, e.Account, e.Label)
	m.must(err)
	return stored
}

func (m *mount) mustCount(role string, want int) {
	m.t.Helper()
	if counts, _ := m.ByRole(); counts[role] != want {
		m.t.Errorf("%d keys of role %s, want %d", counts[role], role, want)
	}
}

func TestAKeyHasOneEntry(t *testing.T) {
	ctx := t.Context()
	tests := map[string]func(t *testing.T, m *mount){
		"begun before the create, made after it, then removed": func(t *testing.T, m *mount) {
			e := newEntry(keylabel.KindLease)
			m.must(m.Begin(ctx, m.s, e, 0))
			if stored := m.stored(e); stored == nil || stored.State != Begun || stored.Version != version || stored.AccessKey != "" {
				t.Errorf("begun: %+v", stored)
			}
			e.AccessKey = "A"
			m.must(m.Finish(ctx, m.s, e))
			m.End(e.Account, e.Label)
			if stored := m.stored(e); stored.State != Made || stored.AccessKey != "A" || stored.MadeAt.IsZero() {
				t.Errorf("made: %+v", stored)
			}
			m.mustCount("app", 1)
			m.must(m.Remove(ctx, m.s, e.Account, e.Label))
			if stored := m.stored(e); stored != nil {
				t.Errorf("removed: %+v", stored)
			}
			m.mustCount("app", 0)
		},
		"one that cannot be written makes no key, and does not count": func(t *testing.T, m *mount) {
			m.s.fail("put")
			e := newEntry(keylabel.KindLease)
			if err := m.Begin(ctx, m.s, e, 0); !errors.Is(err, errInjected) {
				t.Errorf("%v", err)
			}
			m.mustCount("app", 0)
		},
		"one that nobody can tell whether it was written is looked at by the next tick": func(t *testing.T, m *mount) {
			m.s.fail("put", "delete")
			e := newEntry(keylabel.KindLease)
			_ = m.Begin(ctx, m.s, e, 0)
			m.mustCount("app", 1)
			if left := m.Unfinished("default", time.Now(), false); len(left) != 1 || left[0].Label != e.Label {
				t.Errorf("%+v", left)
			}
		},
		"a change that fails is looked at when the earlier of both dates comes": func(t *testing.T, m *mount) {
			e := m.made()
			due := e.Due()
			m.s.fail("put")
			e.Expires = e.Expires.Add(time.Hour)
			if m.Save(ctx, m.s, e) == nil {
				t.Fatal("saved")
			}
			if found, _ := m.Find(e.AccessKey); !found.Due.Equal(due) {
				t.Errorf("due at %s, want %s", found.Due, due)
			}
		},
		"a key that could not be marked as made is still begun": func(t *testing.T, m *mount) {
			e := newEntry(keylabel.KindRoot)
			m.must(m.Begin(ctx, m.s, e, 0))
			m.s.fail("put")
			if m.Finish(ctx, m.s, e) == nil {
				t.Fatal("finished")
			}
			m.End(e.Account, e.Label)
			if left := m.Unfinished("default", time.Now(), false); len(left) != 1 {
				t.Errorf("%+v", left)
			}
		},
		"a label that is none names no entry, whatever stands there": func(t *testing.T, m *mount) {
			for _, label := range []string{"", "x", "../../config/default", "../other/" + newEntry(keylabel.KindLease).Label} {
				if e, err := Read(ctx, m.s, "default", label); e != nil || err != nil {
					t.Errorf("%q: %v, %v", label, e, err)
				}
			}
		},
	}
	for name, run := range tests {
		t.Run(name, func(t *testing.T) { run(t, newMount(t)) })
	}
}

// TestEntriesThatCannotBeUsed has entries of a newer version, and damaged ones: they are kept, they
// are known, and they keep no other from being seen.
func TestEntriesThatCannotBeUsed(t *testing.T) {
	other := newEntry(keylabel.KindLease)
	for name, value := range map[string]string{
		"a newer version":          `{"version":2,"state":"banana"}`,
		"no JSON":                  `rubbish`,
		"another type":             `{"version":1,"state":"made","expires":7}`,
		"a state that is none":     `{"version":1,"state":"banana"}`,
		"the contents of another":  fmt.Sprintf(`{"version":1,"state":"made","account":"default","label":%q}`, other.Label),
		"the account of another":   `{"version":1,"state":"made","account":"other","label":"%label%"}`,
		"nothing but a version":    `{"version":1}`,
		"an array of nothing":      `[]`,
		"a version that is a text": `{"version":"1"}`,
	} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t)
			good := m.made()
			bad := newEntry(keylabel.KindLease)
			path := Path("default", bad.Label)
			m.must(m.s.Put(t.Context(), &logical.StorageEntry{Key: path, Value: []byte(strings.ReplaceAll(value, "%label%", bad.Label))}))
			m.restart()
			m.must(m.Load(t.Context(), m.s, ""))
			if !m.Has(bad.Label) || !m.Has(good.Label) {
				t.Error("an entry is not known")
			}
			unreadable := m.Select("default", func(i *Item) bool { return i.Unreadable != "" })
			if len(unreadable) != 1 || !strings.Contains(unreadable[0].Unreadable, path) || !strings.Contains(unreadable[0].Unreadable, "is kept") {
				t.Errorf("%+v", unreadable)
			}
			known, err := Known(t.Context(), m.s, []string{bad.Label})
			if err != nil || !known[bad.Label] {
				t.Errorf("%v, %v", known, err)
			}
			var kept *UnreadableError
			if _, err := Read(t.Context(), m.s, "default", bad.Label); !errors.As(err, &kept) {
				t.Errorf("%v", err)
			}
			future := time.Now().Add(1000 * time.Hour)
			if due, left := m.Due("default", future), m.Unfinished("default", future, true); len(due) != 1 || len(left) != 0 {
				t.Errorf("due %+v, unfinished %+v", due, left)
			}
			m.mustCount("app", 1)
		})
	}
}

// TestAccountOf finds an account in the path that another node says it has changed.
func TestAccountOf(t *testing.T) {
	for path, want := range map[string]string{Path("default", "x"): "default", "config/default": "", "ledger/": "", "ledger/x": ""} {
		if got := AccountOf(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// TestAnEntryHoldsNoSecret: what storage holds of a key is what the type says.
func TestAnEntryHoldsNoSecret(t *testing.T) {
	raw, err := json.Marshal(newEntry(keylabel.KindLease))
	if err != nil || strings.Contains(string(raw), "secret") {
		t.Errorf("%s, %v", raw, err)
	}
}
