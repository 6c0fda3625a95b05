// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// rawCloud makes single calls past the cloud's client, which would smooth over what is asked here.
type rawCloud interface {
	// clear removes what keys the probe's user has.
	clear(ctx context.Context) error
}

// key is an access key of the probe's user.
type key struct {
	id     string
	secret provider.Secret
	label  string
	end    time.Time
}

// answer is what came back. Its body may hold a secret and is never shown.
type answer struct {
	status int
	code   string
	kind   string // the cloud's word for the error
	body   []byte
}

func (a answer) good() bool { return a.status >= 200 && a.status < 300 }

func (a answer) String() string {
	switch {
	case a.good():
		return fmt.Sprintf("accepted (%d)", a.status)
	case a.code == "":
		return fmt.Sprintf("refused (%d)", a.status)
	default:
		return fmt.Sprintf("refused (%d, %s)", a.status, a.code)
	}
}

const (
	accepted = "accepted"
	refused  = "refused"
	atOnce   = "at once"
)

// word is the answer without its details.
func (a answer) word() string {
	if a.good() {
		return accepted
	}
	return refused
}

func (a answer) decode(into any) error {
	if !a.good() {
		return fmt.Errorf("the call was %s", a)
	}
	if json.Unmarshal(a.body, into) != nil { // its own error may quote the body
		return fmt.Errorf("the answer (%d) could not be read", a.status)
	}
	return nil
}

// sender sends one signed request, without repeating it.
type sender struct {
	base http.RoundTripper
	pace time.Duration // before each request
}

func (s sender) send(ctx context.Context, sign transport.Signer, method, url string, header http.Header, body any) (answer, error) {
	if err := pause(ctx, s.pace); err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var encoded []byte
	if body != nil {
		var err error
		if encoded, err = json.Marshal(body); err != nil {
			return answer{}, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(encoded))
	if err != nil {
		return answer{}, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", userAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if err := sign(req, encoded); err != nil {
		return answer{}, err
	}
	resp, err := s.base.RoundTrip(req)
	if err != nil {
		return answer{}, fmt.Errorf("the cloud cannot be reached: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return answer{}, fmt.Errorf("the answer broke off: %w", err)
	}
	return answer{status: resp.StatusCode, body: raw}, nil
}

// waitUntil tries every second, and tells how long it took: "at once", or the seconds to the next five.
func waitUntil(ctx context.Context, most time.Duration, done func(ctx context.Context) (bool, error)) (string, error) {
	began := time.Now()
	for first := true; ; first = false {
		ok, err := done(ctx)
		switch {
		case err != nil:
			return "", err
		case ok && first:
			return atOnce, nil
		case ok:
			return fmt.Sprintf("within %d s", 5*(int(time.Since(began).Seconds())/5+1)), nil
		case time.Since(began) > most:
			return never(most), nil
		}
		if err := pause(ctx, time.Second); err != nil {
			return "", err
		}
	}
}

// tryAfter tries after each pause, for what must not be tried often.
func tryAfter(ctx context.Context, pauses []time.Duration, done func(ctx context.Context) (bool, error)) (string, error) {
	waited := time.Duration(0)
	for _, p := range pauses {
		if err := pause(ctx, p); err != nil {
			return "", err
		}
		waited += p
		ok, err := done(ctx)
		switch {
		case err != nil:
			return "", err
		case ok && waited == 0:
			return atOnce, nil
		case ok:
			return fmt.Sprintf("within %d s", int(waited.Seconds())), nil
		}
	}
	return never(waited), nil
}

// spoken lists counts in the order of their names.
func spoken(counts map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[name], name))
	}
	return strings.Join(parts, ", ")
}
