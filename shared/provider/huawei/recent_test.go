// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// slow runs a test in fake time, on a cloud that is slow to know what was just made.
func slow(t *testing.T, rules cloudsim.HuaweiRules, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cloud.SetHuaweiRules(rules)
		w.domain.AddGroup("readers")
		test(t, w)
	})
}

// job makes a user as an issue does.
func (w *world) job(ctx context.Context) (provider.User, provider.IssuedKey, error) {
	text := label(keylabel.KindUser)
	user, err := w.client.CreateUser(ctx, provider.UserSpec{Name: "job-1", Label: text})
	if err != nil {
		return user, provider.IssuedKey{}, err
	}
	if err := w.client.GrantUser(ctx, user, provider.Rights{Groups: []string{"readers"}}); err != nil {
		return user, provider.IssuedKey{}, err
	}
	key, err := w.client.CreateKey(ctx, provider.KeySpec{User: user.Name, Label: text, Expires: later(time.Hour)})
	return user, key, err
}

func (w *world) userRef(user provider.User) provider.UserRef {
	return provider.UserRef{AccountID: w.domain.ID(), ID: user.ID, Name: user.Name, Label: user.Label}
}

func TestANewUserIsWaitedFor(t *testing.T) {
	for name, rules := range map[string]cloudsim.HuaweiRules{
		"unknown for ten seconds":      {UserDelay: 10 * time.Second},
		"unknown, answered with a 400": {UserDelay: 10 * time.Second, UnknownUserIs400: true},
		"unknown to three look-ups":    {UserReads: 3},
		"and its key unknown as well":  {UserDelay: 5 * time.Second, KeyDelay: 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			slow(t, rules, func(t *testing.T, w *world) {
				started := time.Now()
				user, key, err := w.job(t.Context())
				mustDo(t, err)
				if took := time.Since(started); took > rules.UserDelay+2*lastPause {
					t.Errorf("it took %s", took)
				}
				if n := w.cloud.CountCalls(opCreateUser); n != 1 {
					t.Errorf("the user was made %d times", n)
				}
				moved := key.Ref(w.domain.ID())
				moved.Expires = later(2 * time.Hour)
				mustDo(t, w.client.MoveExpiry(t.Context(), moved))
				<-time.After(provider.Settling)
				mustDo(t, w.client.RemoveUser(t.Context(), w.userRef(user)))
				if _, there := w.domain.User("job-1"); there {
					t.Error("the user is still there")
				}
			})
		})
	}
}

func TestWaitingForANewUserEnds(t *testing.T) {
	t.Run("with the context, as an error that is no absence", func(t *testing.T) {
		slow(t, cloudsim.HuaweiRules{UserDelay: time.Hour}, func(t *testing.T, w *world) {
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			started := time.Now()
			_, _, err := w.job(ctx)
			mustBeKind(t, err, provider.KindUnknown)
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(started) != 8*time.Second || !strings.Contains(err.Error(), "made seconds ago") {
				t.Errorf("got %v after %s", err, time.Since(started))
			}
		})
	})
	t.Run("when the cloud has had its time", func(t *testing.T) {
		slow(t, cloudsim.HuaweiRules{UserDelay: time.Hour}, func(t *testing.T, w *world) {
			started := time.Now()
			_, _, err := w.job(t.Context())
			mustBeKind(t, err, provider.KindNotFound)
			if took := time.Since(started); took < provider.Settling || took > provider.Settling+lastPause {
				t.Errorf("it took %s", took)
			}
		})
	})
}

