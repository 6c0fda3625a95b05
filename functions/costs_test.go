// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package functions_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/metrics"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// TestThePageCountsWhatIsPaidFor compares what the page multiplies by AWS's prices with the template and with what the functions send.
func TestThePageCountsWhatIsPaidFor(t *testing.T) {
	page, err := os.ReadFile("../docs/functions.md")
	if err != nil {
		t.Fatal(err)
	}
	parsed, _ := read(t)
	direct, states := 0, 0 // alarms are paid for by the metrics that they read
	for _, resource := range parsed.Resources {
		if resource.Type != "AWS::CloudWatch::Alarm" {
			continue
		}
		number := 0
		for _, m := range resource.Properties.Metrics {
			if m.MetricStat.Metric.MetricName != "" {
				number++
			}
		}
		if states += max(number, 1); resource.Condition != "UseStates" {
			direct += max(number, 1)
		}
	}
	var swept, synced bytes.Buffer
	if err := metrics.Sweep(&swept, "f", sweep.Result{Accounts: []sweep.AccountResult{{Provider: "outscale"}}}, true); err != nil {
		t.Fatal(err)
	}
	if err := metrics.PolicySync(&synced, "f", policysync.Result{Accounts: []policysync.AccountResult{{Provider: "outscale"}}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("| alarms, by the metrics that they read: %d, with `FanOut=states` %d |", direct, states),
		fmt.Sprintf("| metrics of one cloud: %d of `revoke-expired-keys` in one hour of 24, %d of `sync-policy` in four |",
			paidFor(t, &swept), paidFor(t, &synced)),
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/functions.md should have %s", want)
		}
	}
}

// paidFor is how many metrics of their own CloudWatch makes of a line: one of each name and set of dimensions.
func paidFor(t *testing.T, line *bytes.Buffer) (number int) {
	t.Helper()
	var described struct {
		AWS struct {
			CloudWatchMetrics []struct {
				Dimensions [][]string
				Metrics    []any
			}
		} `json:"_aws"`
	}
	if err := json.Unmarshal(line.Bytes(), &described); err != nil {
		t.Fatal(err)
	}
	for _, directive := range described.AWS.CloudWatchMetrics {
		number += len(directive.Dimensions) * len(directive.Metrics)
	}
	return number
}
