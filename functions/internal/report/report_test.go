// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report/reporttest"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

var about = About{Function: "revoke-expired-keys", Version: "v1.2.3", RunID: "2026-05-06T02:00:00Z", Digest: "0123456789ab"}

func TestTheJSONReportHasEveryKey(t *testing.T) {
	for _, mode := range []string{settings.Report, settings.Enforce} {
		result := reporttest.Result(t, mode)
		var out bytes.Buffer
		if err := SweepJSON(&out, about, result); err != nil {
			t.Fatal(err)
		}
		var got struct {
			Schema   int    `json:"schema_version"`
			Function string `json:"function"`
			Digest   string `json:"settings_digest"`
			Mode     string `json:"mode"`
			Accounts []struct {
				Account string         `json:"account"`
				Counts  map[string]any `json:"counts"`
			} `json:"accounts"`
			Keys []keyJSON `json:"keys"`
		}
		dec := json.NewDecoder(&out)
		if err := dec.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.Schema != SchemaVersion || got.Function != about.Function || got.Digest != about.Digest || got.Mode != mode || len(got.Accounts) != 1 {
			t.Errorf("got %+v", got)
		}
		if len(got.Keys) != len(reporttest.IDs()) || got.Accounts[0].Counts["seen"] != float64(len(got.Keys)) {
			t.Errorf("got %d keys and %+v", len(got.Keys), got.Accounts[0].Counts)
		}
		outcomes := map[sweep.Outcome]int{}
		for _, key := range got.Keys {
			if key.Class == "" || key.Reason == "" || key.Action == "" || key.AccessKey == "" {
				t.Errorf("got %+v", key)
			}
			outcomes[key.Outcome]++
		}
		if planned := outcomes[sweep.OutcomePlanned]; (planned > 0) != (mode == settings.Report) {
			t.Errorf("got %v", outcomes)
		}
		if undeletable := outcomes[sweep.OutcomeUndeletable]; (undeletable == 1) != (mode == settings.Enforce) {
			t.Errorf("got %v", outcomes)
		}
	}
}

func TestReportsShowNoSecret(t *testing.T) {
	t.Run("secrets/full key ids absent from logs, report, errors: logs and report", func(t *testing.T) {
		result := reporttest.Result(t, settings.Enforce)
		var out bytes.Buffer
		for _, err := range []error{SweepJSON(&out, about, result), SweepHTML(&out, about, result)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		slog.New(slog.NewJSONHandler(&out, nil)).LogAttrs(t.Context(), slog.LevelInfo, "swept", SweepSummary(about, result)...)
		blocked := policysync.Result{Accounts: []policysync.AccountResult{{Blockers: []policysync.Blocker{{AccessKey: reporttest.IDs()[0]}}}}}
		if err := PolicyJSON(&out, about, blocked); err != nil {
			t.Fatal(err)
		}
		for _, id := range reporttest.IDs() {
			if strings.Contains(out.String(), id) {
				t.Errorf("a report shows %s", id)
			}
		}
	})
}

func TestThePageEscapesWhatTheCloudSent(t *testing.T) {
	var out bytes.Buffer
	if err := SweepHTML(&out, about, reporttest.Result(t, settings.Report)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "<script") || !strings.Contains(out.String(), "&lt;script&gt;") {
		t.Error("the user's name is not escaped")
	}
}

func TestThePageIsBoundedAndCountsTheRest(t *testing.T) {
	var r rows
	for range 7 {
		r.add(keyJSON{}, 5)
	}
	if len(r.Rows) != 5 || r.More != 2 || r.Len() != 7 {
		t.Errorf("got %+v", r)
	}
}

func TestTheHistogramShowsEveryGroupThatHasKeys(t *testing.T) {
	all := bars([8]int{1_000_000, 1, 0, 10}, [8]int{1, 1})
	if len(all) != 7 {
		t.Fatalf("got %d bars", len(all))
	}
	for _, b := range all {
		if height := b.KeptHeight + b.ChangedHeight; (b.Keys > 0) != (height > 0) || height > barHeight+3 {
			t.Errorf("got %+v", b)
		}
		if (b.Changed > 0) != (b.ChangedHeight > 0) {
			t.Errorf("got %+v", b)
		}
	}
	if with := bars([8]int{7: 1}, [8]int{}); len(with) != 8 {
		t.Errorf("keys of unknown age have no bar")
	}
}

func TestThePolicyReport(t *testing.T) {
	result := policysync.Result{
		Mode: settings.Report, Started: time.Now(), Tuned: time.Hour,
		Accounts: []policysync.AccountResult{{
			Account: "production", Before: 0, Wanted: time.Hour, After: 2 * time.Hour, Action: policysync.ActionRatchet,
			Blockers: []policysync.Blocker{{AccessKey: "ABCDEFGHIJKLMNOPQRST", User: "a", Reason: "r", Advice: "b"}}, BlockerCount: 7,
		}},
	}
	var out bytes.Buffer
	if err := PolicyJSON(&out, about, result); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"schema_version":1`, `"tuned_seconds":3600`, `"after_seconds":7200`, `"blocker_count":7`, `"access_key":"ABCD…QRST"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %s, want %s in it", out.String(), want)
		}
	}
	out.Reset()
	slog.New(slog.NewJSONHandler(&out, nil)).LogAttrs(t.Context(), slog.LevelInfo, "synced", PolicySummary(about, result)...)
	if !strings.Contains(out.String(), `"accounts_drifting":1,"blockers":7`) {
		t.Errorf("got %s", out.String())
	}
}
