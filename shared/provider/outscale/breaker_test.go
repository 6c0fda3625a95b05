// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// deadKeys are the ways in which the engine's own key stops to work.
var deadKeys = map[string]struct {
	rules cloudsim.Rules
	die   func(w *world, own *cloudsim.Credentials)
	kind  provider.Kind
	extra int // calls that put the first refusal to the test
}{
	"deleted": {
		die:  func(w *world, own *cloudsim.Credentials) { w.account.DeleteKey(own.AccessKey) },
		kind: provider.KindKeyUnclear, extra: 1,
	},
	"with a wrong secret": {
		die:  func(_ *world, own *cloudsim.Credentials) { own.SecretKey = "WRONG" + own.SecretKey[5:] },
		kind: provider.KindKeyRefused,
	},
	"made inactive": {
		die: func(w *world, own *cloudsim.Credentials) {
			*own = w.account.AddKey(cloudsim.KeySpec{Inactive: true})
		},
		kind: provider.KindKeyRefused,
	},
	"expired, answered like an unknown one": {
		rules: cloudsim.Rules{UnknownForDeadKeys: true},
		die: func(w *world, own *cloudsim.Credentials) {
			*own = w.account.AddKey(cloudsim.KeySpec{Created: later(-2 * time.Hour), Expires: later(-time.Hour)})
		},
		kind: provider.KindKeyUnclear, extra: 1,
	},
}

func TestADeadKeyUnderFiftyConcurrentCalls(t *testing.T) {
	for name, death := range deadKeys {
		for _, perSecond := range []float64{2, 5} {
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, cloudsim.WithRules(death.rules))
					own := w.account.AddKey(cloudsim.KeySpec{})
					death.die(w, &own)
					w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Delay, Delay: 100 * time.Millisecond})
					client := w.as(t, own, func(c *Config) { c.PerSecond = perSecond })

					var group sync.WaitGroup
					for range 50 {
						group.Go(func() {
							_, err := client.CreateKey(t.Context(), provider.KeySpec{User: testUser})
							if kind := provider.KindOf(err); kind != death.kind && kind != provider.KindKeyRefused && kind != provider.KindLockedOut {
								t.Errorf("got %v of kind %q", err, kind)
							}
						})
					}
					group.Wait()
					if sent := len(w.cloud.Calls()); sent > 1+death.extra {
						t.Errorf("%d calls with a dead key reached the cloud, and the first one was refused", sent)
					}
					if w.account.Locked() {
						t.Error("the account is locked")
					}
				})
			})
		}
	}
}

func TestAKeyThatDiesUnderCallsAtTheDefaultPaceLocksNothing(t *testing.T) {
	for name, death := range deadKeys {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, cloudsim.WithRules(death.rules))
				own := w.account.AddKey(cloudsim.KeySpec{})
				w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Delay, Delay: 300 * time.Millisecond})
				client := w.as(t, own, func(c *Config) { c.PerSecond = 5 })
				_, err := client.ListKeys(t.Context(), "")
				mustDo(t, err)
				var group sync.WaitGroup
				for range 20 {
					group.Go(func() { _, _ = client.ListKeys(t.Context(), "") })
				}
				pass(time.Second)
				w.account.DeleteKey(own.AccessKey)
				group.Wait()
				for range 600 { // ten minutes of clients that do not give up
					_, _ = client.ListKeys(t.Context(), "")
					pass(time.Second)
				}
				if w.account.Locked() {
					t.Error("the account is locked")
				}
			})
		})
	}
}

// The lock-out is the harsher reading of OUTSCALE's pages: nothing but a success makes the cloud forget a refusal.
func TestADeadKeyLocksNobodyForHalfAnHourAndThenForMinutesADay(t *testing.T) {
	for name, death := range deadKeys {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, cloudsim.WithRules(death.rules))
				own := w.account.AddKey(cloudsim.KeySpec{})
				death.die(w, &own)
				client := w.as(t, own)
				locked := time.Duration(0)
				for start := time.Now(); time.Since(start) < 24*time.Hour; pass(5 * time.Second) {
					if _, err := client.ListKeys(t.Context(), ""); err == nil {
						t.Fatal("a dead key works")
					}
					if w.account.Locked() {
						locked += 5 * time.Second
					}
					switch lasted := time.Since(start); {
					case lasted < 30*time.Minute && locked > 0:
						t.Fatalf("the account is locked after %s", lasted)
					case lasted < 8*time.Hour && locked > time.Minute+5*time.Second:
						t.Fatalf("the account was locked for %s within %s", locked, lasted)
					}
				}
				if sent := len(w.cloud.Calls()); sent > 10 || locked > 3*time.Minute+10*time.Second {
					t.Errorf("%d calls reached the cloud in a day, and the account was locked for %s", sent, locked)
				}
			})
		})
	}
}