func TestTheAbsenceOfWhatWasJustMadeIsNotBelieved(t *testing.T) {
	t.Run("of a key", func(t *testing.T) {
		slow(t, cloudsim.HuaweiRules{KeyDelay: 20 * time.Second}, func(t *testing.T, w *world) {
			key, err := w.client.CreateKey(t.Context(), w.spec())
			mustDo(t, err)
			ref := key.Ref(w.domain.ID())
			for name, attempt := range map[string]func(context.Context, provider.KeyRef) error{
				"RevokeKey": w.client.RevokeKey, "DeactivateKey": w.client.DeactivateKey, "DeleteKey": w.client.DeleteKey,
			} {
				if err := attempt(t.Context(), ref); err == nil || provider.KindOf(err) != provider.KindUnknown {
					t.Errorf("%s: got %v", name, err)
				}
			}
			<-time.After(20 * time.Second)
			mustDo(t, w.client.RevokeKey(t.Context(), ref))
			if _, there := w.domain.Key(key.ID); there {
				t.Error("the key is still there")
			}
		})
	})
	t.Run("of a user", func(t *testing.T) {
		slow(t, cloudsim.HuaweiRules{UserDelay: 20 * time.Second}, func(t *testing.T, w *world) {
			user, err := w.client.CreateUser(t.Context(), provider.UserSpec{Name: "job-1", Label: label(keylabel.KindUser)})
			mustDo(t, err)
			mustBeKind(t, w.client.RemoveUser(t.Context(), w.userRef(user)), provider.KindUnknown)
			<-time.After(20 * time.Second)
			mustDo(t, w.client.RemoveUser(t.Context(), w.userRef(user)))
			if _, there := w.domain.User("job-1"); there {
				t.Error("the user is still there")
			}
		})
	})
	t.Run("of a user whose create was ambiguous", func(t *testing.T) {
		slow(t, cloudsim.HuaweiRules{UserDelay: 20 * time.Second}, func(t *testing.T, w *world) {
			w.cloud.Order(cloudsim.Fault{Op: opCreateUser, Kind: cloudsim.DropAnswer})
			text := label(keylabel.KindUser)
			_, err := w.client.CreateUser(t.Context(), provider.UserSpec{Name: "job-1", Label: text})
			mustBeKind(t, err, provider.KindAmbiguous)
			ref := provider.UserRef{AccountID: w.domain.ID(), Name: "job-1", Label: text}
			mustBeKind(t, w.client.RemoveUser(t.Context(), ref), provider.KindUnknown)
			<-time.After(20 * time.Second)
			mustDo(t, w.client.RemoveUser(t.Context(), ref))
			if _, there := w.domain.User("job-1"); there {
				t.Error("the user is still there")
			}
		})
	})
}

func TestAnotherClientDoesNotBelieveAYoungAbsenceEither(t *testing.T) {
	slow(t, cloudsim.HuaweiRules{UserDelay: 10 * time.Second, KeyDelay: 20 * time.Second}, func(t *testing.T, w *world) {
		user, key, err := w.job(t.Context())
		mustDo(t, err)
		w.cloud.Order(missing(opShowUser))
		w.cloud.Order(cloudsim.Fault{Op: opListUsers, Kind: cloudsim.RubbishAnswer, Body: `{"users":[]}`})
		ref, of := key.Ref(w.domain.ID()), w.userRef(user)
		ref.Made, of.Made = time.Now(), time.Now()
		for name, attempt := range map[string]func(c *Client) error{
			"RevokeKey":     func(c *Client) error { return c.RevokeKey(t.Context(), ref) },
			"DeactivateKey": func(c *Client) error { return c.DeactivateKey(t.Context(), ref) },
			"DeleteKey":     func(c *Client) error { return c.DeleteKey(t.Context(), ref) },
			"RemoveUser":    func(c *Client) error { return c.RemoveUser(t.Context(), of) },
			"RemoveUser by its label": func(c *Client) error {
				return c.RemoveUser(t.Context(), provider.UserRef{AccountID: of.AccountID, Name: of.Name, Label: of.Label, Made: of.Made})
			},
		} {
			if err := attempt(newClient(t, w.config)); err == nil || provider.KindOf(err) != provider.KindUnknown {
				t.Errorf("%s: got %v", name, err)
			}
		}
		mustDo(t, newClient(t, w.config).MoveExpiry(t.Context(), ref)) // which waits
	})
}
