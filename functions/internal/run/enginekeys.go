// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/accounts"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// engineKeysName is where a run over all accounts has its engineKeyList.
const engineKeysName = "engine-keys.json"

// engineKeysLife is how long all steps of a run take what one of them has read of Vault for true. The reads are one for each account
// of the mount, too many for each of thousands of steps.
const engineKeysLife = time.Hour

// engineKeyList are the access keys that Vault signs with, and when they were read.
type engineKeyList struct {
	At   time.Time `json:"at"`
	Keys []string  `json:"keys"`
}

// engineKeys are the access keys that Vault signs with on accounts that the run does not look at, where one that has no label might be
// removed: as a run over all accounts has written them down, or else as Vault tells, which all returns. A plan is applied up to a day
// after the run's begin, when a person approves it or the command goes on, and an operator may have given the engine another key since:
// what is written down is read anew when it is older than an hour. A key that was one of the engine's in this run stays one.
func (s Env) engineKeys(ctx context.Context, config settings.Sweep, all func(context.Context) ([]string, error)) ([]string, error) {
	if config.Foreign != settings.Enforce || len(config.Accounts) == 0 {
		return nil, nil
	}
	if s.RunID == "" || s.Archive == nil {
		return all(ctx)
	}
	text, err := s.Archive.Get(ctx, s.inRun(engineKeysName))
	if err != nil {
		return nil, err
	}
	if text == nil {
		return all(ctx)
	}
	var kept engineKeyList
	if err := json.Unmarshal(text, &kept); err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.inRun(engineKeysName), err)
	}
	if time.Since(kept.At) < engineKeysLife {
		return kept.Keys, nil
	}
	now := time.Now()
	keys, err := all(ctx)
	if err != nil {
		return nil, err
	}
	keys = append(keys, kept.Keys...)
	slices.Sort(keys)
	keys = slices.Compact(keys)
	if err := s.putEngineKeys(ctx, now, keys); err != nil { // the other steps read Vault themselves then
		s.Log.WarnContext(ctx, "the list of the engine's keys could not be kept for the run's other steps", "problem", err.Error())
	}
	return keys, nil
}

// keepEngineKeys writes down for all steps of a run what engineKeys returns.
func (s Env) keepEngineKeys(ctx context.Context, config settings.Sweep) error {
	if config.Foreign != settings.Enforce {
		return nil
	}
	now := time.Now()
	keys, err := accounts.EngineKeys(ctx, s.Getenv, s.userAgent(), s.Log)
	if err != nil {
		return err
	}
	return s.putEngineKeys(ctx, now, keys)
}

// putEngineKeys takes the time from before the keys were read: a key that is given to the engine meanwhile may not be among them.
func (s Env) putEngineKeys(ctx context.Context, at time.Time, keys []string) error {
	return s.putJSON(ctx, s.inRun(engineKeysName), engineKeyList{At: at.UTC(), Keys: slices.Concat([]string{}, keys)})
}
