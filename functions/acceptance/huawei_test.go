// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// sweepRights and reportRights are what docs/functions.md tells an operator to give the
// functions on Huawei Cloud.
var (
	reportRights = []string{"iam:users:listUsers", "iam:credentials:listCredentials", "iam:credentials:getCredential"}
	sweepRights  = append([]string{"iam:credentials:updateCredential", "iam:credentials:deleteCredential"}, reportRights...)
)

// huaweiSide is an account of Huawei Cloud that the same mount has beside its OUTSCALE one.
type huaweiSide struct {
	*world
	domain *cloudsim.Domain
	own    cloudsim.Credentials // of the engine
	keys   map[string]string    // ids of the planted and leased keys by what they are
}

// withHuawei adds the account "huawei", whose keys the function takes from a role that the
// operator writes.
func (w *world) withHuawei(role ...string) *huaweiSide {
	w.t.Helper()
	h := &huaweiSide{world: w, domain: w.sim.AddDomain("acme"), keys: map[string]string{}}
	h.domain.AddUser("vault", cloudsim.SecurityAdministrator, cloudsim.AgentOperator)
	h.own = h.domain.AddKey(cloudsim.IAMKeySpec{User: "vault", Created: time.Now().AddDate(-1, 0, 0)})
	h.domain.AddUser("app")
	h.domain.AddUser("db")
	h.domain.AddUser("functions", sweepRights...)
	h.domain.AddAgency("functions", h.domain, sweepRights...)
	w.write(w.name+"/config/huawei", "provider=huawei", "endpoint="+w.sim.StartHuawei(w.t), "max_requests_per_second=500",
		"access_key="+h.own.AccessKey, "secret_key="+h.own.SecretKey)
	w.write(w.name+"/roles/functions-huawei", slices.Concat([]string{"account=huawei", "ttl=15m", "max_ttl=30m"}, role)...)
	w.write(w.name+"/roles/app-huawei", "account=huawei", "user_names=app", "ttl=1h", "max_ttl=8h")
	w.write(w.name+"/static-roles/db", "account=huawei", "user_name=db", "rotation_period=24h")
	h.addIAMKeys()
	return h
}

// The roles that a function's key can come from.
var (
	poolRole    = []string{"user_names=functions"}
	sessionRole = []string{"credential_type=session_token", "agency_name=functions"}
)

// addIAMKeys makes one key of each kind that matters. Of the planted ones Vault knows
// nothing, as after it was restored from an older snapshot.
func (h *huaweiSide) addIAMKeys() {
	h.t.Helper()
	instance := h.read(h.name + "/info")["instance_id"].(string)
	past, ahead := time.Now().Add(-5*time.Hour), time.Now().Add(48*time.Hour)
	plant := func(user, description string) string {
		return h.domain.AddKey(cloudsim.IAMKeySpec{User: user, Description: description, Created: time.Now().Add(-9 * time.Hour)}).AccessKey
	}
	dated := func(instance string, due time.Time) string {
		return keylabel.New(instance, keylabel.KindLease).String() + "/until/" + due.UTC().Format(time.RFC3339)
	}
	h.keys = map[string]string{
		"expired":     plant("app", dated(instance, past)),
		"orphan":      plant("app", dated(instance, ahead)),
		"other mount": plant("app", dated(keylabel.NewID(), past)),
		"handed over": plant("db", keylabel.HandedOver(keylabel.New(instance, keylabel.KindStatic).String())),
		"foreign":     h.domain.AddKey(cloudsim.IAMKeySpec{User: "ci", Created: time.Now().AddDate(-1, 0, 0)}).AccessKey,
		"owner":       h.domain.RootKey().AccessKey,
		"engine":      h.own.AccessKey,
		"static":      h.read(h.name + "/static-creds/db")["access_key"].(string),
	}
	h.domain.AddUser("leased")
	h.write(h.name+"/roles/leased", "account=huawei", "user_names=leased", "ttl=1h")
	h.keys["leased"] = h.read(h.name + "/creds/leased")["access_key"].(string)
}

