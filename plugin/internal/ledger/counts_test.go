// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

// What is counted as items come and go is what a look at all of them gives, whatever was done to them and whatever storage said to it.
func TestTheCountsAreThoseOfALookAtAllItems(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := t.Context()
		l, s := New(), newStorage()
		var keys []*Entry
		key := func() *Entry {
			if len(keys) == 0 {
				t.Skip("there is no key yet")
			}
			return rapid.SampledFrom(keys).Draw(t, "key")
		}
		t.Repeat(map[string]func(*rapid.T){
			"a key is begun": func(t *rapid.T) {
				e := newEntry(rapid.SampledFrom([]keylabel.Kind{keylabel.KindLease, keylabel.KindUser, keylabel.KindStatic}).Draw(t, "kind"))
				e.Account = rapid.SampledFrom([]string{"default", "other"}).Draw(t, "account")
				e.User = rapid.SampledFrom([]string{"", "app", "db"}).Draw(t, "user")
				e.Role = rapid.SampledFrom([]string{"app", "db"}).Draw(t, "role")
				_ = l.Begin(ctx, s, e, 0) // storage may fail
				keys = append(keys, e)
			},
			"it is made":                   func(*rapid.T) { e := key(); _ = l.Finish(ctx, s, e) },
			"its request ends":             func(*rapid.T) { e := key(); l.End(e.Account, e.Label) },
			"its request fails":            func(*rapid.T) { e := key(); l.Fail(e.Account, e.Label) },
			"it is abandoned":              func(*rapid.T) { e := key(); e.Abandoned = true; _ = l.Save(ctx, s, e) },
			"it is removed":                func(*rapid.T) { e := key(); _ = l.Remove(ctx, s, e.Account, e.Label) },
			"it is stuck":                  func(*rapid.T) { e := key(); l.Stuck(e.Account, e.Label, errInjected, 1, time.Now()) },
			"the index is loaded":          func(*rapid.T) { _ = l.Load(ctx, s, "") },
			"its labels are loaded":        func(*rapid.T) { _ = l.LoadLabels(ctx, s) },
			"another node changes entries": func(*rapid.T) { l.Forget("default") },
			"the node steps down":          func(*rapid.T) { l.Forget("") },
			"storage fails":                func(*rapid.T) { s.fail("get", "put", "delete") },
			"storage works":                func(*rapid.T) { s.fail() },
			"": func(t *rapid.T) {
				if err := errors.Join(miscounted(l)...); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

func none(*Item) bool { return false }

// miscounted holds what is counted against all items.
func miscounted(l *Ledger) (wrong []error) {
	roles, _ := l.ByRole()
	seen, open := map[string]int{}, 0
	for account, b := range l.books {
		slots, unseen, owned := map[string]int{}, map[string]bool{}, 0
		for label, item := range b.items {
			if item.Leased() && item.known() {
				seen[item.Role]++
			}
			if !item.Running && item.known() && item.Kind != keylabel.KindUser {
				slots[item.User]++
			}
			if item.unread {
				unseen[label] = true
			}
			if item.Unfinished() {
				open++
				if !l.open[item] {
					wrong = append(wrong, fmt.Errorf("%s of account %s is not among the unfinished", label, account))
				}
			}
		}
		for user, items := range b.owners {
			owned += len(items)
			if got := l.Used(account, []string{user}, none)[0]; got != slots[user] {
				wrong = append(wrong, fmt.Errorf("%d slots of user %q of account %s are used, and counted are %d", slots[user], user, account, got))
			}
			if len(items) == 0 {
				wrong = append(wrong, fmt.Errorf("user %q is kept without a key", user))
			}
		}
		if owned != len(b.items) {
			wrong = append(wrong, fmt.Errorf("%d items of account %s have %d places among the users'", len(b.items), account, owned))
		}
		if !maps.Equal(unseen, b.unseen) {
			wrong = append(wrong, fmt.Errorf("storage has not given %v, and kept are %v", unseen, b.unseen))
		}
	}
	if open != len(l.open) {
		wrong = append(wrong, fmt.Errorf("%d items are kept as unfinished, and %d are", len(l.open), open))
	}
	if !maps.Equal(roles, seen) {
		wrong = append(wrong, fmt.Errorf("the roles have %v, and counted are %v", seen, roles))
	}
	return wrong
}

func TestUnfinishedKeysAreFoundWithoutALookAtAllOthers(t *testing.T) {
	took := func(keys int) time.Duration {
		l, best := New(), time.Hour
		for range keys {
			e := newEntry(keylabel.KindLease)
			e.State = Made
			l.Learn(e)
		}
		for range 5 {
			started := time.Now()
			for range 100 {
				l.Unfinished("", started, true)
			}
			best = min(best, time.Since(started))
		}
		return best
	}
	if few, many := took(10), took(20_000); many > 100*few {
		t.Errorf("among 20,000 keys they are looked up in %s, and among ten in %s", many/100, few/100)
	}
}
