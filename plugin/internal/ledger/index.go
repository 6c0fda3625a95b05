// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

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
// what is loaded stays true: an entry that is there already is newer than the one in storage.
type Ledger struct {
	mu       sync.Mutex // never held across a storage call
	books    map[string]*book
	listed   bool           // every account that storage has entries of has a book
	roles    map[string]int // keys by role: those of leases, requests under way included
	owners   map[owner]*slots
	interned map[string]string
	none     *Trouble // of all keys that have none
}

// book is what is known of one account.
type book struct {
	items   map[string]*Item // by label
	listed  bool
	unread  []string        // labels that are listed, and still to be read
	removed map[string]bool // labels that went while the book is filled
	turn    chan struct{}   // whose turn it is to fill it
}

func (b *book) whole() bool { return b.listed && len(b.unread) == 0 }

// owner is one identity of one account; the empty user is the engine's own.
type owner struct{ account, user string }

// slots are how many keys of an owner there are.
type slots struct {
	settled int // of requests that have ended
	leased  int // those of them that leases hold
	held    int // for requests that are about to make one
}

// Item is an entry as the index has it.
type Item struct {
	Label, AccessKey    string
	Account, User, Role string
	Kind                keylabel.Kind
	Expires             time.Time
	Due                 time.Time // when somebody should look at it

	*Trouble // most keys share one that says nothing

	begun   bool
	running bool // its request is under way in this process
	failed  bool // its request has failed: the key is to go
	unread  bool // storage did not give it: all else here is what the label tells
	first   bool // a first key, whose cloud account is not known yet
}

// Trouble is what is known of a key that is not settled, or cannot be removed. It is never changed,
// but replaced.
type Trouble struct {
	Issued     time.Time // when it was begun
	Tries      int       // that have failed
	Problem    string    // why; empty: nothing is stuck
	StuckSince time.Time
	Unreadable string // why the entry cannot be understood; empty: it can
}

// Leased tells keys of leases from those that the engine replaces by itself.
func (i *Item) Leased() bool { return leased(i.Kind) }

// New returns an index that knows nothing yet.
func New() *Ledger {
	return &Ledger{books: map[string]*book{}, roles: map[string]int{}, owners: map[owner]*slots{}, interned: map[string]string{}, none: &Trouble{}}
}

// book returns what is known of an account. The lock is held.
func (l *Ledger) book(account string) *book {
	known, ok := l.books[account]
	if !ok {
		// One that was not there when all were listed has no entries but those of this process.
		known = &book{items: map[string]*Item{}, listed: l.listed, removed: map[string]bool{}, turn: make(chan struct{}, 1)}
		l.books[account] = known
	}
	return known
}

func (l *Ledger) intern(text string) string {
	if known, ok := l.interned[text]; ok {
		return known
	}
	l.interned[text] = text
	return text
}

// itemOf is an entry as the index keeps it. The lock is held.
func (l *Ledger) itemOf(e *Entry) *Item {
	item := &Item{
		Label: e.Label, AccessKey: e.AccessKey, Account: l.intern(e.Account), User: e.User, Role: l.intern(e.Role), Kind: e.Kind,
		Expires: e.Expires, Due: e.Due(), Trouble: l.none,
		begun: e.State == Begun, first: e.Kind == keylabel.KindRoot && e.AccountID == "",
	}
	if e.Kind != keylabel.KindUser {
		item.User = l.intern(e.User)
	}
	switch {
	case e.State == Begun:
		item.Trouble = &Trouble{Issued: e.Issued}
	case e.Problem != "":
		item.Trouble = &Trouble{Issued: e.Issued, Tries: e.Failures, Problem: e.Problem, StuckSince: e.Expires}
	}
	return item
}

// Due is when somebody should look at an entry: past its date, or at once where its request
// has not ended well.
func (e *Entry) Due() time.Time {
	if e.State == Begun {
		return e.RetryAt
	}
	due := e.Expires.Add(lifetime.ClockMargin)
	if e.RetryAt.After(due) {
		return e.RetryAt
	}
	return due
}

// change replaces what is known of a label: change gets the item that is known, or nil, and
// returns the one to keep, or nil. All that is counted follows.
func (l *Ledger) change(account, label string, change func(*Item) *Item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changeHeld(account, label, change)
}

