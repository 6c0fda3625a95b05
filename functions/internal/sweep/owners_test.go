// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

// What an owner writes on his key can delay its end, and neither prevent it nor hide it.
func TestWhatAnOwnerWritesOnHisKeyDelaysAtMost(t *testing.T) {
	other := keylabel.New("OTHERAAAAAAAAAAA", keylabel.KindLease).String()
	key := func(label string, age time.Duration, change ...func(*provider.Key)) provider.Key {
		k := provider.Key{ID: "AK", User: "deploy", Active: true, Label: label, Created: noon.Add(-age), Expires: noon.Add(dayLong)}
		for _, c := range change {
			c(&k)
		}
		return k
	}
	ended := func(k *provider.Key) { k.Expires = noon.Add(-2 * time.Hour) }
	endless := func(k *provider.Key) { k.Expires = time.Time{} }
	changed := func(ago time.Duration) func(*provider.Key) {
		return func(k *provider.Key) { k.Changed = noon.Add(-ago) }
	}
	cases := map[string]struct {
		key    provider.Key
		entry  *fleet.LedgerKey
		class  Class
		action Action
	}{
		"a root label that nobody confirms": {key(ours(keylabel.KindRoot), 3*dayLong), nil, ClassOrphan, ActionDeactivate},
		"one on an expired key":             {key(ours(keylabel.KindRoot), 3*dayLong, ended), nil, ClassExpired, ActionRemove},
		"one on a key younger than a day":   {key(ours(keylabel.KindRoot), 23*time.Hour), nil, ClassYoung, ActionKeep},
		"one that the ledger confirms": {
			key(ours(keylabel.KindRoot), 3*dayLong), &fleet.LedgerKey{Kind: "root"}, ClassEngine, ActionKeep,
		},
		"another instance's label":                     {key(other, 3*dayLong), nil, ClassOther, ActionKeep},
		"one past the date that is written on the key": {key(other, 3*dayLong, ended), nil, ClassOther, ActionFlag},
		"one on an old key without any date":           {key(other, 3*365*dayLong, endless), nil, ClassOther, ActionFlag},
		"one on an old key with a date far ahead":      {key(other, 91*dayLong), nil, ClassOther, ActionFlag},
		"an exemption, which is listed":                {key("vault-keep-until=2026-06-01", 100*dayLong), nil, ClassExempt, ActionFlag},
		"an exemption for ever, in its first year":     {key("vault-keep-until=9999-01-01", 364*dayLong), nil, ClassExempt, ActionFlag},
		"an exemption for ever, after a year":          {key("vault-keep-until=9999-01-01", 366*dayLong), nil, ClassOverAge, ActionFlag},
		"an exemption for ever, on a key changed lately": {
			key("vault-keep-until=9999-01-01", 900*dayLong, changed(dayLong)), nil, ClassExempt, ActionFlag,
		},
		"an exemption until a date in no form": {
			key("vault-keep-until=x", 100*dayLong, changed(6*dayLong)), nil, ClassExempt, ActionFlag,
		},
		"one until a date in no form, for longer than a week": {
			key("vault-keep-until=x", 100*dayLong, changed(8*dayLong)), nil, ClassOverAge, ActionFlag,
		},
		"an exemption on a key whose age the cloud hides": {
			key("vault-keep-until=9999-01-01", 0, func(k *provider.Key) { k.Created = time.Time{} }), nil, ClassYoung, ActionKeep,
		},
		"an exemption beside the engine's own label, in a tag": {
			key(ours(keylabel.KindLease)+" vault-keep-until=9999-01-01", 366*dayLong), nil, ClassOverAge, ActionFlag,
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			if d := testRules().decide(test.key, test.entry); d.class != test.class || d.action != test.action {
				t.Errorf("got %+v, want %s, %s", d, test.class, test.action)
			}
		})
	}
}

