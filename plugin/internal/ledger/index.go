// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
)

// RereadAfter is when an entry that storage did not give is read again. At once it would come
// before the others at each tick, and what cannot be read at all would keep them waiting.
const RereadAfter = 5 * time.Minute

// Ledger is the index over all entries of a mount, in memory on the active node, the only one
// that makes keys. It says how many keys a role has, which slots of an owner are used, what is
// due and what is stuck, without a read from storage.
//
// It is filled from storage in portions, within the ticks, and at once by those requests that
// need it; all others go on without. Whoever writes or removes an entry goes through it, so that
// what is loaded stays true: an item that is there already is newer than what is read.
//
// What every lease asks is counted as items come and go: a look at all of them takes ten milliseconds
// where there are a hundred thousand, and the next lease waits for it.
type Ledger struct {
	mu       sync.Mutex // never held across a storage call
	books    map[string]*book
	listed   bool          // every account that storage has entries of has a book
	reserved map[owner]int // slots that are kept for requests which are about to make a key
	open     map[*Item]bool
	texts    map[string]string
	none     *Trouble // of all keys that have none
}

// owner is one identity of one account; the empty user is the engine's own.
type owner struct{ account, user string }

// Item is an entry as the index has it.
type Item struct {
	Label, AccessKey    string
	Account, User, Role string
	UserID              string // as far as it is known
	Kind                keylabel.Kind
	Expires             time.Time
	Due                 time.Time // when somebody should look at it

	*Trouble // most keys share one that says nothing

	Running bool // its request is under way in this process
	Failed  bool // its request has failed: the key is to go, whatever is stored of it
	First   bool // a first key, whose cloud account is not known yet
	begun   bool
	unread  bool // storage did not give it: all else here is what the label tells
}

// Trouble is what is known of a key that is not settled, cannot be removed, or was abandoned.
type Trouble struct {
	Issued     time.Time // when it was begun
	Tries      int       // that have failed
	Problem    string    // why; empty: nothing is stuck
	StuckSince time.Time
	Unreadable string // why the entry cannot be understood; empty: it can

	AbandonedIn string // the cloud account of a key that was abandoned; empty: it was not
}

// New returns an index that knows nothing yet.
func New() *Ledger {
	return &Ledger{books: map[string]*book{}, reserved: map[owner]int{}, open: map[*Item]bool{}, texts: map[string]string{}, none: &Trouble{}}
}

// Leased tells keys of leases from those that the engine replaces by itself.
func (i *Item) Leased() bool { return leased(i.Kind) }

// Unfinished tells that nobody has settled the key yet: its request runs, or has left it.
func (i *Item) Unfinished() bool { return i.begun || i.Failed }

// counts tells that the key is one of its role's.
func (i *Item) counts() bool { return i.Leased() && i.known() }

// takesSlot tells that the key has one of its user's slots. One whose request runs has it reserved.
func (i *Item) takesSlot() bool { return !i.Running && i.known() && i.Kind != keylabel.KindUser }

// known tells that the entry could be read.
func (i *Item) known() bool { return i.Unreadable == "" && !i.unread }

// Due is when somebody should look at an entry: when its key has expired, or at once where its request has
// not ended well.
func (e *Entry) Due() time.Time {
	due := lifetime.EndedAt(e.Expires, e.Skew)
	if e.State == Made && due.After(e.RetryAt) || time.Until(e.RetryAt) > lifetime.LongestPause { // written under a clock that was wrong
		return due
	}
	return e.RetryAt
}

// itemOf is an entry as the index keeps it. The lock is held.
func (l *Ledger) itemOf(e *Entry) *Item {
	item := &Item{
		Label: e.Label, AccessKey: e.AccessKey, Account: l.text(e.Account), User: e.User, Role: l.text(e.Role), Kind: e.Kind,
		Expires: e.Expires, Due: e.Due(), Trouble: l.none,
		begun: e.State == Begun, First: e.Kind == keylabel.KindRoot && e.AccountID == "",
	}
	if e.Kind != keylabel.KindUser {
		item.User, item.UserID = l.text(e.User), l.text(e.UserID)
	}
	switch {
	case e.State == Begun:
		item.Trouble = &Trouble{Issued: e.Issued}
	case e.Problem != "":
		item.Trouble = &Trouble{Issued: e.Issued, Tries: e.Failures, Problem: e.Problem, StuckSince: e.Expires}
	}
	if e.Abandoned {
		trouble := *item.Trouble
		trouble.AbandonedIn = e.AccountID
		item.Trouble = &trouble
	}
	return item
}

