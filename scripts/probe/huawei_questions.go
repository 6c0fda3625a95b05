// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// questions are those that Huawei Cloud's documentation leaves open.
func (h *hwCloud) questions(*session) []question {
	return []question{
		{"A new user is known", atOnce, "HuaweiRules.UserDelay", h.userKnown},
		{"A new key is found", atOnce, "HuaweiRules.KeyDelay", h.keyKnown},
		{"A new key signs", atOnce, "HuaweiRules.ActivationDelay", h.activation},
		{"A deleted key is refused", atOnce, "HuaweiRules.RevocationDelay", h.revocation},
		{"The keys of a user that does not exist", "refused (404)", "HuaweiRules.UnknownUserIs400", h.unknownUser},
		{"The code of that error", "there is one", "HuaweiRules.NullErrorCodes", h.errorCode},
		{"A call with an inactive key", "refused (400)", "HuaweiRules.InactiveKeyIs401", h.inactive},
		{"A call without X-Domain-Id", refused, "HuaweiRules.DomainIDOptional", h.withoutDomain},
		{"A signature with \"Access=\"", accepted, "HuaweiRules.OldDialectOnly", h.newDialect},
		{"A signature with \"Credential=\"", accepted, "", h.oldDialect},
		{"A key's description with @#", refused, "HuaweiRules.FreeKeyDescriptions", h.description},
		{"The label of a key is kept unchanged", "yes", "", h.label},
		{"A user name of 40 characters", accepted, "HuaweiRules.ShortUserNames", h.longName},
		{"A third key", "", "", h.thirdKey},
		h.session.conformance(), // last: it waits for what the others ask about
	}
}

func (h *hwCloud) userKnown(ctx context.Context) (string, error) {
	return waitUntil(ctx, longest, func(ctx context.Context) (bool, error) {
		a, err := h.do(ctx, http.MethodGet, hwKeys+"?user_id="+h.session.user.ID, nil)
		return a.good(), err
	})
}

func (h *hwCloud) keyKnown(ctx context.Context) (string, error) {
	k, err := h.make(ctx)
	if err != nil {
		return "", err
	}
	return waitUntil(ctx, longest, func(ctx context.Context) (bool, error) {
		a, err := h.do(ctx, http.MethodGet, hwKeys+"/"+k.id, nil)
		return a.good(), err
	})
}

func (h *hwCloud) activation(ctx context.Context) (string, error) {
	k, err := h.make(ctx)
	if err != nil {
		return "", err
	}
	return waitUntil(ctx, longest, func(ctx context.Context) (bool, error) { return h.signs(ctx, k) })
}

func (h *hwCloud) revocation(ctx context.Context) (string, error) {
	k, err := h.usable(ctx)
	if err != nil {
		return "", err
	}
	if a, err := h.do(ctx, http.MethodDelete, hwKeys+"/"+k.id, nil); err != nil || !a.good() {
		return "deletion " + a.String(), err
	}
	return waitUntil(ctx, longest, func(ctx context.Context) (bool, error) {
		a, err := h.as(k).do(ctx, http.MethodGet, hwKeys+"/"+k.id, nil)
		return a.status == http.StatusUnauthorized, err
	})
}

func (h *hwCloud) askUnknown(ctx context.Context) (answer, error) {
	return h.do(ctx, http.MethodGet, hwKeys+"?user_id=0123456789abcdef0123456789abcdef", nil)
}

func (h *hwCloud) unknownUser(ctx context.Context) (string, error) {
	a, err := h.askUnknown(ctx)
	a.code = ""
	return a.String(), err
}

func (h *hwCloud) errorCode(ctx context.Context) (string, error) {
	a, err := h.askUnknown(ctx)
	var said map[string]any
	if json.Unmarshal(a.body, &said) == nil {
		nested, _ := said["error"].(map[string]any)
		for _, part := range []map[string]any{said, nested} {
			if code, there := part["error_code"]; there && code == nil {
				return "null", err
			}
		}
	}
	return "there is one", err
}

func (h *hwCloud) inactive(ctx context.Context) (string, error) {
	k, err := h.usable(ctx)
	if err != nil {
		return "", err
	}
	if a, err := h.do(ctx, http.MethodPut, hwKeys+"/"+k.id, fields{"credential": fields{"status": "inactive"}}); err != nil || !a.good() {
		return "deactivation " + a.String(), err
	}
	a, err := h.as(k).do(ctx, http.MethodGet, hwKeys+"/"+k.id, nil)
	a.code = ""
	return a.String(), err
}

func (h *hwCloud) withoutDomain(ctx context.Context) (string, error) {
	a, err := h.call(ctx, "", http.MethodGet, hwKeys+"?user_id="+h.session.user.ID, nil)
	return a.word(), err
}

func (h *hwCloud) dialect(ctx context.Context, signature string) (string, error) {
	a, err := h.with(func(c *provider.Config) { c.Signature = signature }).do(ctx, http.MethodGet, hwKeys+"?user_id="+h.session.user.ID, nil)
	return a.word(), err
}

func (h *hwCloud) newDialect(ctx context.Context) (string, error) {
	return h.dialect(ctx, clouds.SignatureSDK)
}

func (h *hwCloud) oldDialect(ctx context.Context) (string, error) {
	return h.dialect(ctx, clouds.SignatureOTC)
}

func (h *hwCloud) description(ctx context.Context) (string, error) {
	a, err := h.create(ctx, "cloudkeys probe @#")
	return a.word(), err
}

func (h *hwCloud) label(ctx context.Context) (string, error) {
	label := keylabel.New(keylabel.NewID(), keylabel.KindLease).String()
	made, err := h.session.cloud.CreateKey(ctx, provider.KeySpec{User: h.session.user.Name, Label: label})
	if err != nil {
		return "", err
	}
	keys, err := h.session.cloud.ListKeys(ctx, h.session.user.Name)
	for _, k := range keys {
		if k.ID == made.ID && k.Label == label {
			return "yes", err
		}
	}
	return "no", err
}

// longName tells what became of the probe's own user, which is made with such a name.
func (h *hwCloud) longName(context.Context) (string, error) {
	if len(h.session.user.Name) == longName {
		return accepted, nil
	}
	return refused, nil
}

func (h *hwCloud) thirdKey(ctx context.Context) (string, error) {
	for range h.session.cloud.KeyQuota() {
		if _, err := h.make(ctx); err != nil {
			return "", err
		}
	}
	a, err := h.create(ctx, "cloudkeys probe")
	return a.String(), err
}
