// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package accounts

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// lasting is a cloud account for as long as a run takes: before the key that signs ends, it takes
// another. The former ones end by themselves. The methods that no run calls are the first
// client's.
type lasting struct {
	clouds.Client
	take func(context.Context) (clouds.Client, time.Time, error) // a key, and when it ends; zero: it does not
	now  func() time.Time

	mu      sync.Mutex
	current clouds.Client
	taken   time.Time
	ends    time.Time
	all     []clouds.Client
}

// begin takes the first key.
func (l *lasting) begin(ctx context.Context) error {
	_, _, err := l.client(ctx)
	l.Client = l.current
	return err
}

// client is one whose key lives for the next call, and for what a call may take; ends is when it ends.
func (l *lasting) client(ctx context.Context) (client clouds.Client, ends time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lead := min(leaseMargin/2, l.ends.Sub(l.taken)/4)
	if l.current != nil && (l.ends.IsZero() || l.now().Before(l.ends.Add(-lead))) {
		return l.current, l.ends, nil
	}
	client, ends, err = l.take(ctx)
	if err != nil && l.current != nil {
		return nil, l.ends, fmt.Errorf("the run's own key ends at %s, and another cannot be had: %w", l.ends.UTC().Format(time.RFC3339), err)
	}
	if err != nil {
		return nil, ends, err
	}
	l.current, l.taken, l.ends, l.all = client, l.now(), ends, append(l.all, client)
	return client, ends, nil
}

// Close gives back the connections.
func (l *lasting) Close() {
	for _, client := range l.all {
		client.Close()
	}
}

// call does one call with a key that lives.
func call[T any](ctx context.Context, l *lasting, do func(clouds.Client) (T, error)) (result T, err error) {
	client, ends, err := l.client(ctx)
	if err != nil {
		return result, err
	}
	result, err = do(client)
	if kind := provider.KindOf(err); err != nil && (kind == provider.KindKeyRefused || kind == provider.KindKeyUnclear) && !ends.IsZero() {
		err = fmt.Errorf("the key that is refused is the run's own, which it was given until %s: %w", ends.UTC().Format(time.RFC3339), err)
	}
	return result, err
}

// ListKeys implements provider.Keys.
func (l *lasting) ListKeys(ctx context.Context, user string) ([]provider.Key, error) {
	return call(ctx, l, func(c clouds.Client) ([]provider.Key, error) { return c.ListKeys(ctx, user) })
}

// MoveExpiry implements provider.Keys.
func (l *lasting) MoveExpiry(ctx context.Context, ref provider.KeyRef) error {
	_, err := call(ctx, l, func(c clouds.Client) (any, error) { return nil, c.MoveExpiry(ctx, ref) })
	return err
}

// DeactivateKey implements provider.Stages.
func (l *lasting) DeactivateKey(ctx context.Context, ref provider.KeyRef) error {
	_, err := call(ctx, l, func(c clouds.Client) (any, error) { return nil, c.DeactivateKey(ctx, ref) })
	return err
}

// DeleteKey implements provider.Stages.
func (l *lasting) DeleteKey(ctx context.Context, ref provider.KeyRef) error {
	_, err := call(ctx, l, func(c clouds.Client) (any, error) { return nil, c.DeleteKey(ctx, ref) })
	return err
}

// WhoAmI implements provider.Caller.
func (l *lasting) WhoAmI(ctx context.Context) (provider.Whoami, error) {
	return call(ctx, l, func(c clouds.Client) (provider.Whoami, error) { return c.WhoAmI(ctx) })
}

// AccessPolicy implements provider.PolicyReader.
func (l *lasting) AccessPolicy(ctx context.Context) (provider.AccessPolicy, error) {
	return call(ctx, l, func(c clouds.Client) (provider.AccessPolicy, error) { return c.AccessPolicy(ctx) })
}

// ListUsers implements provider.Users. Where the key ends between two pages, the list is read again
// from its first page with the next key: users are skipped up to the first of those that were
// yielded last, and go on from there. The list fails where all that are remembered are removed while the next key is taken.
func (l *lasting) ListUsers(ctx context.Context) iter.Seq2[provider.User, error] {
	return func(yield func(provider.User, error) bool) {
		listed, yielded := provider.RecentUsers{Max: provider.MaxRecentUsers}, false
		for {
			client, _, err := l.client(ctx)
			if err != nil {
				yield(provider.User{}, err)
				return
			}
			skipping := yielded
			for user, e := range client.ListUsers(ctx) {
				if err = e; err != nil {
					break
				}
				if skipping = skipping && !listed.Has(user.ID); skipping {
					continue
				}
				if yielded = true; listed.Add(user.ID) && !yield(user, nil) {
					return
				}
			}
			if err == nil && skipping {
				err = errors.New("the users that were listed last were all removed meanwhile, and where the list went on is not known")
				yield(provider.User{}, err)
				return
			}
			if err == nil {
				return
			}
			if next, _, takeErr := l.client(ctx); takeErr != nil || next == client {
				yield(provider.User{}, err)
				return
			}
		}
	}
}

// asCloud keeps what only some clouds can do.
func (l *lasting) asCloud() fleet.Cloud {
	_, writes := l.Client.(provider.PolicyWriter)
	_, tells := l.Client.(sweep.Usage)
	switch {
	case writes:
		return writing{l}
	case tells:
		return telling{l}
	default:
		return l
	}
}

// writing is a cloud whose access policy can be written.
type writing struct{ *lasting }

// SetAccessPolicy implements provider.PolicyWriter.
func (w writing) SetAccessPolicy(ctx context.Context, policy provider.AccessPolicy) error {
	_, err := call(ctx, w.lasting, func(c clouds.Client) (any, error) { return nil, c.(provider.PolicyWriter).SetAccessPolicy(ctx, policy) })
	return err
}

// telling is a cloud that tells when keys were last used.
type telling struct{ *lasting }

// LastUsed implements sweep.Usage.
func (t telling) LastUsed(ctx context.Context, user, accessKey string) (time.Time, error) {
	return call(ctx, t.lasting, func(c clouds.Client) (time.Time, error) { return c.(sweep.Usage).LastUsed(ctx, user, accessKey) })
}
