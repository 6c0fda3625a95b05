// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"fmt"
	"net/http"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Verdict is what an answer says of the key that signed the call. It needs evidence about the key: what other
// programs have done, what a gateway says in the cloud's place, and a clock that is wrong, are none.
type Verdict int

const (
	// Accepted means that the cloud knew the key, whatever it answered.
	Accepted Verdict = iota
	// Refused means that it did not take the key: its own code for one that is unknown, inactive or wrong.
	Refused
	// Unclear is a refusal that a good key gets as well (OUTSCALE's 4120).
	Unclear
	// Locked means that refusals, of whichever program, have locked the API. It says nothing of the key.
	Locked
	// WrongTime means that the cloud found the time of the request wrong.
	WrongTime
	// Silent means that the answer says nothing of the key: a gateway's page, or
	// throttling that came before the key was looked at.
	Silent
)

// Kind is the kind of error that a call is held back with.
func (v Verdict) Kind() provider.Kind {
	switch v {
	case Unclear:
		return provider.KindKeyUnclear
	case Locked:
		return provider.KindLockedOut
	case WrongTime:
		return provider.KindClockWrong
	default:
		return provider.KindKeyRefused
	}
}

// Judge reads an answer's verdict. again is when a call may be tried once more, where the answer tells: how long the API stays
// locked, or when to look at the clock again. 0: it does not tell. A refusal for the clock that tells may be had again
// and again; one that does not counts towards the lock-out like any other.
type Judge func(resp *http.Response) (v Verdict, again time.Duration)

// counts tells whether the cloud counts an answer towards its lock-out.
func (v Verdict) counts(again time.Duration) bool {
	return v == Refused || v == Unclear || v == WrongTime && again == 0
}

const (
	// MaxSkew is by how much the time of a request may be wrong (AWS Signature Version 4 and Huawei Cloud's APIGW.0303).
	MaxSkew = 15 * time.Minute

	// unclearPause is the least time before an unclear refusal is put to the test:
	// bursts of calls get 4120 too, and have ended by then.
	unclearPause = 2 * time.Second
	// firstPause and secondPause are those after a refusal and after that of the call that was then tried. By the
	// second most mistakes of a cloud's have been put right.
	firstPause  = time.Minute
	secondPause = 15 * time.Minute
	// The fourth refusal in a row locks an OUTSCALE account's API for a minute. Nothing is locked before
	// that long after the first.
	lockingRefusal = 4
	unlockedTime   = 30 * time.Minute
	// longestPause bounds all pauses.
	longestPause = 24 * time.Hour
	// lockPause is for a lock without an end (OUTSCALE's code 11), and bounds one with: OUTSCALE's are ten minutes at most.
	lockPause = time.Hour
)

// pauseAfter is how long no call is sent after a refusal, the last of so many in a row that have lasted so long. After three
// the pause is as long as they have lasted: an outage of the cloud's costs at most as long again. Tries at 1, 16, 32,
// 64 minutes and so on use a dead key eight times in the first eight hours.
func pauseAfter(v Verdict, again time.Duration, refusals int, lasted time.Duration) time.Duration {
	switch {
	case again > 0:
		return min(again, lockPause)
	case v == Locked:
		return lockPause
	case v == Unclear && refusals == 1:
		return unclearPause
	case refusals < lockingRefusal-1 && lasted < firstPause:
		return firstPause
	case refusals < lockingRefusal-1:
		return secondPause
	default:
		return min(max(lasted, unlockedTime-lasted), longestPause)
	}
}

// earliestTry is from when on a key that has been refused so often since then may be tried before its time: a fourth try in half an
// hour would lock the account.
func earliestTry(refusals int, since time.Time) time.Time {
	if refusals < lockingRefusal-1 {
		return since
	}
	return since.Add(unlockedTime)
}

// stepped tells whether somebody has set this machine's clock: more or less time has passed by it than there truly has.
func stepped(byClock, truly time.Duration) bool { return (byClock - truly).Abs() > time.Minute }

// BreakerOpenError says that a call was held back.
type BreakerOpenError struct {
	Why   Verdict
	Since time.Time // when the key was first refused; zero: it was not
	Until time.Time // when one call is tried again
}

// Error implements error.
func (e *BreakerOpenError) Error() string {
	until := e.Until.UTC().Format(time.RFC3339)
	switch e.Why {
	case Locked:
		return fmt.Sprintf(
			"refused keys, of whichever program, have locked the API, which says nothing of the engine's own key; one call tries at %s",
			until,
		)
	case WrongTime:
		return fmt.Sprintf("the cloud finds the time of the requests wrong, which says nothing of the engine's key; one call tries at %s, "+
			"or once this machine's clock has been set", until)
	}
	what := "has refused the engine's access key"
	if e.Why == Unclear {
		what = "has not known the engine's access key"
	}
	return fmt.Sprintf("the cloud %s since %s; one call tries at %s and none before, so that the account does not get locked",
		what, e.Since.UTC().Format(time.RFC3339), until)
}
