// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// onBoth runs a test in memory and over HTTP: the two must not differ.
func onBoth(t *testing.T, test func(t *testing.T, c *Cloud, a *Account, root client)) {
	t.Helper()
	t.Run("in memory", func(t *testing.T) {
		c, a, root := newCloud()
		test(t, c, a, root)
	})
	t.Run("over HTTP", func(t *testing.T) {
		c, a, root := newCloud()
		root.endpoint, root.rt = c.Start(t), &http.Transport{DisableKeepAlives: true}
		test(t, c, a, root)
	})
}

func TestAFaultDecidesTheAnswer(t *testing.T) {
	cases := map[string]struct {
		fault  Fault
		status int // 0: the connection is cut
		code   string
		worked bool // is there a new key?
		body   string
	}{
		"refuse":                    {fault: Fault{Kind: Refuse}, status: 500, code: "0"},
		"refuse with a code":        {fault: Fault{Kind: Refuse, Status: 409, Code: "6007"}, status: 409, code: "6007"},
		"refuse with a page":        {fault: Fault{Kind: Refuse, Status: 502, Body: "<html>"}, status: 502, body: "<html>"},
		"refuse after the work":     {fault: Fault{Kind: RefuseAfter, Status: 504}, status: 504, code: "0", worked: true},
		"drop the request":          {fault: Fault{Kind: DropRequest}},
		"drop the answer":           {fault: Fault{Kind: DropAnswer}, worked: true},
		"an outage":                 {fault: Fault{Kind: Outage, Op: "ReadVms"}},
		"a refused connection":      {fault: Fault{Kind: RefuseConnection}},
		"an empty answer":           {fault: Fault{Kind: EmptyAnswer}, status: 200, worked: true},
		"rubbish by order":          {fault: Fault{Kind: RubbishAnswer, Body: "rubbish"}, status: 200, body: "rubbish", worked: true},
		"a burst":                   {fault: Fault{Kind: Burst4120}, status: 400, code: "4120"},
		"a throttled account":       {fault: Fault{Kind: Throttle, Rate: 0}, status: 429, code: "24"},
		"a throttled platform":      {fault: Fault{Kind: Throttle, Rate: 0, Status: 503}, status: 503, code: "6"},
		"another call's is ignored": {fault: Fault{Kind: Refuse, Op: "ReadVms"}, status: 200, worked: true},
		"another user's is ignored": {fault: Fault{Kind: Refuse, User: "other"}, status: 200, worked: true},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, c *Cloud, a *Account, root client) {
				if test.fault.Kind == Throttle {
					c.Order(test.fault)
					root.mustSucceed(t, "ReadVms", "{}") // takes the only token
				} else {
					c.Order(test.fault)
				}
				got, err := root.try(t.Context(), "CreateAccessKey", "{}")
				if test.status == 0 && err == nil || test.status != 0 && err != nil {
					t.Fatalf("got error %v and status %d, want status %d", err, got.Status, test.status)
				}
				if got.Status != test.status || got.code() != test.code {
					t.Errorf("got %d %s, want %d code %q", got.Status, got.Raw, test.status, test.code)
				}
				if test.body != "" && string(got.Raw) != test.body {
					t.Errorf("got body %q, want %q", got.Raw, test.body)
				}
				if worked := len(a.Keys()) == 2; worked != test.worked {
					t.Errorf("was the work done? got %v, want %v", worked, test.worked)
				}
				calls := c.Calls()
				if last := calls[len(calls)-1]; last.Status != test.status || last.Code != test.code {
					t.Errorf("recorded %d %q, want %d %q", last.Status, last.Code, test.status, test.code)
				}
			})
		})
	}
}

