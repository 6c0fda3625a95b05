// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// proofRounds bounds how often one call reads the list of users anew: where users are renamed
	// all the time, two lists may never agree.
	proofRounds = 4
	// maxSearches bounds how many searches are remembered; what is forgotten starts anew.
	maxSearches = 10_000
)

// Prover is the one protocol by which a key is proven gone. A cloud's client has one, and gives
// it its calls as a Directory. It remembers, by the ids of users, whose keys were looked at: a
// large account takes more calls than one try has time for. All searches share the looking.
type Prover struct {
	cloud  Directory
	recent *Recent      // what the client has made
	turn   chan *census // one search at a time: those that wait make use of what it sees

	mu    sync.Mutex           // never held while waiting
	began map[string]time.Time // the searches by the key's id or label: a look that is older proves nothing
}

// NewProver returns a prover. It makes no call.
func NewProver(cloud Directory, recent *Recent) *Prover {
	p := &Prover{cloud: cloud, recent: recent, turn: make(chan *census, 1), began: map[string]time.Time{}}
	p.turn <- new(census)
	return p
}

// OnKey makes a call on the key of ref, by whatever name its owner goes. It fails with NotFound
// only where the key is proven gone.
func (p *Prover) OnKey(ctx context.Context, ref KeyRef, call func(context.Context, KeyRef) error) error {
	p.recent.Hear(ref.mark(), ref.Made)
	cause := call(ctx, ref)
	if KindOf(cause) != KindNotFound {
		return cause
	}
	key, found, err := p.FindKey(ctx, ref)
	switch {
	case err != nil:
		return err
	case !found:
		return cause
	case key.User == ref.User || p.cloud.ListsKeysByID():
		return notTheKind(fmt.Errorf("access key %s is still listed: %w", ref.ID, cause))
	}
	ref.User = key.User
	if err = call(ctx, ref); KindOf(err) == KindNotFound {
		return notTheKind(fmt.Errorf("access key %s was found under user %q a moment ago: %w", ref.ID, ref.User, err))
	}
	return err
}

// GoneIsDone makes a success of NotFound, for OnKey's callers to whom a key that is gone is one.
func GoneIsDone(err error) error {
	if KindOf(err) == KindNotFound {
		return nil
	}
	return err
}

// FindKey implements Finder.
//
//	(1) the account must be the key's own: another knows none of our keys
//	(2) the caller's own key: its list decides, where that holds the signing key
//	(3) the owner's id is certain: that user's keys decide, under whatever name;
//	    no such user: the key went with it, since no user who has keys can be deleted
//	(4) else: the keys under the name, or the caller's where there is none, then those of all users, remembered by id,
//	    until two lists of users agree
//
// Where keys are listed by name, the account's owner is in no list of users (OUTSCALE's root), and its keys are shown to itself alone:
// a key that may be the owner's is not gone because another finds it nowhere.
//
// Of a key that was made seconds ago nothing proves that it is gone: no list, of keys or users, need show it yet.
func (p *Prover) FindKey(ctx context.Context, ref KeyRef) (key Key, found bool, err error) {
	p.recent.Hear(ref.mark(), ref.Made)
	settling := p.recent.Has(ref.mark())
	key, found, err = p.findKey(ctx, ref)
	if err == nil && !found && settling {
		err = p.unproven(ref, nil, NotYetKnown("FindKey", errors.New("no list shows it")))
	}
	if settling {
		p.end(ref) // what was looked at until now counts no longer when the next search begins
	}
	return key, found, err
}

func (p *Prover) findKey(ctx context.Context, ref KeyRef) (key Key, found bool, err error) {
	if ref.mark() == "" {
		return Key{}, false, p.unproven(ref, nil, errors.New("neither its id nor its label is known"))
	}
	if err := p.rightAccount(ctx, ref); err != nil {
		return Key{}, false, p.unproven(ref, nil, err)
	}
	switch {
	case ref.UserID != "" && ref.UserIDCertain:
		key, found, err = p.ofUser(ctx, ref)
	case ref.User == "" && !ref.AnyUser:
		key, found, err = p.ofCaller(ctx, ref)
	default:
		return p.ofAnybody(ctx, ref)
	}
	if err != nil {
		return Key{}, false, p.unproven(ref, nil, err)
	}
	return key, found, nil
}

func (p *Prover) rightAccount(ctx context.Context, ref KeyRef) error {
	account, err := p.cloud.AccountID(ctx)
	if err == nil && account != ref.AccountID {
		return fmt.Errorf("it belongs to cloud account %s, but the configured key to %s", ref.AccountID, account)
	}
	return err
}

// ofCaller is step (2). A list that lacks the key that has just signed for it is not whole.
func (p *Prover) ofCaller(ctx context.Context, ref KeyRef) (key Key, found bool, err error) {
	keys, err := p.cloud.KeysOf(ctx, User{})
	if err != nil {
		return Key{}, false, err
	}
	if key, found = pick(keys, ref); found {
		return key, true, nil
	}
	if p.cloud.SigningKey() != "" && !p.signsIn(keys) {
		return Key{}, false, errors.New("the list of the caller's own keys lacks the key that signs")
	}
	return Key{}, false, nil
}

// signsIn tells that the key that signs is one of these.
func (p *Prover) signsIn(keys []Key) bool {
	return slices.ContainsFunc(keys, func(k Key) bool { return k.ID == p.cloud.SigningKey() })
}