func TestAnUnclearRefusalIsTriedOnceMoreAtLeastTwoSecondsLater(t *testing.T) {
	t.Run("and a good key goes on", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			w := newWorld(t)
			w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Burst4120, Times: 1})
			made, err := w.client.CreateKey(t.Context(), provider.KeySpec{User: testUser})
			mustDo(t, err)
			calls := w.cloud.Calls()
			if len(calls) != 2 || calls[1].At.Sub(calls[0].At) < 2*time.Second {
				t.Errorf("got the calls %+v", calls)
			}
			w.mustHave(t, made.ID)
			if len(w.account.Keys()) != 2 {
				t.Errorf("got the keys %+v, want one new", w.account.Keys())
			}
		})
	})
	t.Run("and is never taken for a key that is gone", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			w := newWorld(t)
			w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Burst4120})
			ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(time.Hour)})
			mustBeKind(t, w.client.RevokeKey(t.Context(), ref), provider.KindKeyUnclear)
			w.mustHaveSeen(t, "UpdateAccessKey", "UpdateAccessKey")
			w.mustHave(t, ref.ID)
			w.updates(t)
		})
	})
}

func TestACallThatIsHeldBackSaysThatTheKeyWasRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		cancel := w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 401, Code: "1"})
		_, err := w.client.CreateKey(t.Context(), provider.KeySpec{})
		mustBeKind(t, err, provider.KindKeyRefused)
		cancel()
		_, err = w.client.CreateKey(t.Context(), provider.KeySpec{})
		mustBeKind(t, err, provider.KindKeyRefused)
		var held *transport.BreakerOpenError
		if !errors.As(err, &held) || len(w.cloud.Calls()) != 1 {
			t.Errorf("got %v after %d calls", err, len(w.cloud.Calls()))
		}
		pass(time.Minute)
		_, err = w.client.CreateKey(t.Context(), provider.KeySpec{})
		mustDo(t, err)
	})
}

func TestAnAnswerOfAGatewayToTheProbeDoesNotReleaseTheOthers(t *testing.T) {
	for name, fault := range map[string]cloudsim.Fault{
		"a page":                  {Kind: cloudsim.Refuse, Status: 502, Body: "<html>"},
		"a throttled platform":    {Kind: cloudsim.Refuse, Status: 503, Code: "6"},
		"an answer that is a 500": {Kind: cloudsim.Refuse, Status: 500},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				w.config.MaxRetries = 0
				own := w.account.AddKey(cloudsim.KeySpec{Inactive: true})
				client := w.as(t, own)
				_, err := client.AccessPolicy(t.Context())
				mustBeKind(t, err, provider.KindKeyRefused)
				pass(time.Minute)
				fault.Times = 1
				w.cloud.Order(fault)
				_, _ = client.AccessPolicy(t.Context())

				w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Delay, Delay: time.Second})
				var group sync.WaitGroup
				for range 20 {
					group.Go(func() { _, _ = client.AccessPolicy(t.Context()) })
				}
				group.Wait()
				if sent := len(w.cloud.Calls()); sent != 3 {
					t.Errorf("%d calls reached the cloud, want three", sent)
				}
			})
		})
	}
}

func TestAMissingPermissionIsNoReasonToHoldCallsBack(t *testing.T) {
	w := newWorld(t)
	client := w.as(t, w.account.AddKey(cloudsim.KeySpec{User: testUser}))
	for range 10 {
		_, err := client.AccessPolicy(t.Context())
		mustBeKind(t, err, provider.KindDenied)
	}
	if len(w.cloud.Calls()) != 10 {
		t.Errorf("got %d calls", len(w.cloud.Calls()))
	}
}

func TestAStormOfRevokesUnderThrottlingEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Throttle, Rate: 3})
		w.config.PerSecond = 5
		client := newClient(t, w.config)
		pending := map[string]provider.KeyRef{}
		for range 60 {
			ref := w.key(cloudsim.KeySpec{User: testUser, Expires: later(24 * time.Hour)})
			pending[ref.ID] = ref
		}
		// As Vault does: all at once, and those that failed again.
		for round := 0; len(pending) > 0; round++ {
			if round == 6 {
				t.Fatalf("%d keys are left after six rounds", len(pending))
			}
			var group sync.WaitGroup
			var mu sync.Mutex
			done := []string{}
			for id, ref := range pending {
				group.Go(func() {
					ctx, cancel := context.WithTimeout(transport.WithClass(t.Context(), transport.ClassRevoke), time.Minute)
					defer cancel()
					if client.RevokeKey(ctx, ref) == nil {
						mu.Lock()
						defer mu.Unlock()
						done = append(done, id)
					}
				})
			}
			group.Wait()
			for _, id := range done {
				delete(pending, id)
			}
		}
		if keys := w.account.Keys(); len(keys) != 1 || w.account.Locked() {
			t.Errorf("%d keys are left, locked: %v", len(keys)-1, w.account.Locked())
		}
	})
}