// without are the names of all keys but those.
func (h *huaweiSide) without(gone ...string) []string {
	return slices.DeleteFunc(slices.Collect(maps.Keys(h.keys)), func(name string) bool { return slices.Contains(gone, name) })
}

// mustHaveIAM compares which keys are left, and that those work.
func (h *huaweiSide) mustHaveIAM(names ...string) {
	h.t.Helper()
	var left []string
	for name, id := range h.keys {
		key, there := h.domain.Key(id)
		if there {
			left = append(left, name)
		}
		if there && !key.Live() {
			h.t.Errorf("the %s key is switched off", name)
		}
	}
	slices.Sort(left)
	slices.Sort(names)
	if !slices.Equal(left, names) {
		h.t.Errorf("Huawei Cloud has %v, want %v", left, names)
	}
}

// changingIAM are the calls of the function that change something.
func (h *huaweiSide) changingIAM() int {
	return h.sim.CountCalls("UpdatePermanentAccessKey") + h.sim.CountCalls("DeletePermanentAccessKey")
}

func (h *huaweiSide) mustHideIDs(texts ...string) {
	h.t.Helper()
	h.mustHideSecrets(texts...)
	for _, text := range texts {
		for name, id := range h.keys {
			if strings.Contains(text, id) {
				h.t.Errorf("the whole id of the %s key shows in %s", name, text)
			}
		}
	}
}

func TestHuaweiKeysThatVaultForgotAreRemoved(t *testing.T) {
	for name, role := range map[string][]string{"with a user's key": poolRole, "with a session of an agency": sessionRole} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.withAWS()
			w.withBucket()
			h := w.withHuawei(role...)

			function := w.start(revokeFunction, "MODE=report", "ACCOUNTS=huawei")
			answer := decode[run.SweepAnswer](t, function.invoke(`{}`))
			h.mustHaveIAM(h.without()...)
			report := h.mustReportIAM(answer, 0)
			h.mustHideIDs(report, function.log.String())

			function = w.start(revokeFunction, "MODE=enforce", "ACCOUNTS=huawei")
			text := function.invoke(`{}`)
			h.mustHaveIAM(h.without("expired", "orphan")...)
			report = h.mustReportIAM(decode[run.SweepAnswer](t, text), 2)
			w.mustHave("leased", "orphan", "expired", "foreign") // of the account that was not asked for
			w.mustHaveGivenBack()
			h.mustHideIDs(text, report, function.log.String())
		})
	}
}

// mustReportIAM reads the report of the Huawei account.
func (h *huaweiSide) mustReportIAM(answer run.SweepAnswer, deleted int) string {
	h.t.Helper()
	if len(answer.Accounts) != 1 || answer.Accounts[0].Planned != 2 || answer.Accounts[0].Deleted != deleted ||
		answer.Accounts[0].Failed != 0 {
		h.t.Fatalf("got %+v", answer)
	}
	report := aws.object(h.t, answer.Reports[0])
	for _, class := range []string{"expired", "orphan", "other engine", "engine key", "foreign", "over-age", "young"} {
		if !strings.Contains(report, `"class":"`+class+`"`) {
			h.t.Errorf("the report lacks the class %s: %s", class, report)
		}
	}
	return report
}

// sweptAlone runs a function that has one account to sweep.
func (w *world) sweptAlone(function *lambda) run.SweptAccount {
	w.t.Helper()
	text := function.invoke(`{}`)
	answer := decode[run.SweepAnswer](w.t, text)
	if len(answer.Accounts) != 1 {
		w.t.Fatalf("got %s", text)
	}
	return answer.Accounts[0]
}