// ofUser is step (3). Where keys are listed by name, the name must be the user's before and
// after, or the list was another's.
func (p *Prover) ofUser(ctx context.Context, ref KeyRef) (key Key, found bool, err error) {
	user := User{ID: ref.UserID, Name: ref.User}
	if !p.cloud.ListsKeysByID() {
		user, err = p.cloud.UserByID(ctx, ref.UserID)
	}
	for range proofRounds {
		if KindOf(err) == KindNotFound {
			return Key{}, false, nil
		}
		if err != nil {
			return Key{}, false, err
		}
		keys, listErr := p.cloud.KeysOf(ctx, user)
		if listErr != nil && KindOf(listErr) != KindNotFound { // renamed or deleted meanwhile
			return Key{}, false, listErr
		}
		if key, found = pick(keys, ref); found {
			key.User, key.UserID = user.Name, user.ID
			return key, true, nil
		}
		if listErr == nil && p.cloud.ListsKeysByID() {
			return Key{}, false, nil
		}
		was := user.Name
		if user, err = p.cloud.UserByID(ctx, ref.UserID); err == nil && listErr == nil && user.Name == was {
			return Key{}, false, nil
		}
	}
	return Key{}, false, fmt.Errorf("the keys of its user %q cannot be listed, or it is renamed all the time", user.Name)
}

// ofAnybody is step (4).
func (p *Prover) ofAnybody(ctx context.Context, ref KeyRef) (key Key, found bool, err error) {
	since := p.begin(ref)
	if ref.AnyUser {
		key, found, err = p.ofCaller(ctx, ref)
	} else {
		key, found, err = p.ofName(ctx, ref)
	}
	if err != nil {
		return Key{}, false, p.unproven(ref, nil, err)
	}
	if found {
		p.end(ref)
		return key, true, nil
	}
	var seen *census
	select {
	case seen = <-p.turn:
	case <-ctx.Done():
		return Key{}, false, p.unproven(ref, nil, ctx.Err())
	}
	defer func() { p.turn <- seen }()
	before := seen.looks
	key, found, err = p.search(ctx, seen, ref, since)
	final := err == nil && !found && ref.AnyUser && !p.cloud.ListsKeysByID() && seen.caller != ""
	if final {
		err = fmt.Errorf("the key that signs is user %q's, to which the keys of the account's owner are not shown", seen.caller)
	}
	if err != nil {
		return Key{}, false, p.unproven(ref, &UnprovenError{
			Looked: len(seen.last) - len(seen.left(ref, since)), Users: len(seen.last), Further: seen.looks > before,
			Final: final && !p.recent.Has(ref.mark()), // a key of seconds ago may be shown yet
		}, err)
	}
	p.end(ref)
	return key, found, nil
}

// ofName looks at the keys under the name that the owner had. Nobody may bear it any more.
func (p *Prover) ofName(ctx context.Context, ref KeyRef) (key Key, found bool, err error) {
	keys, err := p.cloud.KeysOf(ctx, User{Name: ref.User})
	if err != nil && KindOf(err) != KindNotFound {
		return Key{}, false, err
	}
	key, found = pick(keys, ref)
	return key, found, nil
}

// search looks at the keys of all users, until two lists of users agree.
func (p *Prover) search(ctx context.Context, seen *census, ref KeyRef, since time.Time) (key Key, found bool, err error) {
	for range proofRounds {
		var unlisted error // gone or renamed meanwhile: the next list tells
		for _, user := range seen.left(ref, since) {
			at := time.Now()
			keys, err := p.cloud.KeysOf(ctx, user)
			if KindOf(err) == KindNotFound {
				unlisted = fmt.Errorf("the keys of user %q cannot be listed although it exists: %w", user.Name, err)
				continue
			}
			if err != nil {
				seen.postpone(user)
				return Key{}, false, err
			}
			if key, found = pick(keys, ref); found {
				return key, true, nil
			}
			if p.signsIn(keys) {
				seen.caller = user.Name
			}
			seen.note(user, at)
		}
		agree, err := seen.read(p.cloud.ListUsers(ctx), ref)
		if err != nil {
			return Key{}, false, err
		}
		switch left := seen.left(ref, since); {
		case agree && len(left) == 0:
			return Key{}, false, nil
		case agree && unlisted != nil:
			return Key{}, false, unlisted
		}
	}
	return Key{}, false, errors.New("no two lists of the account's users agree: they are changed all the time")
}

// begin returns when the search for a key began.
func (p *Prover) begin(ref KeyRef) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, searched := p.began[ref.mark()]
	if searched {
		return since
	}
	if len(p.began) >= maxSearches {
		clear(p.began)
	}
	since = time.Now()
	p.began[ref.mark()] = since
	return since
}

func (p *Prover) end(ref KeyRef) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.began, ref.mark())
}

// unproven says why a search has stopped.
func (p *Prover) unproven(ref KeyRef, far *UnprovenError, cause error) error {
	if far == nil {
		far = new(UnprovenError)
	}
	far.Key, far.Err = ref.mark(), notTheKind(cause)
	return far
}

// mark is what a key is looked for by.
func (r KeyRef) mark() string { return cmp.Or(r.ID, r.Label) }

// pick finds the key of ref in a list.
func pick(keys []Key, ref KeyRef) (key Key, found bool) {
	at := slices.IndexFunc(keys, func(k Key) bool {
		return ref.ID != "" && k.ID == ref.ID || ref.ID == "" && ref.Label != "" && k.Label == ref.Label
	})
	if at < 0 {
		return Key{}, false
	}
	return keys[at], true
}

// notTheKind keeps an error that could not prove an absence from being taken for the absence,
// by who looks at the kind alone.
func notTheKind(err error) error {
	if KindOf(err) != KindNotFound {
		return err
	}
	return &Error{Kind: KindUnknown, Op: "the proof that a key is gone", Err: err}
}