// blank is an item of which the label alone is known.
func (l *Ledger) blank(account, label, unreadable string) *Item {
	item := &Item{Label: label, Account: l.text(account), Trouble: &Trouble{Unreadable: unreadable}}
	if parsed, err := keylabel.Parse(label); err == nil {
		item.Kind = parsed.Kind
	}
	return item
}

// text keeps one copy of a name that many items have.
func (l *Ledger) text(name string) string {
	if known, ok := l.texts[name]; ok {
		return known
	}
	l.texts[name] = name
	return name
}

// book returns what is known of an account. The lock is held.
func (l *Ledger) book(account string) *book {
	known, ok := l.books[account]
	if !ok {
		// One that was not there when all were listed has no entries but those of this process.
		known = newBook(l.listed, l.open)
		l.books[account] = known
	}
	return known
}

// take counts a key before its entry is written, unless its role has as many as it may. Those that were abandoned in another cloud
// account are none of them: nobody can revoke them, so that they would keep the role from its keys for ever.
func (l *Ledger) take(e *Entry, most int) (count int, taken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if most > 0 {
		for _, b := range l.books {
			count += b.roles[counted{e.Role, ""}]
			if e.AccountID != "" {
				count += b.roles[counted{e.Role, e.AccountID}]
			}
		}
		if count >= most {
			return count, false
		}
	}
	item := l.itemOf(e)
	item.Running = true
	l.book(e.Account).put(e.Label, item)
	return count + 1, true
}

// note keeps in mind what is about to be written, and returns what was known before.
func (l *Ledger) note(e *Entry) (before *Item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(e.Account)
	before = b.items[e.Label]
	item := l.itemOf(e)
	item.Running = before != nil && before.Running
	b.put(e.Label, item)
	return before
}

// restore goes back to what was known before a write that has failed. It may have been carried
// out: what comes due earlier in either form comes due then.
func (l *Ledger) restore(e *Entry, before *Item) {
	l.update(e.Account, e.Label, func(item *Item) {
		now := *item
		if before == nil {
			return
		}
		*item = *before
		item.Running, item.Failed = now.Running, now.Failed
		if now.Due.Before(item.Due) {
			item.Due = now.Due
		}
	})
}

// update replaces an item that is known by one that change has changed.
func (l *Ledger) update(account, label string, change func(*Item)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(account)
	if known := b.items[label]; known != nil {
		item := *known
		change(&item)
		b.put(label, &item)
	}
}

// Drop takes a key out of what is counted: it is gone, or was never made.
func (l *Ledger) Drop(account, label string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.book(account)
	b.put(label, nil)
	if !b.whole() {
		b.removed[label] = true
	}
}

// PutOff has an entry be looked at later.
func (l *Ledger) PutOff(account, label string, until time.Time) {
	l.update(account, label, func(item *Item) { item.Due = until })
}

// Stuck notes why an unfinished request cannot be cleaned up, and when that is tried again.
func (l *Ledger) Stuck(account, label string, problem error, tries int, again time.Time) {
	l.update(account, label, func(item *Item) {
		now := *item.Trouble
		if now.Problem == "" {
			now.StuckSince = time.Now()
		}
		now.Problem, now.Tries = problem.Error(), tries
		item.Trouble, item.Due = &now, again
	})
}

// each visits the items of an account, or of all where it is empty. The lock is held.
func (l *Ledger) each(account string, visit func(*Item)) {
	books := l.books
	if account != "" {
		books = map[string]*book{}
		if b := l.books[account]; b != nil {
			books[account] = b
		}
	}
	for _, b := range books {
		for _, item := range b.items {
			visit(item)
		}
	}
}

// ByRole is how many keys of each role are counted, and whether all of the mount are.
func (l *Ledger) ByRole() (counts map[string]int, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts, all = map[string]int{}, l.listed
	for _, b := range l.books {
		all = all && b.whole()
		for of, n := range b.roles {
			counts[of.role] += n
		}
	}
	return counts, all
}

