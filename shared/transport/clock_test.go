// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"net/http"
	"testing"
	"testing/synctest"
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
			clock.observe(http.Header{"Date": {test.date}}, sent, sent.Add(test.took))
			if skew, known := clock.Skew(); known == test.none || skew != test.want {
				t.Errorf("got %s, known %t", skew, known)
			}
		})
	}
}

func dated(at time.Time) http.Header { return http.Header{"Date": {at.UTC().Format(http.TimeFormat)}} }

func TestTheSkewIsTheMedianOfTheLastFiveAnswers(t *testing.T) {
	tests := map[string]struct {
		seen []int // seconds that the answers show the cloud to be ahead
		want time.Duration
	}{
		"one is enough":                           {[]int{60}, time.Minute},
		"of two the lesser":                       {[]int{60, 3600}, time.Minute},
		"one that lies decides nothing":           {[]int{60, 60, 3600, 60, 60}, time.Minute},
		"nor do two":                              {[]int{60, 3600, 60, -3600, 60}, time.Minute},
		"what was seen before the last five":      {[]int{3600, 3600, 3600, 3600, 60, 60, 60}, time.Minute},
		"and a clock that was set comes to count": {[]int{0, 0, 0, 0, 0, 60, 60, 60}, time.Minute},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var clock Clock
				now := time.Now()
				for _, ahead := range test.seen {
					clock.observe(dated(now.Add(time.Duration(ahead)*time.Second)), now, now)
				}
				if skew, known := clock.Skew(); skew != test.want || !known {
					t.Errorf("got %s, known %t", skew, known)
				}
			})
		})
	}
}

func TestWhatWasSeenBeforeThisMachinesClockWasSetIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var clock Clock
		now := time.Now()
		clock.observe(dated(now.Add(time.Hour)), now, now)
		pass(24 * time.Hour)
		if _, known := clock.Skew(); !known {
			t.Fatal("a day makes it unknown")
		}
		clock.seen[0].wall = clock.seen[0].wall.Add(-time.Hour)
		if skew, known := clock.Skew(); known {
			t.Errorf("got %s of before the step", skew)
		}
	})
}

func TestAGatewaysClockIsNotTheClouds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var clock Clock
		cloud := &script{play: func(n int, _ *http.Request) (*http.Response, error) {
			resp := answer([]int{502, 200}[n])
			resp.Header = dated(time.Now().Add(time.Duration(2-n) * time.Hour))
			return resp, nil
		}}
		rt := chainTo(cloud, func(o *Options) {
			o.Clock, o.Own = &clock, func(resp *http.Response) bool { return resp.StatusCode != 502 }
		})
		mustAnswer(t, rt, 502)
		if skew, known := clock.Skew(); known {
			t.Errorf("got %s of a gateway", skew)
		}
		mustAnswer(t, rt, 200)
		if skew, known := clock.Skew(); !known || skew != time.Hour {
			t.Errorf("got %s, known %t", skew, known)
		}
	})
}
