// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

const (
	// pageRows is how many keys a page holds; those that stay are left to the CSV first.
	pageRows = 100_000
	// pageBytes is where a page ends whatever its names are: browsers open 40 MB, and not 100.
	pageBytes = 38 << 20
	// plainRows is how many keys stand in a page for readers without script, and plainUsers how many users.
	plainRows, plainUsers = 500, 1000
)

// Account is what one account's files are made of.
type Account struct {
	About   About
	Mode    string
	ModeWhy string
	Started time.Time
	Took    time.Duration
	Result  sweep.AccountResult
	Part    int // of an account that takes more than one invocation, from 0 on

	// Undecided tells that the plan is decided on later, with those of other accounts. Whether it was applied
	// stands on the run's page; where it was, the account's page is written again.
	Undecided bool
	// PlanAlone tells that the keys are those of a plan that is applied, and not all of the account's.
	PlanAlone bool

	// OwnersTold tells whether owners are told before their keys are switched off.
	OwnersTold bool
	// Unmatched are patterns of the run that protect nothing.
	Unmatched []string
	// WholeIDs shows access keys' ids as they are: who must act on them needs them.
	WholeIDs bool
	// Findings yields every key seen, and may be called again.
	Findings iter.Seq2[sweep.Finding, error]
}

// Sum is an account in numbers, as a run's index shows it. It is counted from the keys
// themselves, after the caps and with what became of them.
type Sum struct {
	Account   string    `json:"account"`
	Provider  string    `json:"provider"`
	AccountID string    `json:"account_id,omitempty"`
	Region    string    `json:"region,omitempty"`
	Part      int       `json:"part,omitempty"`
	Started   time.Time `json:"started,omitzero"`

	Seen         int `json:"seen"`
	Planned      int `json:"planned"` // would be changed, or were to be: those that a cap stopped too
	Look         int `json:"to_look_at"`
	Waiting      int `json:"in_quarantine"`
	Later        int `json:"left_to_later_runs"`
	SwitchedOff  int `json:"switched_off"`
	Deleted      int `json:"deleted"`
	Told         int `json:"owners_told"` // keys whose owners were told
	Undeletable  int `json:"undeletable"`
	Failed       int `json:"failed"`
	Refused      int `json:"delete_refused"` // of those failed: they stay switched off, and the next run tries again
	Unsettled    int `json:"unsettled"`      // changed meanwhile, or not reached
	NotReached   int `json:"not_reached"`    // of those unsettled: time ran out, or the account was given up before
	NeverExpires int `json:"never_expire"`
	UnreadUsers  int `json:"unread_users"`

	// PlannedByClass are the planned keys, for those who approve.
	PlannedByClass map[sweep.Class]int `json:"planned_by_class,omitempty"`

	Tripped string `json:"tripped,omitempty"`
	Partial bool   `json:"partial"`
	Problem string `json:"problem,omitempty"`
	Reached bool   `json:"reached"` // the run has come to it

	// LastGood is the last run that went over the whole account without a problem.
	LastGood time.Time `json:"last_good,omitzero"`
}

// key counts a key.
func (s *Sum) key(f sweep.Finding, became fate) {
	s.Seen++
	if f.Key().End().IsZero() {
		s.NeverExpires++
	}
	switch became {
	case fateLook:
		s.Look++
	case fateQuarantine:
		s.Waiting++
	case fateLater:
		s.Later++
	case fateOff:
		s.SwitchedOff++
	case fateDeleted, fateGone:
		s.Deleted++
	case fateUndeletable:
		s.Undeletable++
	case fateTold:
		s.Told++
	case fateDeleteRefused:
		s.Failed++
		s.Refused++
	case fateFailed, fateNotTold, fateOther:
		s.Failed++
	case fateDrifted:
		s.Unsettled++
	case fateNotReached:
		s.Unsettled++
		s.NotReached++
	}
	if fates()[became].Plan {
		s.Planned++
		s.PlannedByClass[f.Class]++
	}
}