// Used is how many slots of each of these users of an account this mount's keys take, those that are
// reserved for requests included, and those of another cloud account's users left out.
func (l *Ledger) Used(account string, users []string, isOfAnother func(*Item) bool) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	var owned map[string][]*Item
	if b := l.books[account]; b != nil {
		owned = b.owners
	}
	used := make([]int, len(users))
	for i, user := range users {
		used[i] = l.reserved[owner{account, user}]
		for _, item := range owned[user] {
			if item.takesSlot() && !isOfAnother(item) {
				used[i]++
			}
		}
	}
	return used
}

// Reserve keeps a slot of an owner for a request that is about to make a key, until it is released:
// the key is counted then, or was not made. Where isIts is given, which tells the owner's keys whatever
// name it was called by, most is how many leased keys it may have, those reserved for it included; beside
// are accounts whose keys and requests are of the same owner.
func (l *Ledger) Reserve(
	account, user string, most int, isIts func(*Item) bool, beside ...string,
) (release func(), count int, reserved bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := owner{account, user}
	if isIts != nil {
		for _, name := range append([]string{account}, beside...) {
			l.each(name, func(item *Item) {
				if item.Leased() && !item.Running && item.known() && isIts(item) {
					count++
				}
			})
			count += l.reserved[owner{name, user}]
		}
		if count >= most {
			return func() {}, count, false
		}
	}
	l.reserved[of]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.reserved[of]--; l.reserved[of] == 0 {
			delete(l.reserved, of)
		}
	}, count + 1, true
}

// Select returns the items of an account, or of all where it is empty, that are wanted, by label.
func (l *Ledger) Select(account string, wanted func(*Item) bool) []Item {
	l.mu.Lock()
	defer l.mu.Unlock()
	var items []Item
	l.each(account, func(item *Item) {
		if wanted(item) {
			items = append(items, *item)
		}
	})
	return byLabel(items)
}

// Owned returns the items of a user, in an account or in all where it is empty, that are wanted, by label.
func (l *Ledger) Owned(account, user string, wanted func(*Item) bool) []Item {
	l.mu.Lock()
	defer l.mu.Unlock()
	var items []Item
	for name, b := range l.books {
		for _, item := range b.owners[user] {
			if (account == "" || name == account) && wanted(item) {
				items = append(items, *item)
			}
		}
	}
	return byLabel(items)
}

func byLabel(items []Item) []Item {
	slices.SortFunc(items, func(a, b Item) int { return strings.Compare(a.Label, b.Label) })
	return items
}

// Find returns the item of an access key.
func (l *Ledger) Find(accessKey string) (Item, bool) {
	found := l.Select("", func(item *Item) bool { return item.AccessKey == accessKey && accessKey != "" })
	if len(found) == 0 {
		return Item{}, false
	}
	return found[0], true
}

// Has tells whether any account has an entry of a label, read or not.
func (l *Ledger) Has(label string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.books {
		if b.items[label] != nil {
			return true
		}
	}
	return false
}

// Due are an account's leased keys that have expired, the longest overdue first.
func (l *Ledger) Due(account string, now time.Time) []Item {
	return byDue(l.Select(account, func(i *Item) bool {
		return i.Leased() && i.known() && !i.Unfinished() && !i.Running && !now.Before(i.Due)
	}))
}

// Unfinished are the entries of requests of an account that have ended, and not well; last: also
// those that were put off. That of a request which still runs in this process is none of them,
// whatever the clock says.
func (l *Ledger) Unfinished(account string, now time.Time, last bool) []Item {
	l.mu.Lock()
	defer l.mu.Unlock()
	var items []Item
	for i := range l.open {
		if (account == "" || i.Account == account) && i.known() && !i.Running && (last || !now.Before(i.Due)) {
			items = append(items, *i)
		}
	}
	return byDue(byLabel(items))
}

func byDue(items []Item) []Item {
	slices.SortStableFunc(items, func(a, b Item) int { return a.Due.Compare(b.Due) })
	return items
}

// Overdue is how many keys of an account are stuck, and since when the oldest of them is.
func (l *Ledger) Overdue(account string) (count int, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.each(account, func(item *Item) {
		if item.Problem == "" {
			return
		}
		if count++; since.IsZero() || item.StuckSince.Before(since) {
			since = item.StuckSince
		}
	})
	return count, since
}
