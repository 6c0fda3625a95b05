// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

func listOf(users ...User) iter.Seq2[User, error] {
	return func(yield func(User, error) bool) {
		for _, u := range users {
			if !yield(u, nil) {
				return
			}
		}
	}
}

func namesOf(users []User) (names []string) {
	for _, u := range users {
		names = append(names, u.Name)
	}
	return names
}

func TestWhoIsLeftToBeLookedAt(t *testing.T) {
	began := time.Now()
	a, b, c := User{ID: "1", Name: "a"}, User{ID: "2", Name: "b"}, User{ID: "3", Name: "c"}
	instance := keylabel.NewID()
	newLabel := func(kind keylabel.Kind) string { return keylabel.New(instance, kind).String() }
	job := User{ID: "4", Name: "job", Label: newLabel(keylabel.KindUser)}
	leased := newLabel(keylabel.KindLease)
	cases := map[string]struct {
		before func(*census)
		ref    KeyRef
		want   []string
	}{
		"all, before any look":                          {want: []string{"a", "b", "c"}},
		"the likely owner first":                        {ref: KeyRef{UserID: "3"}, want: []string{"c", "a", "b"}},
		"not who was looked at":                         {before: func(s *census) { s.note(b, began) }, want: []string{"a", "c"}},
		"who was looked at before the search began":     {before: func(s *census) { s.note(b, began.Add(-1)) }, want: []string{"a", "b", "c"}},
		"who could not be looked at, behind the others": {before: func(s *census) { s.postpone(a) }, want: []string{"b", "c", "a"}},
		"the one that failed first, before the others":  {before: func(s *census) { s.postpone(c); s.postpone(b); s.postpone(a) }, want: []string{"c", "b", "a"}},
		"the likely owner behind, where it failed":      {before: func(s *census) { s.postpone(a) }, ref: KeyRef{UserID: "1"}, want: []string{"b", "c", "a"}},
		"a lease's user, of the key with its label":     {ref: KeyRef{Label: job.Label}, want: []string{"a", "b", "c", "job"}},
		"not so of another lease's key":                 {ref: KeyRef{Label: newLabel(keylabel.KindUser)}, want: []string{"a", "b", "c"}},
		"a lease's user where it is the likely owner":   {ref: KeyRef{UserID: "4"}, want: []string{"job", "a", "b", "c"}},
		"a lease's user, of a key without a label":      {ref: KeyRef{ID: "AK"}, want: []string{"a", "b", "c", "job"}},
		"so of a key that was handed over":              {ref: KeyRef{Label: keylabel.HandedOver(leased)}, want: []string{"a", "b", "c", "job"}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			seen := new(census)
			if test.ref.Label == "" && test.ref.ID == "" {
				test.ref.Label = leased
			}
			if _, err := seen.read(listOf(c, job, a, b), test.ref); err != nil {
				t.Fatal(err)
			}
			if test.before != nil {
				test.before(seen)
			}
			if got := namesOf(seen.left(test.ref, began)); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestAListOfUsersDropsTheLooksThatItDoesNotConfirm(t *testing.T) {
	a, b := User{ID: "1", Name: "a"}, User{ID: "2", Name: "b"}
	leases := KeyRef{Label: keylabel.New(keylabel.NewID(), keylabel.KindLease).String()}
	job := User{ID: "4", Name: "job", Label: keylabel.New(keylabel.NewID(), keylabel.KindUser).String()}
	cases := map[string]struct {
		ref   KeyRef // of a lease where there is none
		list  []User
		agree bool
		left  []string
	}{
		"the same list":           {list: []User{b, a}, agree: true},
		"names that were swapped": {list: []User{{ID: "1", Name: "b"}, {ID: "2", Name: "a"}}, left: []string{"b", "a"}},
		"one that was renamed":    {list: []User{a, {ID: "2", Name: "x"}}, left: []string{"x"}},
		"one that is new":         {list: []User{a, b, {ID: "3", Name: "c"}}, left: []string{"c"}},
		"one that is gone":        {list: []User{a}},
		"one made for a lease":    {list: []User{a, b, job}, agree: true},
		"one made for this lease": {ref: KeyRef{Label: job.Label}, list: []User{a, b, job}, left: []string{"job"}},
		"one made for a lease, which may own a key without a label": {ref: KeyRef{ID: "AK"}, list: []User{a, b, job}, left: []string{"job"}},
		"a name that went to another":                               {list: []User{a, {ID: "5", Name: "b"}}, left: []string{"b"}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			if test.ref == (KeyRef{}) {
				test.ref = leases
			}
			began := time.Now()
			seen := new(census)
			if agree, err := seen.read(listOf(a, b), test.ref); agree || err != nil {
				t.Fatalf("got %v, %v of the first list", agree, err)
			}
			seen.note(a, began)
			seen.note(b, began)
			agree, err := seen.read(listOf(test.list...), test.ref)
			if left := namesOf(seen.left(test.ref, began)); err != nil || agree != test.agree || !slices.Equal(left, test.left) {
				t.Errorf("got %v, %v and %q left, want %v and %q", agree, err, left, test.agree, test.left)
			}
		})
	}
}

func TestAListThatFailsChangesNothing(t *testing.T) {
	seen := new(census)
	failing := func(yield func(User, error) bool) {
		if yield(User{ID: "1", Name: "a"}, nil) {
			yield(User{}, errors.New("no"))
		}
	}
	if agree, err := seen.read(failing, KeyRef{}); agree || err == nil || seen.last != nil {
		t.Errorf("got %v, %v and %v", agree, err, seen.last)
	}
}
