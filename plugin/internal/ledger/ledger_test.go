// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
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

func TestTheIndexIsFilledFromStorage(t *testing.T) {
	ctx := t.Context()
	tests := map[string]func(t *testing.T, m *mount){
		"a portion ends by the clock, however late its context's timer is: what it did not read is no failure": func(t *testing.T, m *mount) {
			m.made()
			m.made()
			m.restart()
			late := lateTimer{Context: ctx, until: time.Now()}
			m.s.fail("get")
			m.must(m.LoadSome(late, m.s, "default"))
			m.s.fail()
			m.must(m.LoadSome(ctx, m.s, "default"))
			if !m.Whole("default") || len(m.book("default").unseen) > 0 {
				t.Error("entries are put off")
			}
		},
		"in portions, and then it is whole": func(t *testing.T, m *mount) {
			for range 5 {
				m.made()
			}
			m.restart()
			portion, stop := context.WithCancel(ctx)
			reads := 0
			m.s.before = func(op, _ string) error {
				if op == "get" {
					if reads++; reads == 3 {
						stop()
					}
				}
				return nil
			}
			_, err := m.Accounts(ctx, m.s)
			m.must(err)
			_ = m.LoadSome(portion, m.s, "default")
			if m.Whole("default") || len(m.Select("", func(*Item) bool { return true })) == 0 {
				t.Error("nothing is read, or all")
			}
			m.must(m.LoadSome(ctx, m.s, "default"))
			if _, all := m.ByRole(); !all || reads != 6 { // the one that was cut off, again
				t.Errorf("whole: %v, after %d reads", all, reads)
			}
			m.must(m.Load(ctx, m.s, ""))
			if reads != 6 {
				t.Errorf("%d reads: a whole index is read again", reads)
			}
		},
		"what this process writes meanwhile is newer than what was read": func(t *testing.T, m *mount) {
			e := m.made()
			m.restart()
			later := e.Expires.Add(time.Hour)
			m.s.before = func(op, key string) error {
				if op == "get" && key == Path("default", e.Label) {
					m.s.before = func(string, string) error { return nil }
					renewed := *e
					renewed.Expires = later
					// As storage answers with what it had before.
					defer func() { m.must(write(ctx, m.s, e)) }()
					return m.Save(ctx, m.s, &renewed)
				}
				return nil
			}
			m.must(m.Load(ctx, m.s, ""))
			if found, _ := m.Find(e.AccessKey); !found.Expires.Equal(later) {
				t.Errorf("%s, want %s", found.Expires, later)
			}
			m.mustCount("app", 1)
		},
		"what this process removes meanwhile does not come back": func(_ *testing.T, m *mount) {
			e := m.made()
			m.restart()
			m.s.before = func(op, key string) error {
				if op == "get" && key == Path("default", e.Label) {
					m.s.before = func(string, string) error { return nil }
					defer func() { m.must(write(ctx, m.s, e)) }() // the read has begun before
					return m.Remove(ctx, m.s, e.Account, e.Label)
				}
				return nil
			}
			m.must(m.Load(ctx, m.s, ""))
			m.mustCount("app", 0)
		},
		"an entry that storage does not give is known, and refuses who must count": func(t *testing.T, m *mount) {
			e := m.made()
			m.restart()
			m.s.fail("get")
			if err := m.LoadSome(ctx, m.s, "default"); !errors.Is(err, errInjected) {
				t.Errorf("%v", err)
			}
			if !m.Has(e.Label) {
				t.Error("it is not known")
			}
			if err := m.Load(ctx, m.s, ""); !errors.Is(err, errInjected) {
				t.Errorf("%v", err)
			}
			m.s.before = func(string, string) error { return nil }
			m.must(m.Load(ctx, m.s, ""))
			m.mustCount("app", 1)
		},
		"an account without entries is whole without a read": func(t *testing.T, m *mount) {
			m.must(m.Load(ctx, m.s, ""))
			m.s.fail("list", "get")
			m.must(m.LoadSome(ctx, m.s, "new"))
			if !m.Whole("new") {
				t.Error("it is not")
			}
		},
		"a label is searched in storage under every account": func(t *testing.T, m *mount) {
			e := newEntry(keylabel.KindLease)
			e.Account = "other"
			m.must(m.Begin(ctx, m.s, e, 0))
			known, err := Known(ctx, m.s, []string{e.Label, newEntry(keylabel.KindLease).Label})
			if err != nil || len(known) != 1 || !known[e.Label] {
				t.Errorf("%v, %v", known, err)
			}
			m.s.fail("get")
			if _, err := Known(ctx, m.s, []string{e.Label}); !errors.Is(err, errInjected) {
				t.Errorf("%v", err)
			}
		},
	}
	for name, run := range tests {
		t.Run(name, func(t *testing.T) { run(t, newMount(t)) })
	}
}

