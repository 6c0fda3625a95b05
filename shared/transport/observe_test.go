// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"context"
	"errors"
	"net/http"
	"testing"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestObserverHearsOfEachAttemptButOfThoseThatTheCallerCancelled(t *testing.T) {
	observed := 0
	answered := &observer{
		next: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusTooManyRequests}, nil
		}),
		observe: func(resp *http.Response, err error) { observed++ },
	}
	failing := &observer{
		next:    roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") }),
		observe: answered.observe,
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, try := range []struct {
		o    *observer
		ctx  context.Context
		want int
	}{{answered, t.Context(), 1}, {failing, t.Context(), 1}, {failing, gone, 0}, {answered, gone, 1}} {
		observed = 0
		req, err := http.NewRequestWithContext(try.ctx, http.MethodGet, "https://example.com", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = try.o.RoundTrip(req)
		if observed != try.want {
			t.Errorf("told %d times, want %d", observed, try.want)
		}
	}
}
