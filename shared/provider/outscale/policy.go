// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// maxLifetimeSeconds is the API's upper bound, a hundred years. What is larger would
// overflow a time.Duration.
const maxLifetimeSeconds = int64(lifetime.MaxKeyLifetime / time.Second)

const (
	opReadPolicy   = "ReadApiAccessPolicy"
	opUpdatePolicy = "UpdateApiAccessPolicy"

	fieldLifetime   = "MaxAccessKeyExpirationSeconds"
	fieldTrusted    = "RequireTrustedEnv"
	fieldSecureMode = "RequireTrustedEnvSecureMode" // since API 1.43
)

// wirePolicy is the policy as the API has it, with every field whether it is known or not. The
// SDK's type drops those that its version does not know, and the call that writes the policy
// replaces all of it: API 1.43 brought a switch that 1.42's client would have turned off.
type wirePolicy map[string]json.RawMessage

// AccessPolicy implements provider.PolicyReader. A policy without its number is
// an error: taken for 0 it would mean "unlimited".
func (c *Client) AccessPolicy(ctx context.Context) (provider.AccessPolicy, error) {
	status, body, err := c.post(ctx, opReadPolicy, []byte("{}"))
	if err != nil {
		return provider.AccessPolicy{}, err
	}
	wire, policy, err := readPolicy(body)
	if err != nil {
		return provider.AccessPolicy{}, unreadable(opReadPolicy, status, err.Error())
	}
	delete(wire, fieldLifetime)
	rest, err := wire.marshal()
	if err != nil {
		return provider.AccessPolicy{}, unreadable(opReadPolicy, status, "the answer could not be read")
	}
	policy.Rest = string(rest)
	return policy, nil
}

// SetAccessPolicy implements provider.PolicyWriter. What the API cannot express is refused here,
// since a part of a second would be cut to 0, which means "unlimited".
func (c *Client) SetAccessPolicy(ctx context.Context, policy provider.AccessPolicy) error {
	seconds := int64(policy.MaxKeyLifetime / time.Second)
	if time.Duration(seconds)*time.Second != policy.MaxKeyLifetime || seconds < 0 || seconds > maxLifetimeSeconds {
		return fmt.Errorf("a key lifetime of %s cannot be set: give whole seconds up to a hundred years, or 0 for unlimited",
			policy.MaxKeyLifetime)
	}
	if seconds == 0 && policy.RequireTrustedEnv {
		return errors.New("an unlimited key lifetime cannot be set while RequireTrustedEnv is true: OUTSCALE's trusted sessions need a limit")
	}
	wanted, err := wireOf(policy)
	if err != nil {
		return err
	}
	wanted[fieldLifetime] = json.RawMessage(strconv.FormatInt(seconds, 10))
	body, err := wanted.marshal()
	if err != nil {
		return fmt.Errorf("writing the access policy as JSON: %w", err)
	}
	status, answer, err := c.post(ctx, opUpdatePolicy, body)
	if err != nil {
		return violated(err)
	}
	now, _, err := readPolicy(answer)
	if err != nil {
		return unreadable(opUpdatePolicy, status, err.Error())
	}
	if other := now.differs(wanted); len(other) > 0 {
		return unreadable(opUpdatePolicy, status, "the answer has another policy than was written, in "+strings.Join(other, ", "))
	}
	return nil
}

// wireOf is the policy as it was read. One that was made up, or changed in more than its number, is
// refused: what it lacks would be switched off.
func wireOf(policy provider.AccessPolicy) (wirePolicy, error) {
	var wire wirePolicy
	if err := json.Unmarshal([]byte(policy.Rest), &wire); err != nil || wire == nil {
		return nil, errors.New("an access policy that was not read cannot be set: what it lacks would be switched off")
	}
	if wire.is(fieldTrusted) != policy.RequireTrustedEnv || wire.is(fieldSecureMode) != policy.SecureMode {
		return nil, errors.New("an access policy in which more than the key lifetime was changed cannot be set")
	}
	return wire, nil
}

// readPolicy reads what must be there, and keeps what is not known.
func readPolicy(body []byte) (wirePolicy, provider.AccessPolicy, error) {
	var answer struct{ ApiAccessPolicy wirePolicy }
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, provider.AccessPolicy{}, errors.New("the answer could not be read")
	}
	wire := answer.ApiAccessPolicy
	seconds, err := strconv.ParseInt(string(wire[fieldLifetime]), 10, 64)
	switch {
	case err != nil || !wire.isSwitch(fieldTrusted):
		return nil, provider.AccessPolicy{}, errors.New("the answer lacks a part of the policy")
	case wire[fieldSecureMode] != nil && !wire.isSwitch(fieldSecureMode):
		return nil, provider.AccessPolicy{}, errors.New("the answer's " + fieldSecureMode + " is neither true nor false")
	case seconds < 0 || seconds > maxLifetimeSeconds:
		return nil, provider.AccessPolicy{}, errors.New("the answer's " + fieldLifetime + " is out of range")
	}
	return wire, provider.AccessPolicy{
		MaxKeyLifetime:    time.Duration(seconds) * time.Second,
		RequireTrustedEnv: wire.is(fieldTrusted),
		SecureMode:        wire.is(fieldSecureMode),
	}, nil
}

// marshal writes the fields in the order of their names, each as it is: json.Marshal would escape
// characters of HTML.
func (w wirePolicy) marshal() ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(map[string]json.RawMessage(w))
	return bytes.TrimSpace(b.Bytes()), err
}

func (w wirePolicy) is(name string) bool { return string(w[name]) == "true" }

func (w wirePolicy) isSwitch(name string) bool { return w.is(name) || string(w[name]) == "false" }

// differs names the fields that both policies have and that are not the same.
func (w wirePolicy) differs(from wirePolicy) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(w)), func(name string) bool {
		other, both := from[name]
		return !both || bytes.Equal(compact(w[name]), compact(other))
	})
}

func compact(raw json.RawMessage) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return raw
	}
	return b.Bytes()
}

// violated tells a policy that existing keys do not allow from a call that is wrong in itself: a
// parameter that is missing, or that the API does not know, is no key in the way.
func violated(err error) error {
	var refused *provider.Error
	if !errors.As(err, &refused) || refused.Kind != provider.KindInvalid && refused.Kind != provider.KindConflict {
		return err
	}
	switch refused.Type {
	case "MissingParameter", "InvalidParameter", "InvalidParameterType", "InvalidParameterFormat", "UnknownParameter":
		return err
	}
	refused.Kind = provider.KindPolicyViolated
	return err
}