func TestVerdictsOnOurKey(t *testing.T) {
	cases := map[string]struct {
		status int
		body   string
		want   transport.Verdict
		again  time.Duration
	}{
		"a success":                      {200, `{"ResponseContext":{"RequestId":"r"}}`, transport.Accepted, 0},
		"a gateway's page with a 200":    {200, `<html>`, transport.Silent, 0},
		"an empty answer with a 200":     {200, ``, transport.Silent, 0},
		"a refused key":                  {401, `{"Errors":[{"Code":"1"}]}`, transport.Refused, 0},
		"an expired password":            {401, `{"Errors":[{"Code":"20"}]}`, transport.Refused, 0},
		"a locked account":               {401, `{"Errors":[{"Code":"13","Details":"locked for 60 seconds"}]}`, transport.Locked, 60 * time.Second},
		"the same in other words":        {401, `{"Errors":[{"Code":"13","Details":"LockedForSeconds: 120"}]}`, transport.Locked, 120 * time.Second},
		"a lock that does not say":       {401, `{"Errors":[{"Code":"13"}]}`, transport.Locked, 0},
		"a lock that support ends":       {401, `{"Errors":[{"Code":"11","Details":"locked permanently"}]}`, transport.Locked, 0},
		"a 401 without the cloud's code": {401, ``, transport.Silent, 0},
		"a page of 401":                  {401, `<html>`, transport.Silent, 0},
		"errors in a 200":                {200, `{"Errors":[{"Code":"4120"}]}`, transport.Unclear, 0},
		"an unknown key":                 {400, `{"Errors":[{"Code":"4120"}]}`, transport.Unclear, 0},
		"a missing permission":           {401, `{"Errors":[{"Code":"7"}]}`, transport.Accepted, 0},
		"an object that is gone":         {400, `{"Errors":[{"Code":"4000"}]}`, transport.Accepted, 0},
		"a quota":                        {400, `{"Errors":[{"Code":"10005"}]}`, transport.Accepted, 0},
		"throttling":                     {429, `{"Errors":[{"Code":"24"}]}`, transport.Silent, 0},
		"an internal error":              {500, `{"Errors":[{"Code":"0"}]}`, transport.Silent, 0},
		"a gateway's page":               {502, `<html>`, transport.Silent, 0},
		"a redirect":                     {307, ``, transport.Silent, 0},
		"an address without the API":     {404, `404 page not found`, transport.Silent, 0},
		"a page of 403, as from a wall":  {403, `<html>`, transport.Silent, 0},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			resp := &http.Response{StatusCode: test.status, Body: readable(test.body)}
			if got, again := verdictOf(resp); got != test.want || again != test.again {
				t.Errorf("got %v after %s, want %v after %s", got, again, test.want, test.again)
			}
		})
	}
}

// 4000 is what the API says of everything once the key that signs is gone.
func TestACallThatNamesNothingMissesTheKeyThatSigns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.cloud.Order(cloudsim.Fault{Kind: cloudsim.Refuse, Status: 400, Code: "4000"})
		for range 20 {
			if _, err := w.client.AccountID(t.Context()); err == nil {
				t.Error("it succeeds")
			}
		}
		w.mustHaveSeen(t, "ReadAccounts", "ReadAccounts") // the second tells that it was no mistake
	})
}

func TestARefusalUnderAClockThatIsWrongIsNoNewsOfTheKey(t *testing.T) {
	cases := map[string]struct {
		code string
		skew time.Duration
		want transport.Verdict
	}{
		"a cloud that is 16 minutes ahead":        {"1", 16 * time.Minute, transport.WrongTime},
		"a cloud that is 16 minutes behind":       {"1", -16 * time.Minute, transport.WrongTime},
		"ten minutes are no reason to refuse":     {"1", 10 * time.Minute, transport.Refused},
		"a key that is unknown is so at any time": {"4120", 16 * time.Minute, transport.Unclear},
		"and so is a lock":                        {"13", 16 * time.Minute, transport.Locked},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			date := http.Header{"Date": {time.Now().Add(test.skew).UTC().Format(http.TimeFormat)}}
			status := map[string]int{"1": 401, "13": 401, "4120": 400}[test.code]
			resp := &http.Response{StatusCode: status, Header: date, Body: readable(`{"Errors":[{"Code":"` + test.code + `"}]}`)}
			if got, _ := verdictOf(resp); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