// An owner labels all of his keys as the engine's. They are not what keeps the sweep from the
// one key that has to go, and each night some of them go too.
func TestAnOwnerOfManyForgedKeysJamsNobody(t *testing.T) {
	w := newWorld(t)
	w.job.Settings.Quarantine, w.job.Settings.MaxPercent, w.job.Settings.UserMaxKeys = 0, 25, 20
	for i := range 12 {
		w.add(cloudsim.KeySpec{User: userName(i), Expires: ahead(dayLong)}) // somebody's
	}
	orphan := w.orphan("deploy", ahead(dayLong))
	var forged []string
	for range 10 {
		forged = append(forged, w.add(cloudsim.KeySpec{User: "mallory", Tag: ours(keylabel.KindLease), Expires: ahead(dayLong)}))
	}
	for night, left := 1, len(forged); left > 0; night++ {
		result, found := w.mustRun(t)
		if night > 6 || result.Accounts[0].Tripped != "" {
			t.Fatalf("night %d: got %+v", night, result.Accounts)
		}
		w.mustBe(t, orphan, "deleted")
		before := left
		left = 0
		for _, id := range forged {
			if w.state(id) != "deleted" {
				left++
				if found[id].Outcome != OutcomeLeftOut {
					t.Errorf("night %d: got %+v", night, found[id])
				}
			}
		}
		if left == before || result.Total().LeftOut != left {
			t.Fatalf("night %d: %d of the forged keys are left, and %d are said to be left out", night, left, result.Total().LeftOut)
		}
	}
}

func TestNoUserHasMoreThanHisShareOfAPlan(t *testing.T) {
	cases := map[string]struct {
		planned, seen, most int
	}{
		"a plan of four is done whole":            {4, 5, 4},
		"half of a plan of ten":                   {10, 1000, 5},
		"half of what the caps allow":             {10, 20, 2},
		"never more than USER_MAX_KEYS":           {90, 1000, 20},
		"half of MAX_KEYS where the plan is huge": {5000, 10_000_000, 20},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			s := settings.Sweep{MaxKeys: 100, MaxPercent: 25, UserMaxKeys: 20}
			if got := mostOfUser(s, test.planned, test.seen); got != test.most {
				t.Errorf("got %d, want %d", got, test.most)
			}
		})
	}
}

func TestAKeyWhoseDeleteIsRefusedThreeNightsIsUndeletable(t *testing.T) {
	for name, night := range map[string]func(t *testing.T, w *world) Result{
		"by runs that do it all": func(t *testing.T, w *world) Result {
			t.Helper()
			result, _ := w.mustRun(t)
			return result
		},
		"by runs that plan first, and then apply": func(t *testing.T, w *world) Result {
			t.Helper()
			result, err := w.apply(t, t.Context(), w.planned(t))
			if err != nil {
				t.Fatal(err)
			}
			return result
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.job.Settings.Quarantine = 0
				w.lease("other")
				id := w.orphan("deploy", ahead(300*dayLong))
				w.cloud.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 409, Code: "6007"})
				undeletable := 0
				for n := 1; n <= 5; n++ {
					result := night(t, w)
					want := map[int]Outcome{1: OutcomeDeleteRefused, 2: OutcomeDeleteRefused, 3: OutcomeUndeletable}[n]
					if got := findings(t, result)[id]; got.Outcome != want {
						t.Errorf("night %d: got %+v, want %q", n, got, want)
					}
					undeletable += result.Total().Undeletable
					<-time.After(dayLong)
				}
				_, found := w.mustRun(t)
				mustBeClass(t, found[id], ClassUndeletable, ActionKeep)
				if calls := w.cloud.CountCalls("DeleteAccessKey"); undeletable != 1 || calls != 3 {
					t.Errorf("reported %d times, after %d tries", undeletable, calls)
				}
				w.mustBe(t, id, cloudsim.Inactive)
			})
		})
	}
}

