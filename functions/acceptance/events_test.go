// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// sample is what a file in events/ does to an account.
type sample struct {
	function string
	lowers   bool // the event asks for report
}

var samples = map[string]sample{
	"revoke-report.json":      {function: revokeFunction, lowers: true},
	"revoke-scheduled.json":   {function: revokeFunction},
	"revoke-rule.json":        {function: revokeFunction},
	"revoke-one-account.json": {function: revokeFunction},
	"revoke-resume.json":      {function: revokeFunction},
	"sync-scheduled.json":     {function: syncFunction},
	"sync-report.json":        {function: syncFunction, lowers: true},
}

func TestEveryEvent(t *testing.T) {
	files, err := filepath.Glob("../../events/*.json")
	if err != nil || len(files) != len(samples) {
		t.Fatalf("events/ has %v (%v), and %d are known here", files, err, len(samples))
	}
	for _, file := range files {
		s, known := samples[filepath.Base(file)]
		if !known {
			t.Fatalf("nobody says what %s does", file)
		}
		event, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []string{"report", "enforce"} {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".json")+" in "+mode, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.withAWS()
				w.withBucket()
				if s.function == revokeFunction {
					w.sweepWith(s, mode, string(event))
				} else {
					w.syncWith(s, mode, string(event))
				}
			})
		}
	}
}

func (w *world) sweepWith(s sample, mode, event string) {
	w.t.Helper()
	before := w.keys()
	function := w.start(revokeFunction, "MODE="+mode)
	text := function.invoke(event)
	changes := mode == "enforce" && !s.lowers
	if changes && strings.Contains(event, `"resume"`) {
		w.mustHave("leased", "orphan", "expired", "foreign") // it goes on after the one user that has keys
	} else if changes {
		w.mustHave("leased", "foreign")
	} else {
		w.mustBeUnchanged(before)
	}
	w.mustHaveGivenBack()
	reports := w.mustReport(decode[run.SweepAnswer](w.t, text), event, changes)
	function.message("sweep done")
	if function.metric("TargetsSwept") < 0 {
		w.t.Error("no account was swept")
	}
	w.mustHideSecrets(append(reports, text, function.log.String())...)
}

// mustReport checks what the function answered and stored.
func (w *world) mustReport(answer run.SweepAnswer, event string, changes bool) []string {
	w.t.Helper()
	if len(answer.Accounts) != 1 || len(answer.Reports) != 5 { // json, html and csv of the account; html and json of the index
		w.t.Fatalf("got %+v", answer)
	}
	account := answer.Accounts[0]
	planned := 2
	if strings.Contains(event, `"resume"`) {
		planned = 0
	}
	deleted := 0
	if changes {
		deleted = planned
	}
	if account.Account != "default" || account.Planned != planned || account.Deleted != deleted || account.Failed != 0 ||
		account.Problem != "" {
		w.t.Errorf("got %+v, want %d planned and %d deleted", account, planned, deleted)
	}
	asJSON, page := aws.object(w.t, answer.Reports[0]), aws.object(w.t, answer.Reports[1])
	if planned > 0 {
		for _, part := range []string{`"class":"orphan"`, `"class":"expired"`, `"class":"over-age"`, `"mode":"` + answer.Mode + `"`} {
			if !strings.Contains(asJSON, part) {
				w.t.Errorf("the report lacks %s: %s", part, asJSON)
			}
		}
	}
	if strings.Contains(event, "2026-11-22T03:17:00Z") && !strings.Contains(asJSON, `"run_id":"2026-11-22T03:17:00Z"`) {
		w.t.Errorf("the report does not name the run: %s", asJSON)
	}
	if !strings.Contains(page, "<!doctype html>") && !strings.Contains(page, "<!DOCTYPE html>") {
		w.t.Errorf("the page is %s", page)
	}
	return []string{asJSON, page}
}

func (w *world) syncWith(s sample, mode, event string) {
	w.t.Helper()
	// The orphan and the foreign key would stand in the way; the engine's own key never expires.
	w.account.DeleteKey(w.orphan)
	w.account.DeleteKey(w.foreign)
	w.account.DeleteKey(w.account.RootKey().AccessKey)
	root := w.account.AddKey(cloudsim.KeySpec{Expires: time.Now().Add(2 * time.Hour)})
	w.write(w.name+"/config/default", "access_key="+root.AccessKey, "secret_key="+root.SecretKey)
	w.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 1_000_000, RequireTrustedEnv: true})
	before := w.keys()
	function := w.start(syncFunction, "MODE="+mode, "POLICY_FLOOR=1h")
	text := function.invoke(event)
	answer := decode[run.PolicyAnswer](w.t, text)
	const wanted = 8*3600 + 60 + 5 // the longest role, with grace and margin
	if len(answer.Accounts) != 1 || answer.Accounts[0].Wanted != wanted || answer.Accounts[0].Action != "tighten" ||
		answer.Accounts[0].Problem != "" {
		w.t.Fatalf("got %s", text)
	}
	if mode == "enforce" && !s.lowers {
		want := cloudsim.Policy{MaxAccessKeyExpirationSeconds: wanted, RequireTrustedEnv: true}
		if got := w.account.Policy(); got != want {
			w.t.Errorf("the policy is %+v, want %+v", got, want)
		}
		if seen := w.read(w.name + "/policy/default")["max_access_key_expiration_seconds"]; seen != json.Number(strconv.Itoa(wanted)) {
			w.t.Errorf("the engine sees %v: it was not refreshed", seen)
		}
	} else {
		w.mustBeUnchanged(before)
	}
	if len(answer.Reports) != 2 {
		w.t.Fatalf("got %s", text)
	}
	report := aws.object(w.t, answer.Reports[0])
	if !strings.Contains(report, `"action":"tighten"`) {
		w.t.Errorf("the report is %s", report)
	}
	function.message("policy sync done")
	if function.metric("PolicyBlockers") != 0 {
		w.t.Error("nothing should stand in the way")
	}
	w.mustHaveGivenBack()
	w.mustHideSecrets(text, report, function.log.String())
}
