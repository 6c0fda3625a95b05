// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package metrics

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
)

func TestATextFileHasTheNumbersOfTheLastRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloudkeys.prom")
	if err := os.WriteFile(path, []byte("of the run before"), 0o600); err != nil {
		t.Fatal(err)
	}
	ended := time.Date(2026, 11, 29, 3, 20, 0, 0, time.UTC)
	var file TextFile
	file.Sweep(ended, 90*time.Second, []report.Sum{
		{Account: "a", Provider: "outscale", Seen: 10, Planned: 2, Deleted: 2, Reached: true},
		{Account: "b", Provider: "outscale", Seen: 5, Failed: 1, Reached: true},
		{Account: "c", Provider: "huawei", Seen: 1, Reached: true, Partial: true},
		{Account: "d"},
	})
	file.PolicySync(ended, time.Second, []report.PolicyAccount{
		{Provider: "outscale", Drift: true, BlockerCount: 3}, {Provider: "outscale", Problem: "x", Drift: true},
	})
	if err := file.Write(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`cloudkeys_sweep_accounts{provider="outscale"} 2`, `cloudkeys_sweep_accounts_failed{provider="outscale"} 1`,
		`cloudkeys_sweep_accounts_failed{provider="unknown"} 1`, `cloudkeys_sweep_accounts_partial{provider="huawei"} 1`,
		`cloudkeys_sweep_keys_seen{provider="outscale"} 15`, `cloudkeys_sweep_keys_deleted{provider="huawei"} 0`,
		`cloudkeys_sweep_last_run_timestamp_seconds 1.7959224e+09`, `cloudkeys_sweep_duration_seconds 90`,
		`cloudkeys_policy_sync_accounts_drifted{provider="outscale"} 1`, `cloudkeys_policy_sync_blockers{provider="outscale"} 3`,
	} {
		if !strings.Contains(string(text), "\n"+want+"\n") {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("node_exporter cannot read it: %v, %v", info, err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || len(left) > 0 {
		t.Errorf("%q are left (%v)", left, err)
	}
	if problems, err := promlint.New(bytes.NewReader(text)).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("promtool's lint says %v, %v", problems, err)
	}
}

func TestATextFileThatCannotBeWrittenLeavesTheOldOne(t *testing.T) {
	if err := new(TextFile).Write(filepath.Join(t.TempDir(), "nowhere", "x.prom")); err == nil {
		t.Error("written")
	}
}