func TestACutConnectionInMemoryLooksLikeARealOne(t *testing.T) {
	for kind, want := range map[FaultKind]error{DropAnswer: io.ErrUnexpectedEOF, RefuseConnection: syscall.ECONNREFUSED} {
		t.Run(string(kind), func(t *testing.T) {
			c, _, root := newCloud()
			c.Order(Fault{Kind: kind})
			if _, err := root.try(t.Context(), "ReadVms", "{}"); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
}

func TestATruncatedAnswerContainsTheSecretAndIsMarked(t *testing.T) {
	onBoth(t, func(t *testing.T, c *Cloud, _ *Account, root client) {
		c.Order(Fault{Op: "CreateAccessKey", Kind: RubbishAnswer})
		got := root.call(t, "CreateAccessKey", fields("ExpirationDate", "2099-01-01", "Tag", "t"))
		secrets := c.Secrets()
		if !bytes.Contains(got.Raw, []byte(secrets[len(secrets)-1])) {
			t.Errorf("no secret in %s", got.Raw)
		}
		if got.Header.Get(FaultHeader) != string(RubbishAnswer) {
			t.Errorf("the answer is not marked: %v", got.Header)
		}
	})
}

func TestAFaultHitsTheCallsItIsMeantFor(t *testing.T) {
	c, _, root := newCloud()
	c.Order(Fault{Op: "ReadVms", Kind: Refuse, Skip: 1, Times: 2})

	for i, want := range []int{200, 500, 500, 200} {
		root.mustSucceed(t, "ReadAccounts", "{}")
		if got := root.call(t, "ReadVms", "{}").Status; got != want {
			t.Errorf("call %d: got %d, want %d", i+1, got, want)
		}
	}
}

func TestACancelledFaultHitsNoMore(t *testing.T) {
	c, _, root := newCloud()
	cancel := c.Order(Fault{Kind: Refuse})
	root.mustRefuse(t, "ReadVms", "{}", 500, "0")
	cancel()
	cancel()
	root.mustSucceed(t, "ReadVms", "{}")
}

func TestDelaysAddUpAndGoWithAnotherFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, root := newCloud()
		c.Order(Fault{Kind: Delay, Delay: time.Second})
		c.Order(Fault{Kind: DelayAnswer, Delay: 2 * time.Second})
		c.Order(Fault{Kind: RefuseAfter, Delay: 4 * time.Second})
		start := time.Now()
		root.mustRefuse(t, "ReadVms", "{}", 500, "0")
		if took := time.Since(start); took != 7*time.Second {
			t.Errorf("took %s, want 7s", took)
		}
	})
}

func TestACallerThatCancelsEndsTheDelay(t *testing.T) {
	for kind, keys := range map[FaultKind]int{Delay: 1, DelayAnswer: 2} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, a, root := newCloud()
				c.Order(Fault{Kind: kind, Delay: time.Hour})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				if _, err := root.try(ctx, "CreateAccessKey", "{}"); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); took != time.Second {
					t.Errorf("took %s", took)
				}
				if got := len(a.Keys()); got != keys {
					t.Errorf("got %d keys, want %d", got, keys)
				}
			})
		})
	}
	t.Run("over HTTP the server notices", func(t *testing.T) {
		c, _, root := newCloud()
		root.endpoint, root.rt = c.Start(t), &http.Transport{DisableKeepAlives: true}
		c.Order(Fault{Kind: Delay, Delay: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		c.OnCall(func(Call) { cancel() })
		if _, err := root.try(ctx, "ReadVms", "{}"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		} // the test ends only when the server's handler has
	})
}

func TestAThrottleLetsItsRatePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, root := newCloud()
		c.Order(Fault{Kind: Throttle, Rate: 2})
		passed := 0
		for range 100 { // ten seconds, ten calls a second
			if root.call(t, "ReadVms", "{}").Status == 200 {
				passed++
			}
			pass(100 * time.Millisecond)
		}
		if passed < 20 || passed > 22 {
			t.Errorf("%d of 100 calls passed in 10s, want about 20", passed)
		}
	})
}

func TestAnObserverSeesACallBeforeItsWork(t *testing.T) {
	c, a, root := newCloud()
	a.AddUser("deploy", "api:*")
	deploy := a.AddKey(KeySpec{User: "deploy"})
	var seen Call
	keys := 0
	c.OnCall(func(call Call) { seen, keys = call, len(a.Keys()) })

	root.as(deploy).mustSucceed(t, "CreateAccessKey", `{"Tag":"t"}`)
	if keys != 2 {
		t.Errorf("the observer saw %d keys, want 2", keys)
	}
	if seen.Op != "CreateAccessKey" || seen.AccessKey != deploy.AccessKey || seen.Account != testAccount ||
		seen.User != "deploy" || seen.Scope != defaultRegion || string(seen.Body) != `{"Tag":"t"}` {
		t.Errorf("got %+v", seen)
	}
	if c.CountCalls("CreateAccessKey") != 1 || c.CountCalls("ReadVms") != 0 {
		t.Errorf("got %+v", c.Calls())
	}
	c.ResetCalls()
	if got := c.Calls(); len(got) != 0 {
		t.Errorf("after the reset: %+v", got)
	}
}

func TestOtherPathsAreNotFound(t *testing.T) {
	onBoth(t, func(t *testing.T, c *Cloud, _ *Account, root client) {
		root.mustRefuse(t, "NoSuchCall", "{}", 404, "0")
		root.endpoint = strings.TrimSuffix(root.endpoint, "/api/v1") // as with an endpoint that lacks /api/v1
		if got := root.call(t, "ReadVms", "{}"); got.Status != 404 || got.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("got %d %s", got.Status, got.Raw)
		}
		if n := c.CountCalls("ReadVms"); n != 0 {
			t.Errorf("%d calls recorded", n)
		}
	})
}

func TestReadRegionsNeedsNoSignature(t *testing.T) {
	_, _, root := newCloud()
	anyone := root.as(Credentials{})
	anyone.mustSucceed(t, "ReadRegions", "{}")
	anyone.mustRefuse(t, "ReadAccounts", "{}", 401, "1")
}
