// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

func accounts(n int) (all []Account) {
	for i := range n {
		all = append(all, Account{Name: fmt.Sprintf("account-%03d", i)})
	}
	return all
}

// TestNoAccountOfALongListIsLeftOutForGood has runs whose time suffices for thirty of their accounts.
func TestNoAccountOfALongListIsLeftOutForGood(t *testing.T) {
	const took, seconds = time.Second, 30
	for name, every := range map[string]time.Duration{
		"every six hours": 6 * time.Hour, "every twelve hours": 12 * time.Hour, "every day": 24 * time.Hour, "every week": 7 * 24 * time.Hour,
	} {
		for _, n := range []int{100, 255, 256, 300} {
			t.Run(fmt.Sprintf("%d accounts, %s", n, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					all, waited := accounts(n), map[string]int{}
					most := 0
					for range 200 {
						next := time.Now().Add(every)
						ctx, cancel := context.WithTimeout(t.Context(), seconds*time.Second)
						run := Run{Settings: settings.Run{}, All: all, Began: time.Now()}
						for account, share := range run.Accounts(ctx) {
							if share.Over() {
								waited[account.Name]++
								most = max(most, waited[account.Name])
								continue
							}
							waited[account.Name] = 0
							<-time.After(took) // on the bubble's clock
						}
						cancel()
						<-time.After(time.Until(next))
					}
					if runs := n / seconds; most > 4*runs {
						t.Errorf("an account was left out %d times in a row, where %d runs have time for all", most, runs+1)
					}
				})
			})
		}
	}
}

func TestEachAccountComesFirstWithinABoundedNumberOfRuns(t *testing.T) {
	for name, every := range map[string]time.Duration{
		"every six hours": 6 * time.Hour, "every day": 24 * time.Hour, "every week": 7 * 24 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; n <= 50; n++ {
				at, last := time.Date(2026, 11, 29, 3, 17, 0, 0, time.UTC), make([]int, n)
				for run := 1; run <= 20*n; run++ {
					last[begin(at, n)] = run
					for i := range last {
						if waited := run - last[i]; waited > 4*n {
							t.Fatalf("of %d accounts, that at %d did not come first in %d runs", n, i, waited)
						}
					}
					at = at.Add(every)
				}
			}
		})
	}
}

func TestARunGoesOverEachOfItsAccountsOnce(t *testing.T) {
	names := func(ctx context.Context, run Run) (names []string) {
		for account := range run.Accounts(ctx) {
			names = append(names, account.Name)
		}
		return names
	}
	ends, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	began := time.Date(2026, 11, 29, 3, 17, 0, 0, time.UTC)
	listed := []string{"account-000", "account-001", "account-002", "account-003", "account-004"}

	t.Run("beginning with another one six hours later, and going round", func(t *testing.T) {
		first := names(ends, Run{All: accounts(5), Began: began})
		second := names(ends, Run{All: accounts(5), Began: began.Add(6 * time.Hour)})
		if first[0] == second[0] {
			t.Errorf("got %q, and then %q", first, second)
		}
		for _, got := range [][]string{first, second} {
			at := slices.Index(listed, got[0])
			if want := slices.Concat(listed[at:], listed[:at]); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
	t.Run("in their order where no time can run out", func(t *testing.T) {
		if got := names(t.Context(), Run{All: accounts(5), Began: began}); !slices.Equal(got, listed) {
			t.Errorf("got %q", got)
		}
	})
	t.Run("those alone that the settings name", func(t *testing.T) {
		run := Run{Settings: settings.Run{Accounts: listed[1:3]}, All: accounts(5), Began: began}
		if got := names(ends, run); len(got) != 2 || !slices.Contains(got, listed[1]) || !slices.Contains(got, listed[2]) {
			t.Errorf("got %q", got)
		}
	})
	t.Run("none of none", func(t *testing.T) {
		if got := names(ends, Run{Began: began}); got != nil {
			t.Errorf("got %q", got)
		}
	})
}
