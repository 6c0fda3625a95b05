// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// searches remember which users were looked at for the key of a label: an account can have
// more of them than one tick has time for.
type searches struct {
	mu     sync.Mutex // never held while waiting
	looked map[string]map[string]bool
}

// begin makes sure, once a search, that the account that is asked is the key's.
func (s *searches) begin(ctx context.Context, a *account, pending pendingKey, cause error) error {
	if s.has(pending.Label, "") {
		return nil
	}
	account, err := a.cloud.AccountID(ctx)
	if err != nil {
		return err
	}
	if account != pending.AccountID {
		return fmt.Errorf("the configured key is of another account (%s): %w", account, cause)
	}
	s.add(pending.Label, "")
	return nil
}

func (s *searches) has(label, user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looked[label][user]
}

func (s *searches) add(label, user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looked == nil {
		s.looked = map[string]map[string]bool{}
	}
	if s.looked[label] == nil {
		s.looked[label] = map[string]bool{}
	}
	s.looked[label][user] = true
}

// count grows as a search comes further.
func (s *searches) count(label string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.looked[label])
}

func (s *searches) end(label string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.looked, label)
}

// userRenamed finds the key of a user that is not there under its name, since the user may
// have been renamed after the key was made: it looks at the users of the account one by one.
// No keys: the user is gone, and the key with it, as far as the right account says so.
func userRenamed(ctx context.Context, a *account, pending pendingKey, cause error) (name string, keys []provider.Key, err error) {
	if err := a.searches.begin(ctx, a, pending, cause); err != nil {
		return "", nil, err
	}
	names, err := otherUsers(ctx, a, pending.User)
	if provider.KindOf(err) == provider.KindDenied {
		return "", nil, nil // the engine's key may not list users, which roles of keys alone do not need
	}
	if err != nil {
		return "", nil, err
	}
	for _, name := range names {
		if a.searches.has(pending.Label, name) {
			continue
		}
		keys, err := a.cloud.ListKeys(ctx, name)
		if err != nil && provider.KindOf(err) != provider.KindNotFound { // gone meanwhile
			return "", nil, err
		}
		if slices.ContainsFunc(keys, func(key provider.Key) bool { return key.Label == pending.Label }) {
			return name, keys, nil
		}
		a.searches.add(pending.Label, name)
	}
	return "", nil, nil
}

// otherUsers names the account's users, where its whole list lacks one that was not found.
// "Not found" alone is not believed: parts of a cloud may say so of a user that is there.
func otherUsers(ctx context.Context, a *account, missing string) (names []string, err error) {
	for user, err := range a.cloud.ListUsers(ctx) {
		if err != nil {
			return nil, fmt.Errorf("whether user %q is gone cannot be confirmed: %w", missing, err)
		}
		if user.Name == missing {
			return nil, fmt.Errorf("user %q was not found a moment ago, and is listed now", missing)
		}
		names = append(names, user.Name)
	}
	return names, nil
}
