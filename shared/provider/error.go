// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what an error means to the caller, whatever the cloud's code.
type Kind string

const (
	// KindNone is no error at all.
	KindNone Kind = ""
	// KindUnknown is an answer that fits no other kind. Nothing is assumed of it.
	KindUnknown Kind = "unknown"
	// KindNotFound is a key, user or other object that does not exist.
	KindNotFound Kind = "not found"
	// KindQuota is a limit on the number of objects that is used up.
	KindQuota Kind = "quota"
	// KindThrottled is a call refused for coming too fast. Nothing was done.
	KindThrottled Kind = "throttled"
	// KindDenied is an identity without the permission for the call, or a caller
	// outside the account's API access rules.
	KindDenied Kind = "denied"
	// KindKeyRefused is a signing key that the cloud does not accept. It is never
	// retried: four in a row lock an OUTSCALE account's API.
	KindKeyRefused Kind = "key refused"
	// KindKeyUnclear is OUTSCALE's 4120: an unknown key, a key of another
	// region, or a burst of calls with a good key. On Huawei Cloud it is a key that
	// does not exist, or one made so recently that it is not known yet.
	KindKeyUnclear Kind = "key unclear"
	// KindLockedOut is an account whose API is locked after refused keys, of whichever program.
	// It is no news of the key that signed.
	KindLockedOut Kind = "locked out"
	// KindClockWrong is a request whose time the cloud finds wrong: the clocks are more than 15 minutes apart.
	KindClockWrong Kind = "clock wrong"
	// KindInvalid is a call refused for its content, such as a date beyond the
	// access policy (whose codes are not documented).
	KindInvalid Kind = "invalid"
	// KindPolicyViolated is an access policy that existing keys do not allow.
	KindPolicyViolated Kind = "policy violated"
	// KindConflict is an object whose state does not allow the call.
	KindConflict Kind = "conflict"
	// KindAmbiguous is a call of which nobody knows whether it was carried out.
	KindAmbiguous Kind = "ambiguous"
	// KindUnreachable is a call that certainly did not reach the cloud.
	KindUnreachable Kind = "unreachable"
)

// Kinds are all kinds of errors.
func Kinds() []Kind {
	return []Kind{
		KindUnknown, KindNotFound, KindQuota, KindThrottled, KindDenied, KindKeyRefused, KindKeyUnclear, KindLockedOut, KindClockWrong,
		KindInvalid, KindPolicyViolated, KindConflict, KindAmbiguous, KindUnreachable,
	}
}

// Error is a failed call to a cloud. It never holds a secret: neither the
// request nor the answer is kept, only what the cloud's error format names.
type Error struct {
	Kind      Kind
	Op        string // the cloud's name of the call
	Status    int    // HTTP status; 0 where there was no answer
	Code      string // the cloud's error code
	Type      string // the cloud's error type
	Details   string // the cloud's explanation
	RequestID string // to quote to the cloud's support
	Err       error  // the cause where there was no answer
}

// Error reads as one sentence with the cloud's code and request id, and orders a server to do nothing.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", e.Op, e.Kind)
	var facts []string
	if e.Status != 0 {
		facts = append(facts, fmt.Sprintf("HTTP %d", e.Status))
	}
	if e.Code != "" {
		facts = append(facts, "code "+e.Code)
	}
	if e.Type != "" {
		facts = append(facts, e.Type)
	}
	if len(facts) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(facts, ", "))
	}
	if e.Details != "" {
		fmt.Fprintf(&b, ": %s", e.Details)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, " [request id %s]", e.RequestID)
	}
	return nobodysOrder.Replace(b.String())
}

// nobodysOrder rewords phrases by which OpenBao, and Vault in part, know an error that has them do the request again on another
// node, or pass over it. They look for them in the text, and a cloud, or a proxy before it, may say anything.
var nobodysOrder = strings.NewReplacer(
	"readonly storage", "read-only storage",
	"please forward to the active node", "please, forward to the active node",
	"node is not the leader", "node is not a leader",
	"is in standby mode", "is in stand-by mode",
)

// Unwrap returns the cause where the call got no answer.
func (e *Error) Unwrap() error { return e.Err }

// ErrSwitchedOff is what moving the date of a key fails with that somebody has switched off. The date is moved all the same.
var ErrSwitchedOff = errors.New("the access key is switched off in the cloud")

// KindOf returns the kind of the first Error in err's chain; KindUnknown where
// there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindUnknown
}
