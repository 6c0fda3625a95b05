// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package policysync

import (
	"context"
	"fmt"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// shownBlockers is how many blockers a result names; the others are counted.
const shownBlockers = 100

// Blocker is a key that keeps the policy from being tightened.
type Blocker struct {
	AccessKey string // whole: reports mask it
	User      string // empty: the identity whose key signs the calls
	Ours      bool
	Active    bool
	Expires   time.Time // zero: never
	Reason    string
	Advice    string
}

// search goes over all keys of an account: those of the signing identity and of every
// user, switched off ones too, since the policy's text says "all your access keys".
type search struct {
	job     Job
	account Account
	cloud   Cloud
	who     provider.Whoami
	wanted  time.Duration
	now     time.Time

	remains  remains
	shown    []Blocker
	blockers int
	short    int // keys brought forward, or that would be
	problems []error
}

func (s *search) run(ctx context.Context) error {
	listed := map[string]bool{}
	if s.who.Identity.Kind != provider.IdentityUser {
		keys, err := s.cloud.ListKeys(ctx, "")
		if err != nil {
			return fmt.Errorf("listing the keys of the signing identity: %w", err)
		}
		for _, key := range keys {
			listed[key.ID] = true
		}
		if err := s.user(ctx, "", keys); err != nil {
			return err
		}
	}
	for user, err := range s.cloud.ListUsers(ctx) {
		if err != nil {
			return fmt.Errorf("listing the account's users: %w", err)
		}
		keys, err := s.cloud.ListKeys(ctx, user.Name)
		if provider.KindOf(err) == provider.KindNotFound {
			continue // removed since it was listed
		}
		if err != nil {
			return fmt.Errorf("listing the keys of user %q: %w", user.Name, err)
		}
		keys = keep(keys, func(key provider.Key) bool { return !listed[key.ID] })
		if err := s.user(ctx, user.Name, keys); err != nil {
			return err
		}
	}
	return nil
}

func keep(keys []provider.Key, wanted func(provider.Key) bool) []provider.Key {
	var kept []provider.Key
	for _, key := range keys {
		if wanted(key) {
			kept = append(kept, key)
		}
	}
	return kept
}

// user looks at one user's keys, after they were listed.
func (s *search) user(ctx context.Context, user string, keys []provider.Key) error {
	blocking := keep(keys, s.blocks)
	promised, err := s.promises(ctx, user, blocking)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if !s.blocks(key) {
			s.remains.longest = max(s.remains.longest, key.Expires.Sub(s.now))
			continue
		}
		s.blocker(ctx, key, promised)
	}
	return nil
}

// blocks tells a key that a policy of the wanted life would not admit: the policy must be
// greater than each key's remaining life (UpdateApiAccessPolicy).
func (s *search) blocks(key provider.Key) bool {
	return key.Expires.IsZero() || key.Expires.Sub(s.now) >= s.wanted
}

// promises are the ledger's dates of keys that might be shortened.
func (s *search) promises(ctx context.Context, user string, blocking []provider.Key) (map[string]sweep.LedgerKey, error) {
	promised := map[string]sweep.LedgerKey{}
	if !s.job.Settings.Shorten || s.job.Ledger == nil || len(keep(blocking, s.ours)) == 0 {
		return promised, nil
	}
	for _, name := range []string{user, ""} { // the engine's own identity has no name in its ledger
		entries, err := s.job.Ledger.Keys(ctx, s.account.Name, name)
		if err != nil {
			return nil, fmt.Errorf("the ledger of Vault cannot be read, and without it a key could be cut below its lease: %w", err)
		}
		for _, entry := range entries {
			promised[entry.AccessKey] = entry
		}
	}
	return promised, nil
}

func (s *search) ours(key provider.Key) bool {
	label, err := keylabel.Parse(key.Label)
	return err == nil && s.account.Instance != "" && label.Instance == s.account.Instance
}

// blocker brings a blocking key forward where that is asked for and possible, and else
// says why it blocks.
func (s *search) blocker(ctx context.Context, key provider.Key, promised map[string]sweep.LedgerKey) {
	if date := s.forward(key, promised); !date.IsZero() {
		err := s.move(ctx, key, date)
		if err == nil {
			s.short++
			key.Expires = date
			if !s.blocks(key) {
				s.remains.longest = max(s.remains.longest, date.Sub(s.now))
				return
			}
		} else {
			s.problems = append(s.problems, fmt.Errorf("bringing the date of access key %s forward: %w", sweep.Mask(key.ID), err))
		}
	}
	s.blockers++
	if key.Expires.IsZero() {
		s.remains.undated++
	} else {
		s.remains.longest = max(s.remains.longest, key.Expires.Sub(s.now))
	}
	if len(s.shown) < shownBlockers {
		s.shown = append(s.shown, s.describe(key))
	}
}

// forward is the date that a key may be brought forward to; zero: it must stay. The
// engine's own key must: the engine dates it when it replaces it.
func (s *search) forward(key provider.Key, promised map[string]sweep.LedgerKey) time.Time {
	label, err := keylabel.Parse(key.Label)
	if !s.job.Settings.Shorten || s.job.Ledger == nil || err != nil || !s.ours(key) || label.Kind == keylabel.KindRoot {
		return time.Time{}
	}
	entry, recorded := promised[key.ID]
	if recorded && (entry.Expires.IsZero() || keylabel.Kind(entry.Kind) == keylabel.KindRoot) {
		return time.Time{}
	}
	return shortened(s.now, key.Expires, entry.Expires, s.wanted)
}

func (s *search) move(ctx context.Context, key provider.Key, date time.Time) error {
	if s.job.Settings.Mode != settings.Enforce {
		return nil
	}
	ref := key.Ref(s.who.AccountID)
	ref.Expires = date
	return s.cloud.MoveExpiry(ctx, ref)
}

// describe says why a key blocks and what can be done about it.
func (s *search) describe(key provider.Key) Blocker {
	b := Blocker{AccessKey: key.ID, User: key.User, Ours: s.ours(key), Active: key.Active, Expires: key.Expires}
	b.Reason = "it has no date"
	if !key.Expires.IsZero() {
		b.Reason = fmt.Sprintf("it lives until %s, longer than the wanted %s", key.Expires.UTC().Format(time.RFC3339), s.wanted)
	}
	label, err := keylabel.Parse(key.Label)
	switch {
	case key.ID == s.who.Key.ID:
		b.Advice = "it signs this run's calls: give it a date, or let the run take its key from Vault"
	case s.engines(key.ID) || err == nil && label.Kind == keylabel.KindRoot:
		b.Advice = "it is Vault's own: set the account's rotation_period and write rotate-root"
	case b.Ours:
		b.Advice = "Vault made it: it ends with its lease, or sooner with SHORTEN_KEYS"
	case err == nil:
		b.Advice = "another secrets engine made it: see there"
	default:
		b.Advice = "ask its owner to give it an earlier date, or to delete it"
	}
	return b
}

func (s *search) engines(id string) bool {
	for _, own := range s.account.EngineKeys {
		if own == id {
			return true
		}
	}
	return false
}
