// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"fmt"
	"iter"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// share leaves out of the plan what one user has too much of. Whoever can label keys as the engine's
// could fill the plan with his own otherwise, and the caps would stop it each night. Where the
// ledger is in doubt, it leaves out the keys that only the ledger condemns.
func (w *walk) share(done *spool, dir string, doubt bool) error {
	whole := w.plan
	defer func() { _ = whole.close() }() // it has no name, and nobody reads it again
	most, err := w.mostOfEach(whole, doubt)
	if err != nil {
		return err
	}
	if w.plan, err = newSpool(dir); err != nil {
		return err
	}
	user, taken := "", 0
	for f, err := range whole.read() {
		if err != nil {
			return err
		}
		if f.User != user { // whose keys stand together
			user, taken = f.User, 0
		}
		to, limit := w.plan, most(f.User)
		switch {
		case doubt && f.Class == ClassOrphan:
			to, f.Outcome, f.Detail = done, OutcomeNotReached, "the ledger is in doubt, and nothing else condemns the key"
			w.counts.Planned--
			w.counts.done(f.Outcome)
		case taken >= limit:
			to, f.Outcome, f.Detail = done, OutcomeLeftOut, fmt.Sprintf("its user has more than %d keys in the plan (USER_MAX_KEYS, "+
				"half of it, or what the caps leave him): a later run does it", limit)
			w.counts.Planned--
			w.counts.LeftOut++
		default:
			taken++
		}
		if err := to.add(f); err != nil {
			return err
		}
	}
	return nil
}

// mostOfEach tells how many keys of each user a plan may change. The user with the most gets no more
// than what the caps leave him: else the few of the others, which alone are allowed, would be
// refused together with his.
func (w *walk) mostOfEach(plan *spool, doubt bool) (func(user string) int, error) {
	planned, top := 0, userPlan{}
	for one, err := range byUser(plan, doubt) {
		if err != nil {
			return nil, err
		}
		if planned += one.keys; one.keys > top.keys || one.keys == top.keys && one.user < top.user {
			top = one
		}
	}
	most, total := mostOfUser(w.job.Settings, planned, w.counts.Seen), 0
	for one, err := range byUser(plan, doubt) {
		if err != nil {
			return nil, err
		}
		total += min(one.keys, most)
	}
	ofTop := most
	if rest := total - min(top.keys, most); w.job.Settings.UserMaxKeys > 0 && total > capOf(w.job.Settings, w.counts.Seen) {
		ofTop = max(0, min(most, capOf(w.job.Settings, w.counts.Seen)-rest))
		if rest > capOf(w.job.Settings, w.counts.Seen) {
			ofTop = most // the others are too many by themselves, and the cap is to say so
		}
	}
	return func(user string) int {
		if user == top.user {
			return ofTop
		}
		return most
	}, nil
}

// userPlan is how many keys of one user a plan has.
type userPlan struct {
	user string
	keys int
}

// byUser goes over the users of a plan, in which the keys of each stand together: the walk looks at no user twice. In a doubt, orphans are
// left out.
func byUser(plan *spool, doubt bool) iter.Seq2[userPlan, error] {
	return func(yield func(userPlan, error) bool) {
		var one userPlan
		for f, err := range plan.read() {
			if err != nil {
				yield(userPlan{}, err)
				return
			}
			if f.User != one.user {
				if one.keys > 0 && !yield(one, nil) {
					return
				}
				one = userPlan{user: f.User}
			}
			if !doubt || f.Class != ClassOrphan {
				one.keys++
			}
		}
		if one.keys > 0 {
			yield(one, nil)
		}
	}
}

// Tripped holds a whole plan against the caps before its first call, so that a wrong setting changes
// nothing at all rather than a hundred keys. Reaching a cap is allowed, passing it is not,
// and nothing is rounded: of four keys, one is 25 percent. It says why, or nothing.
func Tripped(s settings.Sweep, planned, seen int) string {
	switch {
	case planned > s.MaxKeys:
		return fmt.Sprintf("the plan changes %d keys, and MAX_KEYS is %d", planned, s.MaxKeys)
	case planned >= leastPlan && planned*100 > s.MaxPercent*seen:
		return fmt.Sprintf("the plan changes %d of %d keys, and MAX_PERCENT is %d", planned, seen, s.MaxPercent)
	default:
		return ""
	}
}

// RunTripped holds the plans of all accounts together against the caps, in the same way: what is a small
// change in each account may be one mistake in all of them.
func RunTripped(s settings.Sweep, planned, seen int) string {
	switch {
	case planned > s.RunMaxKeys:
		return fmt.Sprintf("the plans change %d keys together, and RUN_MAX_KEYS is %d", planned, s.RunMaxKeys)
	case planned >= leastPlan && planned*100 > s.RunMaxPercent*seen:
		return fmt.Sprintf("the plans change %d of %d keys, and RUN_MAX_PERCENT is %d", planned, seen, s.RunMaxPercent)
	default:
		return ""
	}
}

// leastPlan is how many keys a plan has before a share of anything means something: of three
// keys, one is a third.
const leastPlan = 5

// mostOfUser is how many keys of one user a plan changes: USER_MAX_KEYS, half of the plan, and
// half of what the caps allow it, so that no one user can bring it to them.
func mostOfUser(s settings.Sweep, planned, seen int) int {
	if planned < leastPlan || s.UserMaxKeys == 0 {
		return planned
	}
	return min(s.UserMaxKeys, max(1, min(planned, capOf(s, seen))/2))
}

// capOf is how many keys of an account the caps allow to be changed.
func capOf(s settings.Sweep, seen int) int {
	return min(s.MaxKeys, max(leastPlan-1, s.MaxPercent*seen/100))
}