// TestAHuaweiKeyIsSwitchedOffFirst: the cloud does not tell since when a key is inactive, so
// the function remembers it from one run to the next.
func TestAHuaweiKeyIsSwitchedOffFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withAWS()
	w.withBucket()
	h := w.withHuawei(sessionRole...)
	w.start(revokeFunction, "MODE=enforce", "ACCOUNTS=huawei", "QUARANTINE=1d").invoke(`{}`)
	expired, there := h.domain.Key(h.keys["expired"])
	if !there || expired.Live() || !strings.HasPrefix(expired.Description, "cloudkeys-") {
		t.Fatalf("the expired key is %+v", expired)
	}
	changed := h.changingIAM()

	second := w.sweptAlone(w.start(revokeFunction, "MODE=enforce", "ACCOUNTS=huawei", "QUARANTINE=1d"))
	if second.Planned != 0 || h.changingIAM() != changed {
		t.Errorf("its quarantine is not over: %+v", second)
	}
	t.Run("and deleted when its quarantine is over", func(t *testing.T) {
		function := w.start(revokeFunction, "MODE=enforce", "ACCOUNTS=huawei", "QUARANTINE=1s")
		deleted := func() bool { return w.sweptAlone(function).Deleted == 2 }
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for limit := time.After(time.Minute); !deleted(); {
			select {
			case <-tick.C:
			case <-limit:
				t.Fatal("the keys are still there")
			}
		}
		h.mustHaveIAM(h.without("expired", "orphan")...)
	})
}

func TestOneRunOverBothClouds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withAWS()
	w.withBucket()
	h := w.withHuawei(sessionRole...)
	function := w.start(revokeFunction, "MODE=enforce")
	text := function.invoke(`{}`)
	answer := decode[run.SweepAnswer](t, text)
	if len(answer.Accounts) != 2 || answer.Accounts[0].Deleted != 2 || answer.Accounts[1].Deleted != 2 {
		t.Errorf("got %s", text)
	}
	w.mustHave("leased", "foreign")
	h.mustHaveIAM(h.without("expired", "orphan")...)
	w.mustHaveGivenBack()
	page := aws.object(t, answer.Reports[len(answer.Reports)-2])
	for _, account := range []string{"default", "huawei"} {
		if !strings.Contains(page, account) {
			t.Errorf("the page does not name the account %s", account)
		}
	}
	h.mustHideIDs(text, page, function.log.String())
	t.Run("one that cannot be reached does not keep the other from being swept", func(t *testing.T) {
		w.addKeys()
		w.sim.Order(cloudsim.Fault{Op: "KeystoneListUsers", Kind: cloudsim.Refuse, Status: 403})
		w.start(revokeFunction, "MODE=enforce").mustFail(`{}`, "FailedError", "huawei")
		w.mustHave("leased", "foreign")
	})
}

func TestThePolicySyncOnlyReportsHuawei(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withAWS()
	w.withBucket()
	h := w.withHuawei(sessionRole...)
	before := h.changingIAM()
	answer := decode[run.PolicyAnswer](t, w.start(syncFunction, "MODE=enforce", "ACCOUNTS=huawei", "TUNE_MAX_LEASE=true").invoke(`{}`))
	if len(answer.Accounts) != 1 || answer.Accounts[0].Action != "report" || !strings.Contains(answer.Accounts[0].Reason, "max_ttl") ||
		answer.Tuned != 0 {
		t.Errorf("got %+v", answer)
	}
	if h.changingIAM() != before {
		t.Error("a key was changed")
	}
	h.mustHaveIAM(h.without()...)
	w.mustHaveGivenBack()
}

