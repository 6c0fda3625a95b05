// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// forgetful is a cloud that ends no key by itself and does not tell when one was changed,
// as Huawei's. Dates are only written on its keys.
type forgetful struct{ fleet.Cloud }

func (forgetful) ExpiresKeys() bool { return false }

func (f forgetful) ListKeys(ctx context.Context, user string) ([]provider.Key, error) {
	keys, err := f.Cloud.ListKeys(ctx, user)
	for i := range keys {
		keys[i].Due, keys[i].Expires, keys[i].Changed = keys[i].Expires, time.Time{}, time.Time{}
	}
	return keys, err
}

// wrap puts something around the cloud that the job opens.
func (w *world) wrap(around func(fleet.Cloud) fleet.Cloud) {
	inner := w.job.Connect
	w.job.Connect = func(ctx context.Context, a fleet.Account) (fleet.Cloud, func(), error) {
		cloud, release, err := inner(ctx, a)
		return around(cloud), release, err
	}
}

func TestACloudThatForgetsIsRememberedFor(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.wrap(func(c fleet.Cloud) fleet.Cloud { return forgetful{c} })
		w.lease("other")
		ours := w.add(cloudsim.KeySpec{User: "deploy", Tag: ours(keylabel.KindLease), Expires: ahead(90 * dayLong)})
		found := func() Finding {
			_, all := w.mustRun(t)
			return all[ours]
		}
		mustBeClass(t, found(), ClassOrphan, ActionDeactivate)
		mustBeClass(t, found(), ClassOrphan, ActionWait)
		<-time.After(7*dayLong - time.Second)
		mustBeClass(t, found(), ClassOrphan, ActionWait)
		<-time.After(time.Second)
		mustBeClass(t, found(), ClassOrphan, ActionDelete)
		w.mustBe(t, ours, "deleted")
		w.mustRun(t)
		if left := w.ledger.states["default"].Inactive; len(left) != 0 {
			t.Errorf("still remembered: %v", left)
		}
	})
}

func TestAKeyThatWasSwitchedOffByOthersWaitsFromWhenItWasSeen(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.wrap(func(c fleet.Cloud) fleet.Cloud { return forgetful{c} })
		w.lease("other")
		id := w.add(cloudsim.KeySpec{User: "deploy", Tag: ours(keylabel.KindLease), Expires: ahead(90 * dayLong), Inactive: true})
		w.mustRun(t)
		<-time.After(7 * dayLong)
		w.mustRun(t)
		w.mustBe(t, id, "deleted")
	})
}

func TestAKeyPastItsDueDateIsSwitchedOffFirst(t *testing.T) {
	w := newWorld(t)
	w.wrap(func(c fleet.Cloud) fleet.Cloud { return forgetful{c} })
	w.lease("other")
	id := w.add(cloudsim.KeySpec{User: "deploy", Tag: ours(keylabel.KindLease), Expires: ahead(-dayLong)})
	_, found := w.mustRun(t)
	mustBeClass(t, found[id], ClassExpired, ActionDeactivate) // the cloud still accepts it
	w.mustBe(t, id, cloudsim.Inactive)
}

// witness is a cloud that tells when keys were last used.
type witness struct {
	fleet.Cloud
	used time.Time
	err  error
}

func (w witness) LastUsed(context.Context, string, string) (time.Time, error) { return w.used, w.err }

func TestNoUseSavesAKeyOfTheEngineBeyondItsDate(t *testing.T) {
	w := newWorld(t)
	w.job.Settings.UsedWithin, w.job.Settings.Foreign = dayLong, settings.Enforce
	w.wrap(func(c fleet.Cloud) fleet.Cloud { return witness{forgetful{c}, time.Now(), nil} })
	w.lease("other")
	ours := w.add(cloudsim.KeySpec{User: "deploy", Tag: ours(keylabel.KindLease), Expires: ahead(-dayLong)})
	theirs := w.add(cloudsim.KeySpec{User: "ci", Created: time.Now().Add(-100 * dayLong)})
	// a forged label never expires
	endless := w.add(cloudsim.KeySpec{User: "mallory", Tag: keylabel.New(testInstance, keylabel.KindLease).String()})
	later := w.add(cloudsim.KeySpec{
		User: "mallory", Tag: keylabel.New(testInstance, keylabel.KindLease).String(),
		Created: time.Now().Add(-366 * dayLong), Expires: ahead(9000 * dayLong),
	})
	_, found := w.mustRun(t)
	mustBeClass(t, found[ours], ClassExpired, ActionDeactivate)
	mustBeClass(t, found[endless], ClassOrphan, ActionDeactivate)
	mustBeClass(t, found[later], ClassOrphan, ActionDeactivate)
	mustBeClass(t, found[theirs], ClassUsed, ActionKeep)
}

func TestAUseSavesAKeyAndSilenceCondemnsNone(t *testing.T) {
	cases := map[string]struct {
		used time.Time
		err  error
		want Class
	}{
		"used within the days asked for": {time.Now().Add(-time.Hour), nil, ClassUsed},
		"used before":                    {time.Now().Add(-3 * dayLong), nil, ClassOrphan},
		"never used":                     {time.Time{}, nil, ClassOrphan},
		"gone meanwhile":                 {time.Time{}, &provider.Error{Kind: provider.KindNotFound}, ClassOrphan},
		"not readable":                   {time.Time{}, errors.New("denied"), ""},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.job.Settings.UsedWithin = dayLong
			w.wrap(func(c fleet.Cloud) fleet.Cloud { return witness{c, test.used, test.err} })
			id := w.orphan("deploy", ahead(dayLong))
			_, found, err := w.run(t)
			if found[id].Class != test.want || (err != nil) != (test.want == "") {
				t.Errorf("got %+v and error %v", found[id], err)
			}
		})
	}
}