func TestWhatTheIndexCounts(t *testing.T) {
	ctx := t.Context()
	tests := map[string]func(t *testing.T, m *mount){
		"a role's cap, requests under way included": func(t *testing.T, m *mount) {
			m.must(m.Begin(ctx, m.s, newEntry(keylabel.KindLease), 2))
			m.made()
			var full *FullError
			if err := m.Begin(ctx, m.s, newEntry(keylabel.KindUser), 2); !errors.As(err, &full) || full.Count != 2 {
				t.Errorf("%v", err)
			}
			m.must(m.Begin(ctx, m.s, newEntry(keylabel.KindLease), 0))
		},
		"slots of an owner: those held for requests, and then their keys, once": func(t *testing.T, m *mount) {
			release, _, _ := m.Hold("default", "app", 0, nil)
			e := newEntry(keylabel.KindLease)
			m.must(m.Begin(ctx, m.s, e, 0))
			if n := m.Used("default", []string{"app"})[0]; n != 1 {
				t.Errorf("%d while the request runs", n)
			}
			m.End(e.Account, e.Label)
			release()
			if n := m.Used("default", []string{"app"})[0]; n != 1 {
				t.Errorf("%d when it has ended", n)
			}
			m.must(m.Remove(ctx, m.s, e.Account, e.Label))
			if n := m.Used("default", []string{"app"})[0]; n != 0 || len(m.held) != 0 {
				t.Errorf("%d when the key is gone, %d held", n, len(m.held))
			}
		},
		"a slot is not held beyond the most": func(t *testing.T, m *mount) {
			m.made()
			isApp := func(item *Item) bool { return item.User == "app" }
			first, _, _ := m.Hold("default", "app", 2, isApp)
			if _, count, held := m.Hold("default", "app", 2, isApp); held || count != 2 {
				t.Errorf("held %v, of %d", held, count)
			}
			first()
			if _, _, held := m.Hold("default", "app", 2, isApp); !held {
				t.Error("the slot that was given back is not held")
			}
		},
		"a request that still runs is not taken up, whatever the clock says": func(t *testing.T, m *mount) {
			e := newEntry(keylabel.KindLease)
			m.must(m.Begin(ctx, m.s, e, 0))
			future := time.Now().Add(time.Hour)
			if left := m.Unfinished("default", future, true); len(left) != 0 {
				t.Errorf("%+v", left)
			}
			m.End(e.Account, e.Label)
			if left := m.Unfinished("default", time.Now(), false); len(left) != 1 {
				t.Errorf("%+v", left)
			}
		},
		"the last tick takes up what was put off": func(t *testing.T, m *mount) {
			e := newEntry(keylabel.KindLease)
			m.must(m.Begin(ctx, m.s, e, 0))
			m.End(e.Account, e.Label)
			m.PutOff(e.Account, e.Label, time.Now().Add(time.Hour))
			if now, last := m.Unfinished("default", time.Now(), false), m.Unfinished("default", time.Now(), true); len(now) != 0 || len(last) != 1 {
				t.Errorf("now %+v, last %+v", now, last)
			}
		},
		"a key whose request has failed goes, whatever is stored of it": func(t *testing.T, m *mount) {
			e := m.made()
			m.Fail(e.Account, e.Label)
			if left := m.Unfinished("default", time.Now(), false); len(left) != 1 || !left[0].Failed() {
				t.Errorf("%+v", left)
			}
		},
		"what is stuck, since when": func(t *testing.T, m *mount) {
			e := m.made()
			e.Problem, e.Failures, e.Expires = "refused", 1, time.Now().Add(-time.Hour)
			m.must(m.Save(ctx, m.s, e))
			begun := newEntry(keylabel.KindLease)
			m.must(m.Begin(ctx, m.s, begun, 0))
			m.Stuck(begun.Account, begun.Label, errInjected, 0, time.Now())
			if n, since := m.Overdue("default"); n != 2 || !since.Equal(e.Expires) {
				t.Errorf("%d since %s", n, since)
			}
			e.Problem = ""
			m.must(m.Save(ctx, m.s, e))
			if n, _ := m.Overdue("default"); n != 1 {
				t.Errorf("%d", n)
			}
		},
		"a node that is not the active one forgets all but its own requests": func(t *testing.T, m *mount) {
			m.made()
			m.must(m.Begin(ctx, m.s, newEntry(keylabel.KindLease), 0))
			m.Forget("")
			m.mustCount("app", 1)
			if m.Whole("default") {
				t.Error("it takes what it knows for all")
			}
			m.must(m.Load(ctx, m.s, ""))
			m.mustCount("app", 2)
		},
	}
	for name, run := range tests {
		t.Run(name, func(t *testing.T) { run(t, newMount(t)) })
	}
}

func TestAnUnreadEntryIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		e := m.made()
		m.restart()
		m.s.fail("get")
		_ = m.LoadSome(t.Context(), m.s, "default")
		reads := 0
		m.s.before = func(op, _ string) error {
			if op == "get" {
				reads++
			}
			return nil
		}
		m.must(m.LoadSome(t.Context(), m.s, "default"))
		if reads != 0 {
			t.Errorf("%d reads at once", reads)
		}
		<-time.After(RereadAfter)
		m.must(m.LoadSome(t.Context(), m.s, "default"))
		if _, found := m.Find(e.AccessKey); !found || reads != 1 {
			t.Errorf("found %v after %d reads", found, reads)
		}
	})
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

// TestTheSizeOfTheIndex: a hundred thousand keys are to fit beside the rest of the plugin.
func TestTheSizeOfTheIndex(t *testing.T) {
	const keys, most = 20000, 330
	m := newMount(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range keys {
		e := newEntry(keylabel.KindLease)
		e.State, e.AccessKey = Made, keylabel.NewID()+"ABCD"
		m.note(e)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / keys
	t.Logf("%d bytes a key", each)
	if each > most {
		t.Errorf("%d bytes a key, want %d at most", each, most)
	}
	runtime.KeepAlive(m)
}