func TestAUserWhoseKeysCannotBeReadIsReportedAndTheOthersGoOn(t *testing.T) {
	unreadable := func(w *world, kind provider.Kind) {
		w.wrap(func(c fleet.Cloud) fleet.Cloud {
			return oddOne{c, "odd", &provider.Error{Kind: kind, Op: "ReadAccessKeys"}}
		})
	}
	t.Run("whose keys the cloud denies", func(t *testing.T) {
		w := newWorld(t)
		orphan := w.orphan("deploy", ahead(dayLong))
		odd := w.orphan("odd", ahead(dayLong))
		unreadable(w, provider.KindDenied)
		w.ledger.states["default"] = State{Inactive: map[string]time.Time{odd: time.Now().Add(-dayLong)}}
		result, _ := w.mustRun(t)
		w.mustBe(t, orphan, cloudsim.Inactive)
		if r := result.Accounts[0]; r.Counts.UnreadUsers != 1 || len(r.Unread) != 1 || r.Problem != "" {
			t.Errorf("got %+v", r)
		}
		if _, remembered := w.ledger.states["default"].Inactive[odd]; !remembered {
			t.Error("what was known of the user's keys is forgotten")
		}
	})
	t.Run("but not one of a list that tells of the account", func(t *testing.T) {
		for _, kind := range []provider.Kind{provider.KindKeyRefused, provider.KindLockedOut, provider.KindUnreachable, provider.KindThrottled} {
			w := newWorld(t)
			w.orphan("deploy", ahead(dayLong))
			w.orphan("odd", ahead(dayLong))
			unreadable(w, kind)
			if _, _, err := w.run(t); err == nil || len(w.changes()) != 0 {
				t.Errorf("%s: got error %v and %d changes", kind, err, len(w.changes()))
			}
		}
	})
	t.Run("nor where nobody's keys can be read", func(t *testing.T) {
		w := newWorld(t)
		w.orphan("odd", ahead(dayLong))
		w.account.DeleteUser("leaseholder")
		unreadable(w, provider.KindDenied)
		if _, _, err := w.run(t); err == nil {
			t.Error("an account of which nothing was read passes for swept")
		}
	})
}

// oddOne fails to list one user's keys.
type oddOne struct {
	fleet.Cloud
	user string
	err  error
}

func (o oddOne) ListKeys(ctx context.Context, user string) ([]provider.Key, error) {
	if user == o.user {
		return nil, o.err
	}
	return o.Cloud.ListKeys(ctx, user)
}

