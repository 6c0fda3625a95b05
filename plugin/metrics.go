// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Operations whose time is measured.
const (
	operationIssue  = "issue"
	operationRenew  = "renew"
	operationRevoke = "revoke"
)

// Results of an operation.
const (
	resultOK      = "ok"
	resultRefused = "refused" // HTTP 400, which the operator or the caller can fix
	resultFailed  = "failed"  // Vault tries a revocation again
)

// metrics is what this process has counted. It is never stored: a restart, and another active node, begin at nothing.
type metrics struct {
	panics     atomic.Uint64 // of requests, ticks and background work
	mu         sync.Mutex
	operations map[operationResult]*histogram
	calls      map[string]map[provider.Kind]uint64 // by account
	right      map[string]uint64                   // keys set right, by account
}

type operationResult struct{ operation, result string }

func newMetrics() *metrics {
	m := &metrics{operations: map[operationResult]*histogram{}, calls: map[string]map[provider.Kind]uint64{}, right: map[string]uint64{}}
	// All that can be is there from the start: a rate over a series that begins at 1 misses the first one.
	for _, operation := range []string{operationIssue, operationRenew, operationRevoke} {
		for _, result := range []string{resultOK, resultRefused, resultFailed} {
			m.operations[operationResult{operation, result}] = &histogram{}
		}
	}
	return m
}

// observer counts how the calls for an account end.
func (m *metrics) observer(account string) func(provider.Kind) {
	return func(kind provider.Kind) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.calls[account] == nil {
			m.calls[account] = map[provider.Kind]uint64{}
		}
		m.calls[account][kind]++
	}
}

// setRight counts a key whose label or date somebody had changed.
func (m *metrics) setRight(account string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.right[account]++
}

func (m *metrics) took(operation, result string, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.operations[operationResult{operation, result}].observe(d)
}

// timed measures an operation.
func (b *backend) timed(operation string, run framework.OperationFunc) framework.OperationFunc {
	return func(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
		began := time.Now()
		resp, err := run(ctx, req, data)
		result := resultOK
		switch {
		case err != nil:
			result = resultFailed
		case resp.IsError():
			result = resultRefused
		}
		b.metrics.took(operation, result, time.Since(began))
		return resp, err
	}
}

// bucketBounds are the upper ends of the histogram's buckets, in seconds: a call takes tenths, an issue has 45 s in all and a
// revocation 60 s.
func bucketBounds() []float64 { return []float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 45, 60} }

// histogram counts durations.
type histogram struct {
	buckets [10]uint64 // of what is within each bound and above the one before
	count   uint64
	seconds float64
}

func (h *histogram) observe(d time.Duration) {
	h.count++
	h.seconds += d.Seconds()
	for i, bound := range bucketBounds() {
		if d.Seconds() <= bound {
			h.buckets[i]++
			return
		}
	}
}

// metricsText writes Prometheus's text format, version 0.0.4. Its library is not linked for the sake of one page.
type metricsText struct{ strings.Builder }

// The format's types of metrics.
const (
	metricGauge     = "gauge"
	metricCounter   = "counter"
	metricHistogram = "histogram"
)

// metricPrefix begins the name of every metric.
const metricPrefix = "cloudkeys_"

// family begins a metric. The format wants all its samples together.
func (t *metricsText) family(name, kind, help string) {
	help = strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(help)
	fmt.Fprintf(t, "# HELP %[1]s%[2]s %[3]s\n# TYPE %[1]s%[2]s %[4]s\n", metricPrefix, name, help, kind)
}

// gauge writes a gauge that each of the things has.
func gauge[T interface{ labels() []label }](t *metricsText, name, help string, things []T, value func(T) float64) {
	series(t, metricGauge, name, help, things, value)
}

// series writes a metric that each of the things has; NaN: this one has none.
func series[T interface{ labels() []label }](t *metricsText, kind, name, help string, things []T, value func(T) float64) {
	t.family(name, kind, help)
	for _, thing := range things {
		if value := value(thing); !math.IsNaN(value) {
			t.sample(name, value, thing.labels()...)
		}
	}
}

// label is one pair of a sample.
type label struct{ name, value string }

