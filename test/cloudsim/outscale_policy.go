// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// maxPolicySeconds is a hundred years, the documented upper bound.
const maxPolicySeconds = 3153600000

// lifetimeBound returns the time that no expiration date may pass.
func (p Policy) lifetimeBound(now time.Time) time.Time {
	return now.Add(time.Duration(p.MaxAccessKeyExpirationSeconds) * time.Second)
}

// expiration reads and judges the date of a create or an update; nil is no date, which a policy refuses. Dates in the past
// are always refused, for an INACTIVE key too. The cloud keeps whole seconds.
func (a *Account) expiration(date *string, now time.Time) (time.Time, *apiError) {
	bounded := a.policy.MaxAccessKeyExpirationSeconds > 0
	if date == nil {
		if bounded {
			return time.Time{}, errValue(codePolicy, "The API access policy requires an ExpirationDate.")
		}
		return time.Time{}, nil
	}
	given, refusal := parseDate(*date)
	if refusal != nil {
		return time.Time{}, refusal
	}
	expires := given.Truncate(time.Second)
	if !expires.After(now) {
		return time.Time{}, errValue(codePolicy, "ExpirationDate is in the past.")
	}
	if bounded && given.After(a.policy.lifetimeBound(now)) {
		return time.Time{}, errValue(codePolicy, "ExpirationDate is beyond the API access policy.")
	}
	return expires, nil
}

// shownPolicy is the policy as the API shows it.
func (a *Account) shownPolicy() map[string]any {
	view := map[string]any{
		"MaxAccessKeyExpirationSeconds": a.policy.MaxAccessKeyExpirationSeconds,
		"RequireTrustedEnv":             a.policy.RequireTrustedEnv,
	}
	if !a.cloud.rules.NoSecureMode {
		view["RequireTrustedEnvSecureMode"] = a.policy.RequireTrustedEnvSecureMode
	}
	for name, value := range a.unheard {
		view[name] = value
	}
	return view
}

func (c caller) readPolicy(struct{}) (answerFields, *apiError) {
	return answerFields{"ApiAccessPolicy": c.account.shownPolicy()}, nil
}

// updatePolicy replaces the policy. What a request leaves out is a missing parameter, or set to nothing (Rules.PolicyForgets):
// which of them the real cloud does is not known.
func (c caller) updatePolicy(in map[string]json.RawMessage) (answerFields, *apiError) {
	known := c.account.shownPolicy()
	for _, name := range slices.Sorted(maps.Keys(in)) {
		if _, ok := known[name]; !ok {
			return nil, errUnknownParameter(name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		_, sent := in[name]
		optional := c.cloud.rules.PolicyForgets && name != "MaxAccessKeyExpirationSeconds" && name != "RequireTrustedEnv"
		if !sent && !optional {
			return nil, errMissing(name)
		}
	}
	var wanted Policy
	for name, into := range map[string]any{
		"MaxAccessKeyExpirationSeconds": &wanted.MaxAccessKeyExpirationSeconds,
		"RequireTrustedEnv":             &wanted.RequireTrustedEnv,
		"RequireTrustedEnvSecureMode":   &wanted.RequireTrustedEnvSecureMode,
	} {
		raw, sent := in[name]
		if sent && (string(raw) == "null" || json.Unmarshal(raw, into) != nil) {
			return nil, errParameterType(name)
		}
	}
	if refusal := c.account.admits(wanted, c.cloud.now()); refusal != nil {
		return nil, refusal
	}
	c.account.policy = wanted
	for name := range c.account.unheard {
		c.account.unheard[name] = in[name]
	}
	return answerFields{"ApiAccessPolicy": c.account.shownPolicy()}, nil
}

// admits: whether INACTIVE keys count is not known, so they do; expired keys have no life remaining.
func (a *Account) admits(wanted Policy, now time.Time) *apiError {
	seconds := wanted.MaxAccessKeyExpirationSeconds
	switch {
	case seconds < 0 || seconds > maxPolicySeconds:
		return errValue(codePolicy, "MaxAccessKeyExpirationSeconds must be between 0 and %d.", maxPolicySeconds)
	case seconds == 0 && wanted.RequireTrustedEnv:
		return errValue(codePolicy, "RequireTrustedEnv needs MaxAccessKeyExpirationSeconds greater than 0.")
	case wanted.RequireTrustedEnvSecureMode && !wanted.RequireTrustedEnv:
		return errValue(codePolicy, "RequireTrustedEnvSecureMode needs RequireTrustedEnv.")
	case seconds == 0:
		return nil
	}
	bound := wanted.lifetimeBound(now)
	for _, k := range a.allKeys() {
		if k.Expires.IsZero() {
			return errValue(codePolicy, "The access key %s has no expiration date.", k.ID)
		}
		if !k.Expires.Before(bound) {
			return errValue(codePolicy, "The remaining lifetime of the access key %s is too long.", k.ID)
		}
	}
	return nil
}