func TestKeysThatCannotBeSeenAreSaid(t *testing.T) {
	const unseen = "the keys of the account itself (root) were not seen"
	const perhaps = "the keys of the account itself (root) were perhaps not seen"
	for name, test := range map[string]struct {
		users      int
		root, part bool
		want       string
	}{
		"with a user's key":                                 {want: unseen},
		"with the key of a user behind many":                {users: manyUsers, want: unseen},
		"with the key of whoever, of which a part is known": {users: manyUsers, root: true, part: true, want: perhaps},
		"and with root's, where they are seen, nothing is":  {users: manyUsers, root: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for i := range test.users {
				w.lease(fmt.Sprintf("a-%s", userName(i)))
			}
			if !test.root {
				w.account.AddUser("functions", "api:ReadUsers", "api:ReadAccounts", "api:ReadAccessKeys", "api:ReadApiAccessPolicy")
				w.signWith(t, w.account.AddKey(cloudsim.KeySpec{User: "functions", Expires: ahead(time.Hour)}))
			}
			if test.part {
				w.job.Resume = map[string]string{"default": "a-" + userName(1)}
			}
			result, _ := w.mustRun(t)
			if got := result.Accounts[0].Unseen; test.want == "" && got != "" || !strings.HasPrefix(got, test.want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

// manyUsers are more than a client asks whose its key is.
const manyUsers = 60

// root's key that signs, and another, are of no user, and nobody knows at first that they are root's.
func TestKeysOfRootAreProtectedInAnAccountOfManyUsers(t *testing.T) {
	start := func(t *testing.T) (w *world, other string) {
		t.Helper()
		w = newWorld(t)
		for i := range manyUsers {
			w.lease(userName(i))
		}
		return w, w.orphan("", ahead(dayLong))
	}
	t.Run("by KEEP_USERS", func(t *testing.T) {
		w, other := start(t)
		w.job.Settings.KeepUsers = []string{"root"}
		result, found := w.mustRun(t)
		mustBeClass(t, found[other], ClassListed, ActionKeep)
		if len(result.Unmatched) != 0 {
			t.Errorf("%s passes for unmatched", result.Unmatched)
		}
	})
	for name, kind := range map[string]provider.Kind{
		"where a user's keys cannot be read, since they may be his":                        provider.KindDenied,
		"where a user is gone when he is looked at, since he may have another name by now": provider.KindNotFound,
	} {
		t.Run(name, func(t *testing.T) {
			w, other := start(t)
			w.wrap(func(c fleet.Cloud) fleet.Cloud {
				return oddOne{c, userName(1), &provider.Error{Kind: kind, Op: "ReadAccessKeys"}}
			})
			_, found := w.mustRun(t)
			mustBeClass(t, found[other], ClassUnclear, ActionKeep)
		})
	}
	t.Run("which is not said again where a plan is applied", func(t *testing.T) {
		w, _ := start(t)
		result, err := w.apply(t, t.Context(), w.planned(t))
		if got := result.Accounts[0].Unseen; err != nil || got != "" {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("and else planned", func(t *testing.T) {
		w, other := start(t)
		_, found := w.mustRun(t)
		mustBeClass(t, found[other], ClassOrphan, ActionDeactivate)
	})
}

func TestPatternsThatProtectNobodyAreReported(t *testing.T) {
	w := newWorld(t)
	w.job.Settings.KeepUsers, w.job.Settings.KeepKeys = []string{"ap*", "db-*", "root"}, []string{"NOSUCH*"}
	w.lease("app")
	result, _ := w.mustRun(t)
	if got := fmt.Sprint(result.Unmatched); got != "[KEEP_USERS db-* KEEP_KEYS NOSUCH*]" {
		t.Errorf("got %s", got)
	}
}

// A cloud that answers slowly must not take the time of the report.
func TestTheReserveIsKeptWhileApplying(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.job.Settings.Reserve = 10 * time.Second
		id := w.orphan("deploy", ahead(dayLong))
		w.cloud.Order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Delay, Delay: 14 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		begun := time.Now()
		result, found, err := w.runIn(t, ctx)
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("the run took %s of 20 s, and 10 s are for the report", took)
		}
		if err != nil || found[id].Outcome != OutcomeNotReached || !result.Accounts[0].Partial {
			t.Errorf("got %+v and error %v", found[id], err)
		}
	})
}

// A change that is cut off leaves open whether it was made.
func TestNoChangeIsBegunForWhichThereIsNoTime(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.job.Settings.Reserve, w.job.Settings.Workers = 10*time.Second, 1
		for range 40 {
			w.orphan("deploy", ahead(dayLong))
		}
		w.cloud.Order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Delay, Delay: 3 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 110*time.Second)
		defer cancel()
		result, found, err := w.runIn(t, ctx)
		if err != nil || !result.Accounts[0].Partial || w.cloud.CountCalls("UpdateAccessKey") != result.Accounts[0].Counts.Deactivated {
			t.Errorf("%d calls, and %+v, error %v", w.cloud.CountCalls("UpdateAccessKey"), result.Accounts[0].Counts, err)
		}
		for _, f := range found {
			if strings.Contains(f.Detail, "while it was changed") {
				t.Errorf("%s: %s", f.AccessKey, f.Detail)
			}
		}
	})
}

// TestAHostileOwnerKeepsNoKeyAndTouchesNobodyElses has an owner with all rights over his own user's
// keys, in both clouds: he labels them as he likes, and makes as many as he can.
func TestAHostileOwnerKeepsNoKeyAndTouchesNobodyElses(t *testing.T) {
	contract.New(t) // nothing outside may be waited for in a bubble
	for name, in := range map[string]func(*sweepScene, *testing.T){
		"OUTSCALE":     (*sweepScene).inOutscale,
		"Huawei Cloud": (*sweepScene).inHuawei,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSweepScene(t, in)
				s.job.Settings.Workers, s.job.Settings.MaxKeys, s.job.Settings.MaxPercent, s.job.Settings.UserMaxKeys = 4, 100, 25, 20
				s.job.Settings.Foreign, s.job.Settings.MaxExemption = settings.Enforce, 365*dayLong
				for i := range 30 {
					s.kept = append(s.kept, s.add(cloudsim.KeySpec{User: userName(i), Expires: ahead(90 * dayLong)}))
				}
				const mallory = "mallory @odd.name+=,"
				old := time.Now().Add(-400 * dayLong)
				mine := func(tag string, created time.Time, expires time.Time) string {
					return s.add(cloudsim.KeySpec{User: mallory, Tag: tag, Created: created, Expires: expires})
				}
				forged := []string{
					mine(ours(keylabel.KindRoot), old, ahead(300*dayLong)),
					mine("vault-keep-until=9999-01-01", old, ahead(300*dayLong)),
					mine("vault-keep-until=never", old, ahead(300*dayLong)),
				}
				for range 10 {
					forged = append(forged, mine(ours(keylabel.KindLease), time.Now().Add(-2*dayLong), ahead(300*dayLong)))
				}
				other := mine(keylabel.New("OTHERAAAAAAAAAAA", keylabel.KindLease).String(), old, ahead(-dayLong))
				for night := range 40 {
					result, err := Run(t.Context(), s.job)
					if err != nil || result.Accounts[0].Tripped != "" {
						t.Fatalf("night %d: got %+v and error %v", night, result.Accounts, err)
					}
					if f := findings(t, result)[other]; f.Action != ActionFlag {
						t.Errorf("night %d: another engine's label is not listed: %+v", night, f)
					}
					_ = result.Close()
					if night == 10 { // the honest orphans are not held up
						for _, id := range s.doomed {
							s.mustBe(t, id, "deleted")
						}
					}
					<-time.After(dayLong)
				}
				for _, id := range forged {
					s.mustBe(t, id, "deleted")
				}
				s.mustHaveKept(t)
			})
		})
	}
}

