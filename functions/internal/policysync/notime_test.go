// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package policysync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
)

// crowded is a run over so many accounts that their shares are too short to open each of them.
func crowded(t *testing.T, test func(sync func() (Result, error))) {
	t.Helper()
	inTime(t, 1, func(t *testing.T, w *world, _ kept) {
		one := w.job.Accounts[0]
		w.job.Accounts = nil
		for i := range 20 {
			one.Name = fmt.Sprintf("account-%03d", i)
			w.job.Accounts = append(w.job.Accounts, one)
		}
		open := w.job.Connect
		w.job.Connect = func(ctx context.Context, account fleet.Account) (fleet.Cloud, func(), error) {
			<-time.After(5 * time.Second) // on the bubble's clock: Vault leases a key, and the cloud does not know it at once
			return open(ctx, account)
		}
		w.job.Settings.Wanted = 30 * day
		test(func() (Result, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			return Run(ctx, w.job)
		})
	})
}

// without are the accounts for which no time was left.
func without(result Result) (names []string) {
	for _, r := range result.Accounts {
		if strings.Contains(r.Problem, "no time was left for the account: give the function more time, or name fewer ACCOUNTS") {
			names = append(names, r.Account)
		}
	}
	return names
}

func TestAnAccountForWhichNoTimeWasLeft(t *testing.T) {
	t.Run("is no success", func(t *testing.T) {
		crowded(t, func(sync func() (Result, error)) {
			result, err := sync()
			left := without(result)
			var failed *fleet.FailedError
			if len(left) < 10 || !errors.As(err, &failed) || len(failed.Accounts) < len(left) {
				t.Errorf("no time was left for %q, and the error is %v", left, err)
			}
		})
	})
	t.Run("stands where it is listed", func(t *testing.T) {
		crowded(t, func(sync func() (Result, error)) {
			result, _ := sync()
			for i, r := range result.Accounts {
				if r.Account != fmt.Sprintf("account-%03d", i) {
					t.Errorf("result %d is of %s", i, r.Account)
				}
			}
		})
	})
	t.Run("has its turn in another run", func(t *testing.T) {
		crowded(t, func(sync func() (Result, error)) {
			result, _ := sync()
			left := without(result)
			for range 20 {
				<-time.After(6 * time.Hour) // on the bubble's clock
				result, _ := sync()
				now := without(result)
				left = slices.DeleteFunc(left, func(name string) bool { return !slices.Contains(now, name) })
			}
			if len(left) > 0 {
				t.Errorf("no run of five days has had time for %q", left)
			}
		})
	})
}