func (l *Ledger) changeHeld(account, label string, change func(*Item) *Item) {
	b := l.book(account)
	before := b.items[label]
	if before != nil {
		l.count(before, -1)
	}
	after := change(before)
	if after == nil {
		delete(b.items, label)
		return
	}
	b.items[label] = after
	l.count(after, 1)
}

// count adds an item to what is counted, or takes it out. The lock is held.
func (l *Ledger) count(item *Item, by int) {
	if item.Leased() && item.known() {
		if l.roles[item.Role] += by; l.roles[item.Role] == 0 {
			delete(l.roles, item.Role)
		}
	}
	if item.running || item.Kind == keylabel.KindUser || !item.known() {
		return
	}
	of := owner{item.Account, item.User}
	used := l.slotsOf(of)
	used.settled += by
	if item.Leased() {
		used.leased += by
	}
	l.release(of, used)
}

// slotsOf are the slots of an owner, to be changed under the lock and then released.
func (l *Ledger) slotsOf(of owner) *slots {
	used, ok := l.owners[of]
	if !ok {
		used = &slots{}
		l.owners[of] = used
	}
	return used
}

// release forgets an owner that has no keys any more.
func (l *Ledger) release(of owner, used *slots) {
	if *used == (slots{}) {
		delete(l.owners, of)
	}
}

// take counts a key before its entry is written, unless its role has as many as it may.
func (l *Ledger) take(e *Entry, most int) (count int, taken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if most > 0 && l.roles[e.Role] >= most {
		return l.roles[e.Role], false
	}
	l.changeHeld(e.Account, e.Label, func(*Item) *Item {
		item := l.itemOf(e)
		item.running = true
		return item
	})
	return l.roles[e.Role], true
}

// note keeps in mind what is about to be written, and returns what was known before.
func (l *Ledger) note(e *Entry) (before *Item) {
	l.change(e.Account, e.Label, func(known *Item) *Item {
		before = known
		item := l.itemOf(e)
		item.running = known != nil && known.running
		return item
	})
	return before
}

// restore goes back to what was known before a write that has failed. It may have been carried
// out: what comes due earlier in either form comes due then.
func (l *Ledger) restore(e *Entry, before *Item) {
	l.change(e.Account, e.Label, func(now *Item) *Item {
		if before == nil || now == nil {
			return now
		}
		item := *before
		item.running, item.failed = now.running, now.failed
		if now.Due.Before(item.Due) {
			item.Due = now.Due
		}
		return &item
	})
}

// Drop takes a key out of what is counted: it is gone, or was never made.
func (l *Ledger) Drop(account, label string) {
	l.change(account, label, func(*Item) *Item { return nil })
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.book(account); !b.whole() {
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

// update changes an item that is known.
func (l *Ledger) update(account, label string, change func(*Item)) {
	l.change(account, label, func(known *Item) *Item {
		if known == nil {
			return nil
		}
		item := *known
		change(&item)
		return &item
	})
}

// Hold keeps a slot of an owner for a request that is about to make a key, until it is released:
// the key is counted then, or was not made. most is how many leased keys the owner may have,
// those held included; 0: it is not asked.
func (l *Ledger) Hold(account, user string, most int) (release func(), count int, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := owner{account, user}
	used := l.slotsOf(of)
	if most > 0 && used.leased+used.held >= most {
		return nil, used.leased + used.held, false
	}
	used.held++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		used := l.slotsOf(of)
		used.held--
		l.release(of, used)
	}, used.leased + used.held, true
}

// Used is how many slots of an owner this mount's keys take, those held for requests included.
func (l *Ledger) Used(account, user string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if used, ok := l.owners[owner{account, user}]; ok {
		return used.settled + used.held
	}
	return 0
}

// LeasedOf is how many leased keys an owner has, and how many more are about to be made.
func (l *Ledger) LeasedOf(account, user string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if used, ok := l.owners[owner{account, user}]; ok {
		return used.leased + used.held
	}
	return 0
}

// ByRole is how many keys of each role are counted, and whether all of the mount are.
func (l *Ledger) ByRole() (counts map[string]int, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.roles), l.wholeHeld()
}

func (l *Ledger) wholeHeld() bool {
	for _, b := range l.books {
		if !b.whole() {
			return false
		}
	}
	return l.listed
}