// TestAnOwnerWhoIsAtItDayAndNight has the owner of one key do, again and again, what he may do with it. Its end comes all the same, and
// nobody else's key is touched.
func TestAnOwnerWhoIsAtItDayAndNight(t *testing.T) {
	contract.New(t) // nothing outside may be waited for in a bubble
	const mallory = "mallory"
	attacks := map[string]struct {
		daily  func(s *sweepScene, id string, day int)
		always func(s *sweepScene, id string, n int) // whenever a list of his keys is asked for
	}{
		"who switches it on again each morning": {daily: func(s *sweepScene, id string, _ int) { s.switchOn(id) }},
		"who touches it each day":               {daily: func(s *sweepScene, id string, day int) { s.rewrite(id, "note", day) }},
		"who has a program change it whenever it is looked at": {always: func(s *sweepScene, id string, n int) {
			s.rewrite(id, fmt.Sprintf("note %d", n), n)
		}},
		"who has one switch it on whenever it is looked at": {always: func(s *sweepScene, id string, _ int) { s.switchOn(id) }},
		"who does it all": {
			daily: func(s *sweepScene, id string, _ int) { s.switchOn(id) },
			always: func(s *sweepScene, id string, n int) {
				s.rewrite(id, fmt.Sprintf("note %d", n), n)
				s.switchOn(id)
			},
		},
	}
	for cloud, in := range map[string]func(*sweepScene, *testing.T){
		"OUTSCALE":     (*sweepScene).inOutscale,
		"Huawei Cloud": (*sweepScene).inHuawei,
	} {
		for name, attack := range attacks {
			steps := len(name)%2 == 0 // half of them meet the two steps of a run over many accounts
			t.Run(cloud+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSweepScene(t, in)
					s.job.Settings.Workers, s.job.Settings.MaxKeys, s.job.Settings.Foreign = 4, 100, settings.Enforce
					id := s.add(cloudsim.KeySpec{User: mallory, Tag: "note", Created: time.Now().Add(-400 * dayLong), Expires: ahead(900 * dayLong)})
					n := 0
					s.cloud.OnCall(func(call cloudsim.Call) {
						if attack.always != nil && s.lists(call, mallory) {
							n++
							attack.always(s, id, n)
						}
					})
					for day := 1; s.state(id) != "deleted"; day++ {
						if day > 21 { // a quarantine of seven days, and three nights in a row on which it had changed, twice
							t.Fatalf("after %d days it is %s", day, s.state(id))
						}
						s.night(t, steps)
						<-time.After(dayLong)
						if attack.daily != nil {
							attack.daily(s, id, day)
						}
					}
					if attack.always != nil && n == 0 {
						t.Error("his keys were never looked at")
					}
					s.mustHaveKept(t)
				})
			})
		}
	}
}

