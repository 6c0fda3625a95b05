// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// conformance is what the engine relies on of its own client, tried on the real cloud: the part of the suite in
// test/providertest that needs no faults to order.
func (s *session) conformance() question {
	return question{text: "The engine's client makes, finds, prolongs, switches off and removes a key", assumed: "yes", observed: s.conforms}
}

func (s *session) conforms(ctx context.Context) (string, error) {
	stages, ok := s.cloud.(provider.Stages)
	if !ok {
		return "", errors.New("the client has no stages")
	}
	spec := provider.KeySpec{
		User: s.user.Name, Label: keylabel.New(keylabel.NewID(), keylabel.KindLease).String(), Expires: time.Now().Add(keyLife).UTC().Truncate(time.Second),
	}
	made, err := s.cloud.CreateKey(ctx, spec)
	if err != nil {
		return "", err
	}
	ref := made.Ref(s.accountID)
	ref.User, ref.Made = s.user.Name, time.Now()
	later := ref
	later.Expires = spec.Expires.Add(keyLife)
	steps := []struct {
		name  string
		do    func() error
		there bool
		is    func(provider.Key) bool
	}{
		{"make", func() error { return nil }, true, func(k provider.Key) bool {
			return k.Active && k.Label == spec.Label && k.End().Equal(spec.Expires)
		}},
		{"prolong", func() error { return s.cloud.MoveExpiry(ctx, later) }, true, func(k provider.Key) bool {
			return k.Active && k.Label == spec.Label && k.End().Equal(later.Expires)
		}},
		{
			"switch off",
			func() error { return stages.DeactivateKey(ctx, later) },
			true,
			func(k provider.Key) bool { return !k.Active && k.Label == spec.Label },
		},
		{"remove", func() error { return stages.DeleteKey(ctx, later) }, false, nil},
		{"remove again", func() error { return s.cloud.RevokeKey(ctx, later) }, false, nil},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return "", fmt.Errorf("%s: %w", step.name, err)
		}
		said, err := waitUntil(ctx, longest, func(ctx context.Context) (bool, error) {
			k, there, err := s.find(ctx, made.ID)
			return there == step.there && (!there || step.is(k)), err
		})
		if err != nil {
			return "", fmt.Errorf("%s: %w", step.name, err)
		}
		if said == never(longest) {
			return "no: after " + step.name + " the list shows something else", nil
		}
	}
	return "yes", nil
}

// find is a key of the probe's user as the cloud lists it.
func (s *session) find(ctx context.Context, id string) (found provider.Key, there bool, err error) {
	keys, err := s.cloud.ListKeys(ctx, s.user.Name)
	for _, k := range keys {
		if k.ID == id {
			return k, true, nil
		}
	}
	return provider.Key{}, false, err
}

// never is what waitUntil says in the end.
func never(most time.Duration) string { return fmt.Sprintf("not within %d s", int(most.Seconds())) }