// Select returns the items of an account, or of all where it is empty, that are wanted, by label.
func (l *Ledger) Select(account string, wanted func(*Item) bool) []Item {
	l.mu.Lock()
	defer l.mu.Unlock()
	var items []Item
	for name, b := range l.books {
		if account != "" && name != account {
			continue
		}
		for _, item := range b.items {
			if wanted(item) {
				items = append(items, *item)
			}
		}
	}
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

// Due are an account's leased keys that are past their date, the longest overdue first.
func (l *Ledger) Due(account string, now time.Time) []Item {
	return byDue(l.Select(account, func(i *Item) bool {
		return i.Leased() && i.known() && !i.unfinished() && !i.running && !now.Before(i.Due)
	}))
}

// Unfinished are the entries of requests of an account that have ended, and not well; last: also
// those that were put off. That of a request which still runs in this process is none of them,
// whatever the clock says.
func (l *Ledger) Unfinished(account string, now time.Time, last bool) []Item {
	return byDue(l.Select(account, func(i *Item) bool {
		return i.known() && i.unfinished() && !i.running && (last || !now.Before(i.Due))
	}))
}

func byDue(items []Item) []Item {
	slices.SortStableFunc(items, func(a, b Item) int { return a.Due.Compare(b.Due) })
	return items
}

// known tells that the entry could be read.
func (i *Item) known() bool { return i.Unreadable == "" && !i.unread }

func (i *Item) unfinished() bool { return i.begun || i.failed }

// Unfinished tells that nobody has settled the key yet: its request runs, or has left it.
func (i *Item) Unfinished() bool { return i.unfinished() }

// First tells that this is a first key, whose cloud account is not known yet.
func (i *Item) First() bool { return i.first }

// Running tells that the key's request is under way in this process.
func (i *Item) Running() bool { return i.running }

// Failed tells that the key's request has failed: the key is to go, whatever is stored of it.
func (i *Item) Failed() bool { return i.failed }

// Reset forgets all but the requests under way: this node is not the active one.
func (l *Ledger) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listed = false
	for account := range l.books {
		l.forgetHeld(account)
	}
}

// Forget does so for one account, whose entries another node has changed.
func (l *Ledger) Forget(account string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetHeld(account)
}

func (l *Ledger) forgetHeld(account string) {
	b := l.book(account)
	for label, item := range b.items {
		if !item.running {
			l.changeHeld(account, label, func(*Item) *Item { return nil })
		}
	}
	b.listed, b.unread, b.removed = false, nil, map[string]bool{}
}

// accountsIn lists the accounts that storage has entries of.
func accountsIn(ctx context.Context, s logical.Storage) ([]string, error) {
	names, err := s.List(ctx, Prefix)
	if err != nil {
		return nil, fmt.Errorf("listing the ledger: %w", err)
	}
	for i, name := range names {
		names[i] = strings.TrimSuffix(name, "/")
	}
	return names, nil
}

// Accounts are those that storage has entries of, and those that keys were begun for since.
func (l *Ledger) Accounts(ctx context.Context, s logical.Storage) ([]string, error) {
	l.mu.Lock()
	listed := l.listed
	l.mu.Unlock()
	var names []string
	if !listed {
		var err error
		if names, err = accountsIn(ctx, s); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		l.book(name)
	}
	l.listed = true
	return slices.Sorted(maps.Keys(l.books)), nil
}

// Whole tells whether every entry of an account was looked at.
func (l *Ledger) Whole(account string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book(account).whole()
}

// LoadNames makes sure that the label of every entry of the mount is known: one that storage does
// not give is known by its label alone.
func (l *Ledger) LoadNames(ctx context.Context, s logical.Storage) error {
	names, err := l.Accounts(ctx, s)
	if err != nil {
		return err
	}
	for _, name := range names {
		for more := true; more; {
			if more, err = l.step(ctx, s, name, false); err != nil && ctx.Err() != nil {
				return err
			}
		}
		if !l.Whole(name) {
			return fmt.Errorf("the ledger of account %q was not read to its end: %w", name, err)
		}
	}
	return nil
}

