// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

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
		"a role's cap: of the keys that were abandoned those of the cloud account that the next is of": func(t *testing.T, m *mount) {
			for _, accountID := range []string{"1", "2"} {
				e := newEntry(keylabel.KindLease)
				e.AccountID, e.Abandoned = accountID, true
				m.must(m.Save(ctx, m.s, e))
			}
			for accountID, want := range map[string]bool{"1": true, "2": true, "3": false} {
				next := newEntry(keylabel.KindLease)
				next.AccountID = accountID
				var full *FullError
				if err := m.Begin(ctx, m.s, next, 1); errors.As(err, &full) != want {
					t.Errorf("in cloud account %s: %v", accountID, err)
				}
			}
		},
		"slots of an owner: those reserved for requests, and then their keys, once": func(t *testing.T, m *mount) {
			release, _, _ := m.Reserve("default", "app", 0, nil)
			e := newEntry(keylabel.KindLease)
			m.must(m.Begin(ctx, m.s, e, 0))
			if n := m.Used("default", []string{"app"}, none)[0]; n != 1 {
				t.Errorf("%d while the request runs", n)
			}
			m.End(e.Account, e.Label)
			release()
			if n := m.Used("default", []string{"app"}, none)[0]; n != 1 {
				t.Errorf("%d when it has ended", n)
			}
			m.must(m.Remove(ctx, m.s, e.Account, e.Label))
			if n := m.Used("default", []string{"app"}, none)[0]; n != 0 || len(m.reserved) != 0 {
				t.Errorf("%d when the key is gone, %d reserved", n, len(m.reserved))
			}
		},
		"a slot is not reserved beyond the most": func(t *testing.T, m *mount) {
			m.made()
			isApp := func(item *Item) bool { return item.User == "app" }
			first, _, _ := m.Reserve("default", "app", 2, isApp)
			if _, count, reserved := m.Reserve("default", "app", 2, isApp); reserved || count != 2 {
				t.Errorf("reserved %v, of %d", reserved, count)
			}
			first()
			if _, _, reserved := m.Reserve("default", "app", 2, isApp); !reserved {
				t.Error("the slot that was given back is not reserved")
			}
		},
		"the keys and requests of accounts beside count towards the most": func(t *testing.T, m *mount) {
			m.made()
			isApp := func(item *Item) bool { return item.User == "app" }
			release, _, _ := m.Reserve("third", "app", 2, isApp)
			if _, count, reserved := m.Reserve("second", "app", 2, isApp, "default", "third"); reserved || count != 2 {
				t.Errorf("reserved %v, of %d", reserved, count)
			}
			release()
			if _, _, reserved := m.Reserve("second", "app", 2, isApp, "default", "third"); !reserved {
				t.Error("the slot that was given back is not reserved")
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
			if left := m.Unfinished("default", time.Now(), false); len(left) != 1 || !left[0].Failed {
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
