// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"errors"
	"iter"
	"slices"
	"testing"
	"time"
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
	job := User{ID: "4", Name: "job", Label: "label"}
	cases := map[string]struct {
		before func(*census)
		ref    KeyRef
		want   []string
	}{
		"all, before any look":                            {want: []string{"a", "b", "c"}},
		"the likely owner first":                          {ref: KeyRef{UserID: "3"}, want: []string{"c", "a", "b"}},
		"not who was looked at":                           {before: func(s *census) { s.note(b, began) }, want: []string{"a", "c"}},
		"who was looked at before the search began":       {before: func(s *census) { s.note(b, began.Add(-1)) }, want: []string{"a", "b", "c"}},
		"who could not be looked at, behind the others":   {before: func(s *census) { s.postpone(a) }, want: []string{"b", "c", "a"}},
		"the one that failed first, before the others":    {before: func(s *census) { s.postpone(c); s.postpone(b); s.postpone(a) }, want: []string{"c", "b", "a"}},
		"the likely owner behind, where it failed":        {before: func(s *census) { s.postpone(a) }, ref: KeyRef{UserID: "1"}, want: []string{"b", "c", "a"}},
		"a user that was made for the lease of the label": {ref: KeyRef{Label: "label"}, want: []string{"a", "b", "c", "job"}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			seen := new(census)
			if _, err := seen.read(listOf(c, job, a, b)); err != nil {
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
	cases := map[string]struct {
		list  []User
		agree bool
		left  []string
	}{
		"the same list":               {[]User{b, a}, true, nil},
		"names that were swapped":     {[]User{{ID: "1", Name: "b"}, {ID: "2", Name: "a"}}, false, []string{"b", "a"}},
		"one that was renamed":        {[]User{a, {ID: "2", Name: "x"}}, false, []string{"x"}},
		"one that is new":             {[]User{a, b, {ID: "3", Name: "c"}}, false, []string{"c"}},
		"one that is gone":            {[]User{a}, false, nil},
		"one made for a lease":        {[]User{a, b, {ID: "4", Name: "job", Label: "l"}}, true, nil},
		"a name that went to another": {[]User{a, {ID: "5", Name: "b"}}, false, []string{"b"}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			seen := new(census)
			if agree, err := seen.read(listOf(a, b)); agree || err != nil {
				t.Fatalf("got %v, %v of the first list", agree, err)
			}
			seen.note(a, began)
			seen.note(b, began)
			agree, err := seen.read(listOf(test.list...))
			if left := namesOf(seen.left(KeyRef{}, began)); err != nil || agree != test.agree || !slices.Equal(left, test.left) {
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
	if agree, err := seen.read(failing); agree || err == nil || seen.last != nil {
		t.Errorf("got %v, %v and %v", agree, err, seen.last)
	}
}
