// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

// census is what the searches of an account have seen of its users, by their ids: a name that
// goes from one user to another takes no look along.
type census struct {
	last   map[string]User // the last list of users; nil: none was read
	looked map[string]look
	failed map[string]int // whose keys could not be listed, and at which failure: they go behind the others
	fails  int
	looks  int    // how many there were, ever
	caller string // the user in whose list the key stood that signs; empty: in nobody's that was looked at
}

// look is a look at one user's keys, listed under a name. Whether the name was that user's is
// only known once a later list of users has it so still.
type look struct {
	name string
	at   time.Time // before the keys were asked for
}

// note keeps a look.
func (c *census) note(user User, at time.Time) {
	if c.looked == nil {
		c.looked = map[string]look{}
	}
	c.looked[user.ID] = look{name: user.Name, at: at}
	delete(c.failed, user.ID)
	c.looks++
}

// postpone puts a user behind the others: the cloud may hang over it.
func (c *census) postpone(user User) {
	if c.failed == nil {
		c.failed = map[string]int{}
	}
	c.fails++
	c.failed[user.ID] = c.fails
}

// left are the users of the last list that may own the key of ref and whose keys were not looked at since, the likely owner first.
func (c *census) left(ref KeyRef, since time.Time) []User {
	var left []User
	for id, user := range c.last {
		if !mayOwn(user, ref) {
			continue
		}
		if look, ok := c.looked[id]; !ok || look.at.Before(since) {
			left = append(left, user)
		}
	}
	rank := func(u User) int {
		if u.ID == ref.UserID && c.failed[u.ID] == 0 {
			return -1
		}
		return c.failed[u.ID]
	}
	slices.SortFunc(left, func(a, b User) int { return cmp.Or(rank(a)-rank(b), cmp.Compare(a.ID, b.ID)) })
	return left
}

// read takes a new list of users, and drops every look under a name that is not that user's any
// more. It tells whether the list has the same possible owners of the key of ref as the one before: a page that shifts while a list is
// read hides a user from it, but not the same one from two.
func (c *census) read(users iter.Seq2[User, error], ref KeyRef) (agree bool, err error) {
	list := map[string]User{}
	for user, err := range users {
		if err != nil {
			return false, err
		}
		list[user.ID] = User{ID: user.ID, Name: user.Name, Label: user.Label}
	}
	agree = c.last != nil && maps.Equal(owners(c.last, ref), owners(list, ref))
	maps.DeleteFunc(c.looked, func(id string, look look) bool { return list[id].Name != look.name })
	maps.DeleteFunc(c.failed, func(id string, _ int) bool { return list[id].ID == "" })
	c.last = list
	return agree, nil
}

// owners are the users that may own the key of ref.
func owners(users map[string]User, ref KeyRef) map[string]User {
	kept := maps.Clone(users)
	maps.DeleteFunc(kept, func(_ string, user User) bool { return !mayOwn(user, ref) })
	return kept
}

// mayOwn leaves out the users that were made for one lease, which come and go by the thousand. Theirs is the key of that lease, which
// has their label; a key that somebody else has labelled, or nobody, may be anyone's.
func mayOwn(user User, ref KeyRef) bool {
	if user.Label == "" || user.Label == ref.Label || user.ID == ref.UserID {
		return true
	}
	_, err := keylabel.Parse(ref.Label)
	return err != nil
}