// night is one run: at once, or in the two steps that plan and apply.
func (s *sweepScene) night(t *testing.T, steps bool) {
	t.Helper()
	if !steps {
		result, err := Run(t.Context(), s.job)
		if err != nil {
			t.Fatal(err)
		}
		_ = result.Close()
		return
	}
	if _, err := s.apply(t, t.Context(), s.planned(t)); err != nil {
		t.Fatal(err)
	}
}

// lists tells whether a call asks for a user's keys.
func (s *sweepScene) lists(call cloudsim.Call, user string) bool {
	if s.domain == nil {
		return call.Op == "ReadAccessKeys" && strings.Contains(string(call.Body), `"`+user+`"`)
	}
	who, _ := s.domain.User(user)
	return strings.Contains(call.Target, "user_id="+who.ID)
}

// switchOn does what every owner may.
func (s *sweepScene) switchOn(id string) {
	if s.domain == nil {
		s.account.SwitchKey(id, true)
		return
	}
	s.domain.SetKeyState(id, "active")
}

// rewrite gives a key another text and, where it has one, another date.
func (s *sweepScene) rewrite(id, text string, n int) {
	if s.domain == nil {
		s.account.RewriteKey(id, text, time.Now().Add(900*dayLong+time.Duration(n)*time.Second).UTC().Truncate(time.Second))
		return
	}
	s.domain.DescribeKey(id, text)
}

// Six keys of six users may be removed. That a seventh has forged ten labels must not make it too many, night after night.
func TestAnOwnerDoesNotFillTheCapForTheOthers(t *testing.T) {
	w := newWorld(t)
	w.job.Settings.Quarantine, w.job.Settings.MaxPercent, w.job.Settings.UserMaxKeys = 0, 25, 20
	for i := range 22 {
		w.add(cloudsim.KeySpec{User: userName(i), Expires: ahead(dayLong)}) // somebody's
	}
	var orphans []string
	for i := range 6 {
		orphans = append(orphans, w.orphan(userName(i), ahead(dayLong)))
	}
	for range 10 {
		w.add(cloudsim.KeySpec{User: "mallory", Tag: ours(keylabel.KindLease), Expires: ahead(dayLong)})
	}
	result, _ := w.mustRun(t)
	if result.Accounts[0].Tripped != "" {
		t.Errorf("got %+v", result.Accounts)
	}
	for _, id := range orphans {
		w.mustBe(t, id, "deleted")
	}
	if n := result.Total(); n.Deleted != 10 || n.LeftOut != 6 { // a quarter of the 40 keys
		t.Errorf("got %+v", n)
	}
}

// A ledger is doubted where leases are missing and as many orphans show. One forged label must not make it doubtful for good, and what
// is condemned without it goes in any case.
func TestAForgedLabelMakesNoLedgerDoubtful(t *testing.T) {
	t.Run("from which leases have ended", func(t *testing.T) {
		w := newWorld(t)
		var leases []string
		for i := range 12 {
			leases = append(leases, w.lease(userName(i)))
		}
		w.mustRun(t)
		for _, id := range leases[3:] {
			w.account.DeleteKey(id)
		}
		w.ledger.entries = w.ledger.entries[:3]
		forged := w.add(cloudsim.KeySpec{User: "mallory", Tag: ours(keylabel.KindLease), Expires: ahead(300 * dayLong)})
		w.mustRun(t)
		w.mustBe(t, forged, cloudsim.Inactive)
	})
	t.Run("that is empty", func(t *testing.T) {
		w := newWorld(t)
		expired := w.add(cloudsim.KeySpec{User: "deploy", Tag: ours(keylabel.KindLease), Expires: ahead(-2 * time.Hour)})
		forged := w.add(cloudsim.KeySpec{User: "mallory", Tag: ours(keylabel.KindLease), Expires: ahead(300 * dayLong)})
		_, found, err := w.run(t)
		mustSay(t, err, "the ledger of Vault is empty")
		w.mustBe(t, expired, "deleted")
		w.mustBe(t, forged, cloudsim.Active)
		if found[forged].Outcome != OutcomeNotReached {
			t.Errorf("got %+v", found[forged])
		}
	})
}