// TestWhatTheRightsOnHuaweiLack takes one right after the other: each is needed, and without
// it nothing is changed that was not planned.
func TestWhatTheRightsOnHuaweiLack(t *testing.T) {
	t.Parallel()
	for _, lacking := range sweepRights {
		t.Run(lacking, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.withAppRole()
			h := w.withHuawei("credential_type=session_token", "agency_name=poor")
			h.domain.AddAgency("poor", h.domain, slices.DeleteFunc(slices.Clone(sweepRights),
				func(right string) bool { return right == lacking })...)
			w.start(revokeFunction, "MODE=enforce", "ACCOUNTS=huawei").mustFail(`{}`, "FailedError")
			for _, name := range h.without() {
				if _, there := h.domain.Key(h.keys[name]); !there {
					t.Errorf("the %s key is gone", name)
				}
			}
			w.mustHaveGivenBack()
		})
	}
	t.Run("the page names the same", func(t *testing.T) {
		page, err := os.ReadFile("../../docs/functions.md")
		if err != nil {
			t.Fatal(err)
		}
		var named []string
		for _, match := range regexp.MustCompile(`"(iam:[A-Za-z:]+)"`).FindAllStringSubmatch(string(page), -1) {
			named = append(named, match[1])
		}
		slices.Sort(named)
		if want := slices.Sorted(slices.Values(sweepRights)); !slices.Equal(slices.Compact(named), want) {
			t.Errorf("it names %v, want %v", named, want)
		}
	})
	t.Run("to report, three are enough", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.withAppRole()
		h := w.withHuawei("credential_type=session_token", "agency_name=reader")
		h.domain.AddAgency("reader", h.domain, reportRights...)
		if swept := w.sweptAlone(w.start(revokeFunction, "ACCOUNTS=huawei")); swept.Planned != 2 || swept.Problem != "" {
			t.Errorf("got %+v", swept)
		}
	})
}

// TestAHuaweiKeyThatTheCloudDoesNotKnowYet: the function's own key was made a moment ago.
func TestAHuaweiKeyThatTheCloudDoesNotKnowYet(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]cloudsim.HuaweiRules{
		"and refuses":       {ActivationDelay: 8 * time.Second},
		"and does not find": {KeyDelay: 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.withAppRole()
			h := w.withHuawei(poolRole...)
			w.sim.SetHuaweiRules(rules)
			if swept := w.sweptAlone(w.start(revokeFunction, "MODE=enforce", "ACCOUNTS=huawei")); swept.Deleted != 2 {
				t.Errorf("got %+v", swept)
			}
			h.mustHaveIAM(h.without("expired", "orphan")...)
		})
	}
}

func TestWithoutVaultAHuaweiKeyComesFromTheEnvironment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.withHuawei(sessionRole...)
	endpoint := w.read(w.name + "/config/huawei")["endpoint"].(string)
	settings := func(credentials ...string) []string {
		return append([]string{
			"VAULT_ADDR=", "MODE=enforce", "HUAWEICLOUD_SDK_REGION=ap-southeast-1", "HUAWEICLOUD_SDK_IAM_ENDPOINT=" + endpoint,
			"HUAWEICLOUD_SDK_DOMAIN_ID=" + h.domain.ID(),
		}, credentials...)
	}
	session := w.read(w.name + "/creds/functions-huawei")
	for name, credentials := range map[string][]string{
		"a permanent one": {"HUAWEICLOUD_SDK_AK=" + h.own.AccessKey, "HUAWEICLOUD_SDK_SK=" + h.own.SecretKey},
		"a temporary one": {
			"HUAWEICLOUD_SDK_AK=" + session["access_key"].(string), "HUAWEICLOUD_SDK_SK=" + session["secret_key"].(string),
			"HUAWEICLOUD_SDK_SECURITY_TOKEN=" + session["security_token"].(string),
		},
	} {
		t.Run(name, func(t *testing.T) {
			function := w.start(revokeFunction, settings(credentials...)...)
			text := function.invoke(`{}`)
			h.mustHaveIAM(h.without()...) // without an instance nothing is ours
			answer := decode[run.SweepAnswer](t, text)
			if len(answer.Accounts) != 1 || answer.Accounts[0].Account != "environment" || answer.Accounts[0].Seen < len(h.keys) {
				t.Errorf("got %s", text)
			}
			h.mustHideIDs(text, function.log.String())
		})
	}
	t.Run("with the engine's instance, its keys end at their dates although Vault is lost", func(t *testing.T) {
		instance := w.read(w.name + "/info")["instance_id"].(string)
		w.sweptAlone(w.start(revokeFunction, settings("HUAWEICLOUD_SDK_AK="+h.own.AccessKey, "HUAWEICLOUD_SDK_SK="+h.own.SecretKey,
			"ENGINE_INSTANCE="+instance)...))
		h.mustHaveIAM(h.without("expired")...) // whether the orphan is leased nobody can tell
	})
}
