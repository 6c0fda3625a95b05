// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const hwKeys = "/v3.0/OS-CREDENTIAL/credentials"

// hwCloud makes the calls of Huawei's IAM.
type hwCloud struct {
	sender
	kind     clouds.Cloud
	config   provider.Config
	endpoint string
	session  *session
}

func newHuawei(c provider.Config) (*session, error) {
	if c.Region == "" {
		return nil, errors.New("HUAWEICLOUD_SDK_REGION (or HW_REGION_NAME) is empty: name a region of the account, such as ap-southeast-1")
	}
	kind, err := clouds.Of(c.Provider)
	if err != nil {
		return nil, err
	}
	client, err := clouds.Open(c)
	if err != nil {
		return nil, err
	}
	endpoint, err := kind.Endpoint(c.Region, c.Endpoint)
	if err != nil {
		return nil, err
	}
	s := &session{cloud: client, title: "Huawei Cloud"}
	h := &hwCloud{kind: kind, sender: sender{base: c.Base, pace: 300 * time.Millisecond}, config: c, endpoint: endpoint, session: s}
	s.raw, s.questions = h, h.questions
	s.otherwise = func() error {
		c.Signature = clouds.SignatureOTC
		other, err := clouds.Open(c)
		if err == nil {
			h.config, s.cloud = c, other
		}
		return err
	}
	return s, nil
}

// with signs as another key, or otherwise.
func (h *hwCloud) with(change func(*provider.Config)) *hwCloud {
	other := *h
	change(&other.config)
	return &other
}

func (h *hwCloud) as(k key) *hwCloud {
	return h.with(func(c *provider.Config) { c.AccessKey, c.SecretKey = k.id, k.secret })
}

// call makes one call in the account's name; an empty domain names none.
func (h *hwCloud) call(ctx context.Context, domain, method, path string, body any) (answer, error) {
	sign, err := h.kind.Signer(h.config)
	if err != nil {
		return answer{}, err
	}
	header := http.Header{}
	if domain != "" {
		header.Set("X-Domain-Id", domain)
	}
	a, err := h.send(ctx, sign, method, h.endpoint+path, header, body)
	if err != nil {
		return answer{}, err
	}
	var said struct {
		Code  string `json:"error_code"`
		Error struct {
			Code any `json:"code"`
		}
	}
	if !a.good() && json.Unmarshal(a.body, &said) == nil {
		a.code = said.Code
		if code, ok := said.Error.Code.(string); ok && a.code == "" {
			a.code = code
		}
	}
	return a, nil
}

func (h *hwCloud) do(ctx context.Context, method, path string, body any) (answer, error) {
	return h.call(ctx, h.session.accountID, method, path, body)
}

// create makes a key of the probe's user with a description.
func (h *hwCloud) create(ctx context.Context, description string) (answer, error) {
	return h.do(ctx, http.MethodPost, hwKeys, fields{"credential": fields{"user_id": h.session.user.ID, "description": description}})
}

func (h *hwCloud) make(ctx context.Context) (key, error) {
	a, err := h.create(ctx, "cloudkeys probe")
	if err != nil {
		return key{}, err
	}
	var made struct {
		Credential struct {
			Access string
			Secret provider.Secret
		}
	}
	if err := a.decode(&made); err != nil {
		return key{}, err
	}
	return key{id: made.Credential.Access, secret: made.Credential.Secret}, nil
}

// usable is a key that signs.
func (h *hwCloud) usable(ctx context.Context) (key, error) {
	k, err := h.make(ctx)
	if err != nil {
		return key{}, err
	}
	said, err := waitUntil(ctx, longest, func(ctx context.Context) (bool, error) { return h.signs(ctx, k) })
	if err == nil && said == never(longest) {
		err = errors.New("the new key never signed")
	}
	return k, err
}

// signs tells whether the cloud knows a key: a user may look at its own.
func (h *hwCloud) signs(ctx context.Context, k key) (bool, error) {
	a, err := h.as(k).do(ctx, http.MethodGet, hwKeys+"/"+k.id, nil)
	if err == nil && a.status == http.StatusUnauthorized { // more than five refusals in a row lock a key for five minutes
		err = pause(ctx, 15*time.Second)
	}
	return a.good() || a.status == http.StatusForbidden || a.status == http.StatusNotFound, err
}

// clear implements rawCloud.
func (h *hwCloud) clear(ctx context.Context) error { return clearKeys(ctx, h.session) }
