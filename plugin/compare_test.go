// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// staticRoles writes so many static roles, of a user each, and returns their names.
func (v *testVault) staticRoles(n int) (names []string) {
	v.t.Helper()
	v.configure("ttl=10m")
	for i := range n {
		name := fmt.Sprintf("db%d", i)
		v.addUser(name)
		v.write("static-roles/"+name, "user_name="+name, "rotation_period=720h", "rotation_grace_period=30m")
		names = append(names, name)
	}
	v.settleBy(2*rollbackPeriod, staticKeyAge+2*rollbackPeriod)
	return names
}

func (v *testVault) staticKey(role string) string {
	v.t.Helper()
	return v.read(staticCredsPrefix + role)["access_key"].(string)
}

func (v *testVault) mustBeLive(is bool, ids ...string) {
	v.t.Helper()
	for _, id := range ids {
		if key, there := v.key(id); (there && v.live(key)) != is {
			v.t.Errorf("whether access key %s works: %v, want %v", id, !is, is)
		}
	}
}

// mustAnnounce expects so many events of an operation since the last look.
func (v *testVault) mustAnnounce(operation string, want int) {
	v.t.Helper()
	synctest.Wait() // no request waits for its event
	n := 0
	for _, e := range v.events.Events {
		if string(e.Type) == eventPrefix+operation {
			n++
		}
	}
	if v.events.Events = nil; n != want {
		v.t.Errorf("%d events %s, want %d", n, operation, want)
	}
}

// forgetEvents begins a look at events anew.
func (v *testVault) forgetEvents() {
	synctest.Wait() // no request waits for its event
	v.events.Events = nil
}

// storedNow is a snapshot of the mount's storage.
func (v *testVault) storedNow() (restore func()) {
	v.t.Helper()
	ctx := v.t.Context()
	paths := func() []string {
		keys, err := logical.CollectKeys(ctx, v.storage.Storage)
		if err != nil {
			v.t.Fatal(err)
		}
		return keys
	}
	var entries []*logical.StorageEntry
	for _, path := range paths() {
		entry, err := v.storage.Storage.Get(ctx, path)
		if err != nil {
			v.t.Fatal(err)
		}
		entries = append(entries, &logical.StorageEntry{Key: path, Value: slices.Clone(entry.Value)})
	}
	return func() {
		for _, path := range paths() {
			_ = v.storage.Storage.Delete(ctx, path)
		}
		for _, entry := range entries {
			if err := v.storage.Storage.Put(ctx, entry); err != nil {
				v.t.Fatal(err)
			}
		}
		v.restart()
	}
}

// listWithout is a cloud whose lists lack one key for a while.
type listWithout struct {
	base  http.RoundTripper
	id    string
	hides atomic.Bool
}

