// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// session is one run against one account.
type session struct {
	cloud     provider.Cloud // with the account's key
	title     string
	accountID string
	user      provider.User // the probe's own
	label     string
	questions func(*session) []question
	raw       rawCloud

	otherwise func() error // signs in the cloud's other way from now on; nil: there is none
}

// question is one thing that the documentation leaves open.
type question struct {
	text     string
	assumed  string // what the engine and the simulator take for true; empty: nothing, the answer is only told
	flip     string // the simulator's switch for the other answer
	observed func(ctx context.Context) (string, error)
}

// fromEnvironment takes the account from the variables of the clouds' own tools.
func fromEnvironment(getenv func(string) string, base http.RoundTripper) (*session, error) {
	first := func(names ...string) string {
		for _, name := range names {
			if value := getenv(name); value != "" {
				return value
			}
		}
		return ""
	}
	hw := provider.Config{
		Provider: clouds.Huawei,

		AccessKey: first("HUAWEICLOUD_SDK_AK", "HW_ACCESS_KEY"), SecretKey: provider.Secret(first("HUAWEICLOUD_SDK_SK", "HW_SECRET_KEY")),
		Region: first("HUAWEICLOUD_SDK_REGION", "HW_REGION_NAME"), Endpoint: first("HUAWEICLOUD_SDK_IAM_ENDPOINT"),
		DomainID: first(
			"HUAWEICLOUD_SDK_DOMAIN_ID",
			"HW_DOMAIN_ID",
		), UserAgent: userAgent, Timeout: 15 * time.Second, MaxRetries: 3, PerSecond: 5, Base: base,
	}
	osc := provider.Config{
		Provider: clouds.Outscale,

		AccessKey: getenv(
			"OSC_ACCESS_KEY",
		), SecretKey: provider.Secret(getenv("OSC_SECRET_KEY")), Region: getenv("OSC_REGION"), Endpoint: getenv("OSC_ENDPOINT_API"),
		UserAgent: userAgent, Timeout: 15 * time.Second, MaxRetries: 3, PerSecond: 5, Base: base,
	}
	switch {
	case osc.AccessKey != "" && hw.AccessKey != "":
		return nil, errors.New("the environment names accounts of both clouds: leave one out")
	case osc.AccessKey != "":
		return newOutscale(osc)
	case hw.AccessKey != "":
		return newHuawei(hw)
	default:
		return nil, errors.New("no account is named: set OSC_ACCESS_KEY, OSC_SECRET_KEY and OSC_REGION, " +
			"or HUAWEICLOUD_SDK_AK, HUAWEICLOUD_SDK_SK and HUAWEICLOUD_SDK_REGION (or HW_ACCESS_KEY, HW_SECRET_KEY and HW_REGION_NAME)")
	}
}

const userAgent = "vault-plugin-secrets-cloudkeys/probe"

// announcement says beforehand what is going to happen.
func (s *session) announcement() string {
	return fmt.Sprintf("This asks an account of %s, with the key in the environment:\n"+
		"  it makes one user, %s..., without any rights, and up to %d access keys of that user, one after the other\n"+
		"  it makes calls that are meant to be refused, one of them with a wrong signature\n"+
		"  it changes nothing else: no policy, no other user, no key of anybody else\n"+
		"  at the end, or at a failure or Ctrl-C, it removes the user with its keys\n"+
		"It takes up to 5 minutes.\n", s.title, userPrefix, s.cloud.KeyQuota()+1)
}

const (
	userPrefix = "cloudkeys-probe-"
	longName   = 40 // characters of the user's name, where the cloud takes as many
)

// ask makes the user, asks everything and removes the user. What was answered by the time of a failure is returned with it.
func (s *session) ask(ctx context.Context, out io.Writer) (rows []row, err error) {
	who, err := s.cloud.WhoAmI(ctx)
	if err != nil && s.otherwise != nil && ctx.Err() == nil {
		if err := s.otherwise(); err != nil {
			return nil, err
		}
		who, err = s.cloud.WhoAmI(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("finding out whose key it is: %w", err)
	}
	s.accountID = who.AccountID
	s.label = keylabel.New(keylabel.NewID(), keylabel.KindUser).String()
	spec := provider.UserSpec{Name: userPrefix + keylabel.NewID(), Path: "/", Label: s.label}
	fmt.Fprintf(out, "Account %s, user %s...\n", s.accountID, spec.Name)
	defer func() { err = errors.Join(err, s.cleanUp(ctx, spec.Name)) }()
	long := spec
	long.Name += strings.Repeat("x", longName-len(spec.Name))
	if s.user, err = s.cloud.CreateUser(ctx, long); provider.KindOf(err) == provider.KindInvalid {
		s.user, err = s.cloud.CreateUser(ctx, spec)
	}
	if err != nil {
		return nil, fmt.Errorf("making the probe's user: %w", err)
	}
	for _, q := range s.questions(s) {
		fmt.Fprintf(out, "  %s\n", q.text)
		observed, err := q.observed(ctx)
		if ctx.Err() != nil {
			return rows, errors.New("interrupted")
		}
		if err != nil {
			observed = "no answer: " + err.Error()
		}
		rows = append(rows, row{question: q, observed: observed, failed: err != nil})
		if err := s.raw.clear(ctx); err != nil { // the slots are needed by the next question
			return rows, fmt.Errorf("removing the keys of a question: %w", err)
		}
	}
	return rows, nil
}

// cleanUp removes the user with all its keys, by its label where the answer to its creation was lost.
func (s *session) cleanUp(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	ref := provider.UserRef{AccountID: s.accountID, ID: s.user.ID, Name: name, Label: s.label}
	var err error
	for range 10 {
		if err = s.cloud.RemoveUser(ctx, ref); err == nil {
			return nil
		}
		if pause(ctx, 10*time.Second) != nil {
			break
		}
	}
	return fmt.Errorf("user %s of account %s could not be removed with its keys, do it by hand: %w", name, s.accountID, err)
}

// pause waits, unless the context ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
