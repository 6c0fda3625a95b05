// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"
)

func TestAnErrorReadsAsOneSentence(t *testing.T) {
	cases := map[string]struct {
		err  Error
		want string
	}{
		"with all that the cloud says": {
			Error{
				Kind: KindQuota, Op: "CreateAccessKey", Status: 400, Code: "10005", Type: "TooManyResources (QuotaExceded)",
				Details: "The limit is 10.", RequestID: "1f2e",
			},
			"CreateAccessKey: quota (HTTP 400, code 10005, TooManyResources (QuotaExceded)): The limit is 10. [request id 1f2e]",
		},
		"without an answer": {
			Error{Kind: KindAmbiguous, Op: "CreateAccessKey", Err: io.ErrUnexpectedEOF},
			"CreateAccessKey: ambiguous: unexpected EOF",
		},
		"with a status alone": {
			Error{Kind: KindUnknown, Op: "ReadAccounts", Status: 404},
			"ReadAccounts: unknown (HTTP 404)",
		},
		"without a word on which a server sends a request elsewhere": {
			Error{
				Kind: KindUnknown, Op: "ReadAccounts", Details: "cannot write to readonly storage; please forward to the active node",
				Err: errors.New("node is not the leader, Vault is in standby mode"),
			},
			"ReadAccounts: unknown: cannot write to read-only storage; please, forward to the active node: " +
				"node is not a leader, Vault is in stand-by mode",
		},
		"with nothing": {Error{Kind: KindUnreachable, Op: "ReadAccounts"}, "ReadAccounts: unreachable"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			if got := test.err.Error(); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestKindOfLooksThroughWrapping(t *testing.T) {
	denied := &Error{Kind: KindDenied}
	cases := map[string]struct {
		err  error
		want Kind
	}{
		"no error":          {nil, KindUnknown},
		"a foreign error":   {io.EOF, KindUnknown},
		"the error itself":  {denied, KindDenied},
		"wrapped once":      {fmt.Errorf("issuing: %w", denied), KindDenied},
		"wrapped twice":     {fmt.Errorf("a: %w", fmt.Errorf("b: %w", denied)), KindDenied},
		"joined":            {errors.Join(io.EOF, denied), KindDenied},
		"hidden":            {fmt.Errorf("a: %v", denied), KindUnknown},
		"the outer decides": {&Error{Kind: KindUnknown, Err: denied}, KindUnknown},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			if got := KindOf(test.err); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestAnErrorUnwrapsToItsCause(t *testing.T) {
	if err := error(&Error{Err: fmt.Errorf("reading: %w", io.ErrUnexpectedEOF)}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func TestAKeyIsLiveWhileItIsActiveAndItsDateIsAhead(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	cases := map[string]struct {
		key  Key
		live bool
	}{
		"active for ever":                    {Key{Active: true}, true},
		"active until later":                 {Key{Active: true, Expires: now.Add(time.Second)}, true},
		"active, but the date has come":      {Key{Active: true, Expires: now}, false},
		"active, but the date has passed":    {Key{Active: true, Expires: now.Add(-time.Hour)}, false},
		"inactive":                           {Key{}, false},
		"inactive with a date that is ahead": {Key{Expires: now.Add(time.Hour)}, false},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			if got := test.key.LiveAt(now); got != test.live {
				t.Errorf("got %v", got)
			}
		})
	}
}