// RoundTrip implements http.RoundTripper.
func (l *listWithout) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.base.RoundTrip(req)
	if err != nil || !l.hides.Load() {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	body = bytes.ReplaceAll(body, []byte(l.id), []byte(strings.Repeat("X", len(l.id))))
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// TestTheLedgerIsHeldAgainstTheCloud is E14: what the cloud has lost, besides what it has too much.
func TestTheLedgerIsHeldAgainstTheCloud(t *testing.T) {
	t.Parallel()
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"E14: a static role whose key was deleted in the cloud is rotated within a day": func(_ *testing.T, v *testVault) {
			role := v.staticRoles(1)[0]
			lost := v.staticKey(role)
			v.deleteKey(lost)
			v.forgetEvents()
			v.settle(reconcilePeriod + 5*rollbackPeriod)
			v.mustBeLive(true, v.staticKey(role))
			v.mustAnnounce(eventRotate, 1)
			v.settle(time.Hour)
			v.mustHaveLedger(1) // after its grace nothing is kept of the one that is gone
		},
		"E14: a tidy does so at once, and says it": func(_ *testing.T, v *testVault) {
			role := v.staticRoles(1)[0]
			lost := v.staticKey(role)
			v.deleteKey(lost)
			v.tidy("dry_run=true")
			v.mustTidied(tidyDone, nil, "static_keys_gone", lost, "static_roles_rotated", "")
			v.mustBeLive(false, v.staticKey(role))
			v.tidy()
			v.mustTidied(tidyDone, nil, "static_keys_gone", lost, "static_roles_rotated", role)
			v.mustBeLive(true, v.staticKey(role))
			v.mustHaveLive(1)
		},
		"E14: one that is switched off is said, and not rotated": func(t *testing.T, v *testVault) {
			role := v.staticRoles(1)[0]
			off := v.staticKey(role)
			v.switchKey(off, false)
			v.forgetEvents()
			v.tidy()
			v.mustTidied(tidyDone, nil, "static_roles_rotated", "", "static_keys_switched_off", off,
				"static_keys_switched_off", "rotate-role/"+role, "static_keys_switched_off", "switch it on")
			v.mustAnnounce(eventStaticOff, 1)
			v.settle(reconcilePeriod + 5*rollbackPeriod)
			if v.staticKey(role) != off {
				t.Error("rotated")
			}
			mustMeasure(t, v.scrape(), `cloudkeys_static_keys_switched_off{account="default"}`, 1)
			v.restart()
			_ = v.tick()
			mustMeasure(t, v.scrape(), `cloudkeys_static_keys_switched_off{account="default"}`, 1)
			v.mustFind(v.read("check/default"), "switched off access key "+off)
			v.switchKey(off, true)
			v.tidy()
			mustMeasure(t, v.scrape(), `cloudkeys_static_keys_switched_off{account="default"}`, 0)
		},
		"a key of the last ten minutes is not believed to be gone": func(t *testing.T, v *testVault) {
			role := v.staticRoles(1)[0]
			v.write("rotate-role/" + role)
			v.settleNew()
			young := v.staticKey(role)
			v.deleteKey(young)
			v.tidy()
			if v.staticKey(role) != young {
				t.Error("rotated")
			}
			v.settle(staticKeyAge)
			v.tidy()
			v.mustTidied(tidyDone, nil, "static_roles_rotated", role)
		},
		"what was not there once and is there a tick later is not gone": func(t *testing.T, v *testVault) {
			role := v.staticRoles(1)[0]
			id := v.staticKey(role)
			list := &listWithout{base: v.base, id: id}
			v.base = list
			v.restart()
			list.hides.Store(true)
			v.write("tidy")
			<-time.After(tickPeriod / 2)
			list.hides.Store(false)
			<-time.After(5 * tickPeriod)
			v.mustTidied(tidyDone, nil, "static_keys_gone", id, "static_roles_rotated", "")
			if v.staticKey(role) != id {
				t.Error("rotated")
			}
		},
		"what a comparison has rotated none rotates again within a day": func(t *testing.T, v *testVault) {
			role := v.staticRoles(1)[0]
			v.deleteKey(v.staticKey(role))
			v.tidy()
			again := v.staticKey(role)
			v.settle(staticKeyAge + time.Hour)
			v.deleteKey(again)
			v.tidy()
			if v.staticKey(role) != again {
				t.Error("rotated twice a day")
			}
			v.mustTidied(tidyDone, nil, "static_roles_rotated", "", "static_keys_gone", again)
			v.settle(day)
			v.tidy()
			v.mustBeLive(true, v.staticKey(role))
		},
		"E14: after a snapshot two rotations old is restored, what is in use works until its grace is over": func(t *testing.T, v *testVault) {
			role := v.staticRoles(1)[0]
			restore := v.storedNow()
			v.write("rotate-role/" + role)
			v.settle(time.Hour) // the grace is over
			v.write("rotate-role/" + role)
			inUse := v.staticKey(role)
			if v.domain != nil { // its two slots are full
				v.mustHaveLive(2)
			}
			restore()
			v.tidy()
			v.mustTidied(tidyDone, nil, "static_roles_rotated", role)
			v.mustBeLive(true, inUse, v.staticKey(role))
			if v.staticKey(role) == inUse {
				t.Error("it is the old one")
			}
			v.settle(time.Hour)
			v.tidy()
			v.mustBeLive(false, inUse)
			v.mustBeLive(true, v.staticKey(role))
			v.mustHaveLive(1)
		},
		"E14: so it does where another account of the mount, the same in the cloud, is compared first": func(_ *testing.T, v *testVault) {
			v.staticRoles(1)
			v.write("config/second", v.accountFields()...)
			v.addUser("other")
			v.write("static-roles/other", "account=second", "user_name=other", "rotation_period=720h", "rotation_grace_period=30m")
			v.settle(staticKeyAge + 2*rollbackPeriod)
			restore := v.storedNow()
			v.write("rotate-role/other")
			v.settle(time.Hour)
			inUse := v.staticKey("other")
			restore()
			if v.domain == nil { // a role of the first account that names the user, so that its comparison looks at it
				v.write("roles/other", "user_names=other")
			} else {
				edit(v, rolePrefix+"app", func(r *roleEntry) { r.UserNames = append(r.UserNames, "other") })
			}
			v.tidy("account=default")
			v.mustBeLive(true, inUse)
			v.tidy()
			v.mustBeLive(true, inUse, v.staticKey("other"))
		},
		"nothing is deleted of a user whose static role cannot be rotated": func(_ *testing.T, v *testVault) {
			role := v.staticRoles(1)[0]
			restore := v.storedNow()
			v.write("rotate-role/" + role)
			v.settle(time.Hour)
			inUse := v.staticKey(role)
			restore()
			stop := v.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.Refuse, Status: 403, Code: "4"})
			v.tidy()
			v.mustTidied(tidyFailed, nil, "static_roles_rotated", "", "orphans_removed", "")
			v.mustBeLive(true, inUse)
			stop()
		},
		"the cap: more than five and a tenth change nothing, until the count is confirmed": func(t *testing.T, v *testVault) {
			roles := v.staticRoles(6)
			for _, role := range roles {
				v.deleteKey(v.staticKey(role))
			}
			v.settle(reconcilePeriod + 5*rollbackPeriod)
			v.mustBeLive(false, v.staticKey(roles[0]))
			mustMeasure(t, v.scrape(), `cloudkeys_comparison_withheld{account="default"}`, 6)
			v.mustFind(v.read("check/default"), "rotate 6 static roles", "tidy account=default confirm=6")
			v.mustTidied(tidyIdle, nil, "withheld", "confirm=6")
			v.restart()
			_ = v.tick()
			mustMeasure(t, v.scrape(), `cloudkeys_comparison_withheld{account="default"}`, 6)
			v.tidy()
			v.mustTidied(tidyDone, nil, "static_roles_rotated", "", "withheld", "6", "withheld", "confirm=6")
			v.mustRefuse(logical.UpdateOperation, "tidy", []string{"confirm=6"}, "account")
			v.tidy("account=default", "confirm=5")
			v.mustTidied(tidyDone, nil, "static_roles_rotated", "")
			v.tidy("account=default", "confirm=6")
			v.mustTidied(tidyDone, nil, "withheld", "", "static_roles_rotated", roles[5])
			for _, role := range roles {
				v.mustBeLive(true, v.staticKey(role))
			}
			mustMeasure(t, v.scrape(), `cloudkeys_comparison_withheld{account="default"}`, 0)
		},
		"the cap holds for orphans as well, and five are no matter": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.mustRevoke(v.lease("app"))
			for i := range 6 {
				v.addUser(fmt.Sprint("user", i))
				v.write(fmt.Sprint("roles/user", i), fmt.Sprint("user_names=user", i))
				v.orphan(fmt.Sprint("user", i))
			}
			v.tidy()
			v.mustTidied(tidyDone, nil, "orphans_removed", "", "withheld", "delete 6 orphans", "withheld", "confirm=6")
			v.settle(reconcilePeriod + 5*rollbackPeriod)
			v.mustHaveLive(6)
			for _, key := range v.liveKeys()[:min(1, len(v.liveKeys()))] { // none is left where the bound is wrong, as was said above
				v.deleteKey(key.ID)
			}
			v.tidy()
			v.mustTidied(tidyDone, nil, "withheld", "")
			v.mustHaveLive(0)
		},
		"a round of many identities goes on over ticks, and over a restart": func(_ *testing.T, v *testVault) {
			v.staticRoles(3)
			v.deleteKey(v.staticKey("db2"))
			cancel := v.order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Delay, Delay: 900 * time.Millisecond})
			edit(v, reconcilePrefix+"default", func(s *reconcileState) { s.Next = time.Now() })
			v.restart()
			for range 20 {
				_ = v.tick()
				v.restart()
				<-time.After(rollbackPeriod)
			}
			cancel()
			v.mustBeLive(true, v.staticKey("db2"))
		},
	})
}

