// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// maxCompareTries is how often a comparison tries an identity that a tick is too short for, and comes no further with.
const maxCompareTries = 3

// each does the work on the identities that are left. What ctx has no time for stays left. An identity over which the
// cloud hangs goes behind the others, and after a few tries it is left out of the round: nothing of it was noted.
func (c *comparer) each(
	ctx context.Context, at *comparison, work func(context.Context, *account, *comparison, string) error,
) (problems []error) {
	for len(at.Left) > 0 && ctx.Err() == nil {
		a, err := c.identified(ctx, c.storage, c.name) // its key may have been rotated meanwhile
		if isCutShort(ctx, err) {
			return problems // before this identity
		}
		hadTime := timeLeft(ctx) >= time.Second // the pacer gives no turn that comes too late
		if err == nil {
			err = work(ctx, a, at, at.Left[0])
		}
		switch {
		case !isCutShort(ctx, err):
			problems = append(problems, err)
			at.Left = at.Left[1:]
		case hadTime && errors.Is(ctx.Err(), context.DeadlineExceeded) && !errors.Is(err, transport.ErrNoTurn):
			return append(problems, c.putBehind(at, err))
		default:
			return problems // in the middle of this identity
		}
	}
	return problems
}

// isCutShort tells that work has failed since its time was up, or its turn did not come: nothing was learned by it.
func isCutShort(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil || errors.Is(err, transport.ErrNoTurn))
}

// putBehind has the other identities come before one that has used up its time. A search that comes further is no try:
// the next goes on from there. err is why the identity is left out of this round; nil: it is not.
func (c *comparer) putBehind(at *comparison, cause error) (err error) {
	user := at.Left[0]
	at.Left = at.Left[1:]
	var search *provider.UnprovenError
	if !errors.As(cause, &search) || !search.Further {
		if at.Tries == nil {
			at.Tries = map[string]int{}
		}
		at.Tries[user]++
	}
	if at.Tries[user] < maxCompareTries {
		at.Left = append(at.Left, user)
		return nil
	}
	return fmt.Errorf("account %q: the comparison with its cloud leaves out %s until the next one: it was tried %d times, and a tick was too "+
		"short each time: %w", c.name, comparedName(user), maxCompareTries, cause)
}

// comparedName names an identity of a comparison to people.
func comparedName(user string) string {
	if user == usersIdentity {
		return "the users that were made for leases"
	}
	return identityName(user)
}
