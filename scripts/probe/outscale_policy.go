// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// newQuestions are those that API 1.43 has brought: the access policy's third field, and trusted keys.
func (o *oscCloud) newQuestions() []question {
	return []question{
		{"The fields of the access policy", strings.Join(knownFields, ", "), "Rules.NoSecureMode", o.policyFields},
		{"Secure mode", "off", "", o.secureMode},
		{"An update of the policy without one of its fields", "refused (400)", "Rules.PolicyForgets", o.missingField},
		{"A key that the API has made is Trusted", "no", "", o.trusted},
		{"The name of a user in capitals is that user", "no", "", o.userNameCase},
	}
}

var knownFields = []string{"MaxAccessKeyExpirationSeconds", "RequireTrustedEnv", "RequireTrustedEnvSecureMode"}

func (o *oscCloud) policy(ctx context.Context) (map[string]json.RawMessage, error) {
	a, err := o.asRoot(ctx, "ReadApiAccessPolicy", fields{})
	if err != nil {
		return nil, err
	}
	var read struct{ ApiAccessPolicy map[string]json.RawMessage }
	err = a.decode(&read)
	return read.ApiAccessPolicy, err
}

func (o *oscCloud) policyFields(ctx context.Context) (string, error) {
	policy, err := o.policy(ctx)
	return strings.Join(slices.Sorted(maps.Keys(policy)), ", "), err
}

func (o *oscCloud) secureMode(ctx context.Context) (string, error) {
	policy, err := o.policy(ctx)
	switch string(policy["RequireTrustedEnvSecureMode"]) {
	case "":
		return "not known to this API", err
	case "false":
		return "off", err
	default:
		return "on", err
	}
}

// missingField sends the policy as it is, but for one field that is false: whether the cloud refuses that or takes it for
// false, the policy stays. Where any other field says something, it is not asked.
func (o *oscCloud) missingField(ctx context.Context) (string, error) {
	policy, err := o.policy(ctx)
	if err != nil {
		return "", err
	}
	for name, value := range policy {
		if name != "MaxAccessKeyExpirationSeconds" && string(value) != "false" {
			return "not asked: the policy has " + name + " set", nil
		}
	}
	a, err := o.asRoot(ctx, "UpdateApiAccessPolicy", fields{
		"MaxAccessKeyExpirationSeconds": policy["MaxAccessKeyExpirationSeconds"], "RequireTrustedEnv": policy["RequireTrustedEnv"],
	})
	if a.good() || err != nil {
		return a.String(), err
	}
	a.code = "" // which is unknown
	return a.String(), nil
}

func (o *oscCloud) trusted(ctx context.Context) (string, error) {
	k, err := o.settled(ctx, keyLife)
	if err != nil {
		return "", err
	}
	a, err := o.asRoot(ctx, "ReadAccessKeys", fields{"UserName": o.session.user.Name})
	if err != nil {
		return "", err
	}
	var read struct {
		AccessKeys []struct {
			AccessKeyID string `json:"AccessKeyId"`
			Trusted     *bool
		}
	}
	if err := a.decode(&read); err != nil {
		return "", err
	}
	for _, listed := range read.AccessKeys {
		switch {
		case listed.AccessKeyID != k.id:
		case listed.Trusted == nil:
			return "not told", nil
		case *listed.Trusted:
			return "yes", nil
		default:
			return "no", nil
		}
	}
	return "the key is not listed", nil
}

func (o *oscCloud) userNameCase(ctx context.Context) (string, error) {
	a, err := o.asRoot(ctx, "ReadAccessKeys", fields{"UserName": strings.ToUpper(o.session.user.Name)})
	if a.good() {
		return "yes", err
	}
	return "no", err
}