func (t *metricsText) sample(name string, value float64, labels ...label) {
	t.WriteString(metricPrefix + name)
	for i, l := range labels {
		t.WriteByte("{,"[min(i, 1)])
		// Not %q, which would write what is not ASCII in Go's way.
		fmt.Fprintf(t, `%s="%s"`, l.name, strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(l.value))
	}
	if len(labels) > 0 {
		t.WriteByte('}')
	}
	fmt.Fprintf(t, " %s\n", strconv.FormatFloat(value, 'g', -1, 64))
}

// histogram writes one series of a histogram: its buckets add up.
func (t *metricsText) histogram(name string, h histogram, labels ...label) {
	within := uint64(0)
	for i, bound := range bucketBounds() {
		within += h.buckets[i]
		t.sample(name+"_bucket", float64(within), append(slices.Clone(labels), label{"le", strconv.FormatFloat(bound, 'g', -1, 64)})...)
	}
	t.sample(name+"_bucket", float64(h.count), append(slices.Clone(labels), label{"le", "+Inf"})...)
	t.sample(name+"_sum", h.seconds, labels...)
	t.sample(name+"_count", float64(h.count), labels...)
}

// roleSeriesMax bounds the series of leases by role.
const roleSeriesMax = 500

// otherRoles stands for the roles beyond the bound; a bracket stands in no role's name.
const otherRoles = "(others)"

// topRoles keeps the roles with the most keys and adds up the rest.
func topRoles(counts map[string]int) (roles []string, rest int) {
	roles = slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b))
	})
	if len(roles) > roleSeriesMax {
		for _, role := range roles[roleSeriesMax:] {
			rest += counts[role]
		}
		roles = roles[:roleSeriesMax]
	}
	slices.Sort(roles)
	return roles, rest
}

// accountMetric is what is known of one account.
type accountMetric struct {
	name string
	*accountConfig
	stuck int       // clean-ups that have failed so far
	since time.Time // that the oldest of them is stuck
	found outcome   // of the last comparison
}

func (a accountMetric) labels() []label { return []label{{"account", a.name}} }

// accountMetrics looks at the configurations, of which storage is asked for none that is in memory.
func (b *backend) accountMetrics(ctx context.Context, s logical.Storage) ([]accountMetric, error) {
	configs, err := b.accountConfigs(ctx, s)
	if err != nil {
		return nil, err
	}
	var accounts []accountMetric
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		stuck, since := b.ledger.Overdue(name)
		accounts = append(accounts, accountMetric{name, configs[name], stuck, since, b.lastFound(name)})
	}
	return accounts, nil
}

func (b *backend) writeMetrics(t *metricsText, accounts []accountMetric, slots []roleSlots, now time.Time) {
	commit, goVersion, _ := b.build.facts()
	t.family("info", metricGauge, "1 for the build of the plugin that answers.")
	t.sample("info", 1, label{"version", b.build.name()}, label{"commit", commit}, label{"go_version", goVersion})
	b.writeLeases(t)
	b.metrics.write(t, accounts)

	t.family("panics_total", metricCounter, "Requests and background work that met a mistake in the plugin, each of them in the server's "+
		"log.")
	t.sample("panics_total", float64(b.metrics.panics.Load()))

	gauge(t, "slots_used", "Slots of the users in a role's user_names that access keys take: this mount's, and those of others as last "+
		"listed.",
		slots, func(s roleSlots) float64 { return float64(s.used) })
	gauge(t, "slots_free", "Slots of these users that are left; 0: the role's pool is full.",
		slots, func(s roleSlots) float64 { return float64(s.free) })
	gauge(t, "engine_key_expiration_timestamp_seconds", "When the engine's own key expires, as stored; missing where it never does.",
		accounts, func(a accountMetric) float64 { return date(a.KeyExpires) })
	gauge(t, "engine_key_rotation_timestamp_seconds", "When the engine's own key is to be replaced, in the past while that fails; "+
		"missing: never.",
		accounts, func(a accountMetric) float64 { return date(a.nextRotation()) })
	static := b.static.schedule()
	gauge(t, "static_role_rotated_timestamp_seconds", "When the key of a static role was rotated, as the last tick has seen it.",
		static, func(r staticDates) float64 { return date(r.rotated) })
	gauge(t, "static_role_due_timestamp_seconds", "When the key of a static role is to be rotated next, in the past while that fails.",
		static, func(r staticDates) float64 { return date(r.due) })
	gauge(t, "stuck_cleanups", "Clean-ups that have failed so far: expired keys, and unfinished requests since this process "+
		"began. tidy-status tells why.",
		accounts, func(a accountMetric) float64 { return float64(a.stuck) })
	gauge(t, "oldest_stuck_cleanup_seconds", "Age of the oldest of them; 0: there is none.",
		accounts, func(a accountMetric) float64 {
			if a.since.IsZero() {
				return 0
			}
			return now.Sub(a.since).Seconds()
		})
}