// Add puts the parts of an account together.
func (s Sum) Add(o Sum) Sum {
	if !s.Reached {
		o.LastGood = cmp.Or(o.LastGood, s.LastGood)
		return o
	}
	for _, n := range [][2]*int{
		{&s.Seen, &o.Seen},
		{&s.Planned, &o.Planned},
		{&s.Look, &o.Look},
		{&s.Waiting, &o.Waiting},
		{&s.Later, &o.Later},
		{&s.SwitchedOff, &o.SwitchedOff},
		{&s.Deleted, &o.Deleted},
		{&s.Told, &o.Told},
		{&s.Undeletable, &o.Undeletable},
		{&s.Failed, &o.Failed},
		{&s.Refused, &o.Refused},
		{&s.Unsettled, &o.Unsettled},
		{&s.NotReached, &o.NotReached},
		{&s.NeverExpires, &o.NeverExpires},
		{&s.UnreadUsers, &o.UnreadUsers},
	} {
		*n[0] += *n[1]
	}
	both := map[sweep.Class]int{}
	for _, planned := range []map[sweep.Class]int{s.PlannedByClass, o.PlannedByClass} {
		for class, n := range planned {
			both[class] += n
		}
	}
	s.PlannedByClass, s.Part, s.Partial = both, max(s.Part, o.Part), o.Partial
	s.Tripped, s.Problem = cmp.Or(s.Tripped, o.Tripped), cmp.Or(s.Problem, o.Problem)
	return s
}

// Good tells whether the account was gone over whole, and without a problem.
func (s Sum) Good() bool {
	return s.Reached && !s.Partial && s.Problem == "" && s.Failed == 0 && s.UnreadUsers == 0 && s.Tripped == ""
}

// keyCounts are numbers of keys: small ones, since an account may have a hundred thousand users.
type keyCounts struct{ all, planned, look int32 }

// counted are the numbers with one key more.
func (c keyCounts) counted(view fateView) keyCounts {
	c.all++
	if view.Plan {
		c.planned++
	} else if view.Need {
		c.look++
	}
	return c
}

// gathered is what one pass over an account's keys has found.
type gathered struct {
	sum     Sum
	fates   []int
	classes map[sweep.Class]keyCounts
	users   map[string]keyCounts
	ages    []bar
	used    bool // whether it is known of any key when it was last used
	first   [][]keyJSON
}

func (a Account) newSum() Sum {
	r := a.Result
	return Sum{
		Account: r.Account, Provider: r.Provider, AccountID: r.AccountID, Region: r.Region, Part: a.Part,
		Started:     a.Started.UTC().Truncate(time.Second),
		UnreadUsers: r.Counts.UnreadUsers, Tripped: r.Tripped, Partial: r.Partial, Problem: r.Problem, Reached: true,
		PlannedByClass: map[sweep.Class]int{},
	}
}

func (a Account) gather() (*gathered, error) {
	views := fates()
	g := &gathered{
		sum: a.newSum(), fates: make([]int, len(views)), first: make([][]keyJSON, len(views)),
		classes: map[sweep.Class]keyCounts{}, users: map[string]keyCounts{},
	}
	for _, name := range sweep.Ages() {
		g.ages = append(g.ages, bar{name: name})
	}
	for f, err := range a.Findings {
		if err != nil {
			return nil, err
		}
		became := fateOf(f)
		g.sum.key(f, became)
		g.fates[became]++
		g.used = g.used || !f.Used.IsZero()
		age := &g.ages[sweep.AgeGroup(f.Created, a.Started)]
		age.n++
		if views[became].Plan {
			age.marked++
		}
		g.classes[f.Class] = g.classes[f.Class].counted(views[became])
		g.users[f.User] = g.users[f.User].counted(views[became])
		if len(g.first[became]) < plainRows {
			g.first[became] = append(g.first[became], showKey(f, a.Started, a.WholeIDs))
		}
	}
	if last := len(g.ages) - 1; g.ages[last].n == 0 {
		g.ages = g.ages[:last] // "unknown"
	}
	return g, nil
}

// plain are the rows for readers without script: those that need a person most first.
func (g *gathered) plain() []keyJSON {
	var all []keyJSON
	for _, rows := range g.first {
		all = append(all, rows...)
	}
	return all[:min(len(all), plainRows)]
}

// neediest are the users with most to do or to look at, plainUsers of them at most.
func (g *gathered) neediest() []string {
	need := func(name string) int32 { return g.users[name].planned + g.users[name].look }
	var names []string
	first := func() []string {
		slices.SortFunc(names, func(x, y string) int {
			return cmp.Or(cmp.Compare(need(y), need(x)), cmp.Compare(g.users[y].all, g.users[x].all), cmp.Compare(x, y))
		})
		return names[:min(len(names), plainUsers)]
	}
	for name := range g.users {
		if names = append(names, name); len(names) == 8*plainUsers {
			names = first()
		}
	}
	return first()
}

// Sum adds an account up without writing anything.
func (a Account) Sum() (Sum, error) {
	sum := a.newSum()
	for f, err := range a.Findings {
		if err != nil {
			return sum, err
		}
		sum.key(f, fateOf(f))
	}
	return sum, nil
}