// TestWhatALesseeDoesToHisKey is E40. Whoever holds a key may be allowed to change it; on Huawei Cloud every user may, his own.
func TestWhatALesseeDoesToHisKey(t *testing.T) {
	t.Parallel()
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"E40: a date that was moved or cleared, and a label that was cleared or forged, are set right and " +
			"said": func(t *testing.T, v *testVault) {
			v.configure("ttl=10h")
			l := v.lease("app")
			v.settleNew()
			was, _ := v.key(l.AccessKey())
			tampered := map[string]func(){
				"the date is moved":                  func() { v.rewriteKey(was.ID, was.Tag, was.Expires.Add(100*day)) },
				"the date is cleared":                func() { v.rewriteKey(was.ID, was.Tag, time.Time{}) },
				"the label is cleared":               func() { v.rewriteKey(was.ID, "", was.Expires) },
				"both are":                           func() { v.rewriteKey(was.ID, "", time.Time{}) },
				"the label is another of our making": func() { v.rewriteKey(was.ID, v.label(), was.Expires) },
				"the label is another mount's": func() {
					v.rewriteKey(was.ID, keylabel.New(keylabel.NewID(), keylabel.KindRoot).String(), was.Expires)
				},
				"the label is a stranger's": func() { v.rewriteKey(was.ID, "mine now", was.Expires) },
			}
			counted := 0.0
			for what, tamper := range tampered {
				tamper()
				v.forgetEvents()
				v.tidy("dry_run=true")
				v.mustTidied(tidyDone, nil, "keys_set_right", was.ID)
				if is, _ := v.key(was.ID); is.Tag == was.Tag && is.Expires.Equal(was.Expires) {
					t.Errorf("%s: a dry run has set it right", what)
				}
				v.tidy()
				v.mustTidied(tidyDone, nil, "keys_set_right", was.ID, "orphans_found", "")
				if is, _ := v.key(was.ID); is.Tag != was.Tag || !is.Expires.Equal(was.Expires) || is.State != was.State {
					t.Errorf("%s: %+v, and was %+v", what, is, was)
				}
				counted++
				mustMeasure(t, v.scrape(), `cloudkeys_keys_set_right_total{account="default"}`, counted)
				v.mustAnnounce(eventSetRight, 1)
			}
			v.tidy()
			v.mustTidied(tidyDone, nil, "keys_set_right", "")
			v.mustRevoke(l)
			v.mustHaveLive(0)
		},
		"E40: the daily comparison does so too, also for a static key and a user of a lease's own": func(t *testing.T, v *testVault) {
			v.configureUsers("ttl=100h")
			v.addUser("db")
			v.write("static-roles/db", "user_name=db", "rotation_period=720h")
			l := v.lease("job")
			v.settleNew()
			for _, id := range []string{l.AccessKey(), v.staticKey("db")} {
				was, _ := v.key(id)
				v.rewriteKey(id, "", time.Time{})
				v.settle(reconcilePeriod + 5*rollbackPeriod)
				if is, _ := v.key(id); is.Tag != was.Tag || !is.Expires.Equal(was.Expires) {
					t.Errorf("%+v, and was %+v", is, was)
				}
			}
		},
		"a key that is switched off stays so": func(t *testing.T, v *testVault) {
			v.configure("ttl=10h")
			l := v.lease("app")
			v.settleNew()
			v.rewriteKey(l.AccessKey(), "", time.Time{})
			v.switchKey(l.AccessKey(), false)
			v.tidy()
			if is, _ := v.key(l.AccessKey()); v.live(is) || is.Tag == "" {
				t.Errorf("%+v", is)
			}
		},
		"a renewal beside it leaves the later date": func(t *testing.T, v *testVault) {
			v.configure("ttl=10h", "max_ttl=100h")
			l := v.lease("app")
			v.settleNew()
			v.rewriteKey(l.AccessKey(), "", time.Time{})
			<-time.After(5 * time.Hour)
			renewed := make(chan error, 1)
			defer v.order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Delay, Delay: 3 * time.Second, Times: 1})()
			v.write("tidy")
			<-time.After(2 * time.Second) // its call is on the way
			go func() { renewed <- v.renew(l, 0) }()
			if err := <-renewed; err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Minute)
			if is, _ := v.key(l.AccessKey()); is.Tag == "" || is.Expires.Before(l.Expires) {
				t.Errorf("the lease ends at %s, and its key: %+v", l.Expires, is)
			}
		},
		"E40: a second key with the label of the first is deleted": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10h")
			l := v.lease("app")
			v.settleNew()
			was, _ := v.key(l.AccessKey())
			second := v.addKey("app", was.Tag, was.Expires).AccessKey
			v.tidy()
			v.mustTidied(tidyDone, nil, "orphans_removed", second)
			v.mustBeLive(true, l.AccessKey())
			v.mustBeLive(false, second)
		},
		"E40: keys that the user of a lease has made go with it": func(_ *testing.T, v *testVault) {
			v.configureUsers("ttl=10h")
			l := v.lease("job")
			v.settleNew()
			second := v.addKey(v.leasedUser(l).Name, "", time.Time{}).AccessKey
			v.mustRevoke(l)
			v.mustBeLive(false, l.AccessKey(), second)
		},
		"E40: a key that is switched on between deactivate and delete is deleted all the same": func(t *testing.T, v *testVault) {
			v.configure("ttl=10h")
			l := v.lease("app")
			v.settleNew()
			on := 0
			v.sim.OnAnswer(func(c cloudsim.Call) {
				if c.Op == v.op("UpdateAccessKey") && on < 1 {
					on++
					v.switchKey(l.AccessKey(), true)
				}
			})
			v.mustRevoke(l)
			if on == 0 {
				t.Fatal("nothing was switched on: the test proves nothing")
			}
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
		},
	})
}
