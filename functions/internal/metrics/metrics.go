// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package metrics writes CloudWatch metrics in the embedded metric format: one JSON line,
// which Lambda's log group turns into metrics.
package metrics

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// Namespace is where the metrics stand in CloudWatch.
const Namespace = "VaultAccessKeyCompanion"

// values are one provider's metrics by name.
type values map[string]float64

// Sweep writes the metrics of a sweep, a line for each provider. armed tells whether its plan would be applied: no breaker trips otherwise.
func Sweep(w io.Writer, function string, result sweep.Result, armed bool) error {
	byProvider := map[string]values{}
	for _, account := range result.Accounts {
		v := of(byProvider, account.Provider)
		v.ran(account.Problem == "" && (account.Counts.Seen > 0 || !account.Partial)) // not one for which there was no time at all
		v.flag("BreakerTripped", armed && account.Tripped != "")
		v.counts(account.Counts)
		v["RunSeconds"] = result.Took.Seconds()
	}
	return write(w, function, result.Started.Add(result.Took), byProvider)
}

// PolicySync writes the metrics of a policy sync, a line for each provider.
func PolicySync(w io.Writer, function string, result policysync.Result) error {
	byProvider := map[string]values{}
	for _, account := range result.Accounts {
		v := of(byProvider, account.Provider)
		v.ran(account.Problem == "")
		v.flag("PolicyDrift", account.Problem == "" && account.Undone())
		v["PolicyBlockers"] += float64(account.BlockerCount)
		v["RunSeconds"] = result.Took.Seconds()
	}
	return write(w, function, result.Started.Add(result.Took), byProvider)
}

func of(byProvider map[string]values, provider string) values {
	if byProvider[provider] == nil {
		byProvider[provider] = values{}
	}
	return byProvider[provider]
}

// flag adds 1 where something is so, and names the metric in any case: an alarm on a
// metric that was never sent tells nothing.
func (v values) flag(name string, is bool) {
	v[name] += 0
	if is {
		v[name]++
	}
}

func (v values) ran(well bool) {
	v.flag("TargetsSwept", well)
	v.flag("TargetsFailed", !well)
}

func (v values) counts(c sweep.Counts) {
	for name, n := range map[string]int{
		"KeysSeen": c.Seen, "KeysProtected": c.Protected, "KeysFlagged": c.Flagged, "KeysPlanned": c.Planned,
		"KeysDeactivated": c.Deactivated, "KeysDeleted": c.Deleted, "KeysUndeletable": c.Undeletable,
		"KeysFailed": c.Failed, "KeysLeftOut": c.LeftOut, "KeysNotified": c.Notified, "KeysNotNotified": c.NotNotified,
		"UsersUnreadable": c.UnreadUsers, "PlanDrift": c.Drifted,
		"KeysLeased": c.ByClass[sweep.ClassLeased], "KeysOrphan": c.ByClass[sweep.ClassOrphan],
		"KeysExpired": c.ByClass[sweep.ClassExpired], "KeysOverAge": c.ByClass[sweep.ClassOverAge],
		"KeysWithoutExpiration": c.ByClass[sweep.ClassNoExpiration], "KeysForeign": c.ByClass[sweep.ClassForeign],
		"KeysUnder1Day": c.ByAge[0], "KeysUnder7Days": c.ByAge[1], "KeysUnder30Days": c.ByAge[2], "KeysUnder90Days": c.ByAge[3],
		"KeysUnder180Days": c.ByAge[4], "KeysUnder365Days": c.ByAge[5], "KeysOver1Year": c.ByAge[6],
	} {
		v[name] += float64(n)
	}
}

type metric struct {
	Name string
	Unit string
}

func write(w io.Writer, function string, at time.Time, byProvider map[string]values) error {
	for _, provider := range slices.Sorted(maps.Keys(byProvider)) {
		v := byProvider[provider]
		var described []metric
		line := map[string]any{"Function": function, "Provider": provider}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			unit := "Count"
			if name == "RunSeconds" {
				unit = "Seconds"
			}
			described = append(described, metric{name, unit})
			line[name] = v[name]
		}
		line["_aws"] = map[string]any{
			"Timestamp": at.UnixMilli(),
			"CloudWatchMetrics": []any{map[string]any{
				"Namespace": Namespace, "Dimensions": [][]string{{"Function", "Provider"}, {"Function"}}, "Metrics": described,
			}},
		}
		if err := json.NewEncoder(w).Encode(line); err != nil {
			return fmt.Errorf("writing the metrics: %w", err)
		}
	}
	return nil
}

// Decide writes the metrics of the decision over all accounts' plans.
func Decide(w io.Writer, function string, tripped bool, failed int) error {
	v := values{"AccountsUnplanned": float64(failed)}
	v.flag("BreakerTripped", tripped)
	return write(w, function, time.Now(), map[string]values{"all": v})
}

// Close writes how many accounts have planned keys that were not changed when a state machine's run was over.
func Close(w io.Writer, function string, unapplied int) error {
	return write(w, function, time.Now(), map[string]values{"all": {"AccountsUnapplied": float64(unapplied)}})
}