// Load makes the index of an account whole, or of every account of the mount where it is empty,
// for a request that needs it.
func (l *Ledger) Load(ctx context.Context, s logical.Storage, account string) error {
	names, err := l.Accounts(ctx, s)
	if err != nil {
		return err
	}
	for _, name := range names {
		for more := account == "" || account == name; more; {
			if more, err = l.step(ctx, s, name, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// LoadSome fills the index of an account as far as the context lets it: the next tick goes on
// where this one ends. An entry that cannot be read keeps no other from being seen.
func (l *Ledger) LoadSome(ctx context.Context, s logical.Storage, account string) error {
	var problems []error
	for ctx.Err() == nil {
		more, err := l.step(ctx, s, account, false)
		if err != nil && ctx.Err() == nil {
			problems = append(problems, err)
		}
		if !more {
			break
		}
	}
	return errors.Join(problems...)
}

// step reads one entry of an account, or lists them. need is a request's: it wants every entry,
// and those that storage did not give before are read once more.
func (l *Ledger) step(ctx context.Context, s logical.Storage, account string, need bool) (more bool, err error) {
	l.mu.Lock()
	b := l.book(account)
	l.mu.Unlock()
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if !l.isListed(b) {
		names, err := s.List(ctx, accountPrefix(account))
		if err != nil {
			return false, fmt.Errorf("listing the ledger of account %q: %w", account, err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		b.listed, b.unread = true, names
		return true, nil
	}
	label, found := l.nextUnread(b, need)
	if !found {
		return false, nil
	}
	e, err := read(ctx, s, Path(account, label))
	if err != nil && ctx.Err() != nil {
		return false, err // nothing was learned of it
	}
	return l.learn(b, account, label, e, err, need)
}

func (l *Ledger) isListed(b *book) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return b.listed
}

// nextUnread is the entry to read next: those that were listed, then those that storage did not
// give before.
func (l *Ledger) nextUnread(b *book, need bool) (label string, found bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(b.unread) > 0 {
		return b.unread[0], true
	}
	now := time.Now()
	for label, item := range b.items {
		if item.unread && (need || !now.Before(item.Due)) {
			return label, true
		}
	}
	return "", false
}

// learn takes over what a read of an entry has given.
func (l *Ledger) learn(b *book, account, label string, e *Entry, problem error, need bool) (more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var unreadable *UnreadableError
	if errors.As(problem, &unreadable) {
		problem = nil
	}
	if problem != nil && need {
		return false, problem // the request cannot do without it
	}
	if len(b.unread) > 0 && b.unread[0] == label {
		b.unread = b.unread[1:]
	}
	defer b.settle()
	known, there := b.items[label]
	if b.removed[label] || there && !known.unread {
		return true, problem // what this process has written since is newer
	}
	l.changeHeld(account, label, func(*Item) *Item {
		switch {
		case unreadable != nil:
			return l.blank(account, label, unreadable.Error())
		case problem != nil:
			item := l.blank(account, label, "")
			item.unread, item.Due = true, time.Now().Add(RereadAfter)
			return item
		case e == nil:
			return nil // removed since it was listed
		default:
			return l.itemOf(e)
		}
	})
	return true, problem
}

// settle forgets what went while the book was filled, once it is.
func (b *book) settle() {
	if b.whole() {
		b.removed = map[string]bool{}
	}
}

// blank is an item of which the label alone is known.
func (l *Ledger) blank(account, label, unreadable string) *Item {
	item := &Item{Label: label, Account: l.intern(account), Trouble: &Trouble{Unreadable: unreadable}}
	if parsed, err := keylabel.Parse(label); err == nil {
		item.Kind = parsed.Kind
	}
	return item
}

// Has tells whether any account has an entry of a label, read or not.
func (l *Ledger) Has(label string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.books {
		if _, known := b.items[label]; known {
			return true
		}
	}
	return false
}

// Overdue is when the key ended that has been stuck for the longest, and how many are.
func (l *Ledger) Overdue(account string) (count int, since time.Time) {
	for _, item := range l.Select(account, func(i *Item) bool { return i.Problem != "" }) {
		count++
		if since.IsZero() || item.StuckSince.Before(since) {
			since = item.StuckSince
		}
	}
	return count, since
}

// SortByKey orders items by their access keys.
func SortByKey(items []Item) {
	slices.SortFunc(items, func(a, b Item) int {
		return cmp.Or(strings.Compare(a.AccessKey, b.AccessKey), strings.Compare(a.Label, b.Label))
	})
}