// date is a time as Prometheus has it, NaN for none.
func date(at time.Time) float64 {
	if at.IsZero() {
		return math.NaN()
	}
	return float64(at.Unix())
}

// writeLeases tells how many keys are out, as far as the ledger's index is filled.
func (b *backend) writeLeases(t *metricsText) {
	counts, whole := b.ledger.ByRole()
	t.family("leases", metricGauge, "Access keys that leases hold, or that are being made or cleaned up, by role; sessions are not counted. "+
		"Those from before a restart are counted as the ledger is read, within minutes.")
	roles, rest := topRoles(counts)
	for _, role := range roles {
		t.sample("leases", float64(counts[role]), label{"role", role})
	}
	if rest > 0 {
		t.sample("leases", float64(rest), label{"role", otherRoles})
	}
	complete := 0.0
	if whole {
		complete = 1
	}
	t.family("leases_complete", metricGauge, "1 once the keys from before the last restart are counted among the leases, 0 before.")
	t.sample("leases_complete", complete)
}

// write tells what this process has counted.
func (m *metrics) write(t *metricsText, accounts []accountMetric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t.family("operation_duration_seconds", metricHistogram, "How long issues, renewals and revocations of keys have taken, by "+
		"result, since this process began: ok, refused (HTTP 400), failed.")
	for _, operation := range []string{operationIssue, operationRenew, operationRevoke} {
		for _, result := range []string{resultOK, resultRefused, resultFailed} {
			t.histogram("operation_duration_seconds", *m.operations[operationResult{operation, result}], label{"operation", operation},
				label{"result", result})
		}
	}
	m.writeCalls(t, accounts)
	m.writeCompared(t, accounts)
}

// writeCompared tells what the last comparison of each account with its cloud has left to people.
func (m *metrics) writeCompared(t *metricsText, accounts []accountMetric) {
	gauge(t, "comparison_withheld", "Changes that the last comparison of ledger and cloud has not made, since they were too many; "+
		"tidy-status tells them.",
		accounts, func(a accountMetric) float64 { return float64(a.found.Rotate + a.found.Delete) })
	gauge(t, "static_keys_switched_off", "Keys of static roles that the last comparison has found switched off, by somebody or by a delete "+
		"that has not ended.",
		accounts, func(a accountMetric) float64 { return float64(len(a.found.Off.Lines) + a.found.Off.More) })
	series(t, metricCounter, "keys_set_right_total", "Keys whose label or date was not what the ledger has, and which were set right, "+
		"since this process began.",
		accounts, func(a accountMetric) float64 { return float64(m.right[a.name]) })
}

// writeCalls leaves out accounts that are gone: their series end with them.
func (m *metrics) writeCalls(t *metricsText, accounts []accountMetric) {
	series(t, metricCounter, "cloud_calls_total", "Calls to the cloud since this process began, each attempt counted.",
		accounts, func(a accountMetric) (total float64) {
			for _, n := range m.calls[a.name] {
				total += float64(n)
			}
			return total
		})
	t.family("cloud_errors_total", metricCounter, "Those of them that failed, by kind of error; throttled: the cloud wants fewer calls.")
	for _, a := range accounts {
		for _, kind := range provider.Kinds() {
			text := strings.ReplaceAll(string(kind), " ", "_")
			t.sample("cloud_errors_total", float64(m.calls[a.name][kind]), append(a.labels(), label{"kind", text})...)
		}
	}
}
