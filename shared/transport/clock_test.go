// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"net/http"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	sent := time.Date(2026, 11, 22, 10, 0, 0, 400e6, time.UTC)
	tests := map[string]struct {
		date string
		took time.Duration
		want time.Duration
		none bool
	}{
		"the same second is no skew":                  {"Sun, 22 Nov 2026 10:00:00 GMT", 100 * time.Millisecond, 0, false},
		"a second that an answer took is no skew":     {"Sun, 22 Nov 2026 10:00:03 GMT", 4 * time.Second, 0, false},
		"what is cut off a second is no skew":         {"Sun, 22 Nov 2026 09:59:59 GMT", 100 * time.Millisecond, -400 * time.Millisecond, false},
		"a cloud that is ahead":                       {"Sun, 22 Nov 2026 10:00:10 GMT", 600 * time.Millisecond, 9 * time.Second, false},
		"a cloud that is behind":                      {"Sun, 22 Nov 2026 09:59:50 GMT", 600 * time.Millisecond, -9400 * time.Millisecond, false},
		"an answer without date tells nothing":        {"", time.Second, 0, true},
		"an answer with a strange date tells nothing": {"yesterday", time.Second, 0, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var clock Clock
			resp := &http.Response{Header: http.Header{"Date": {test.date}}}
			clock.observe(resp, sent, sent.Add(test.took))
			if skew, known := clock.Skew(); known == test.none || skew != test.want {
				t.Errorf("got %s, known %t", skew, known)
			}
		})
	}
}
