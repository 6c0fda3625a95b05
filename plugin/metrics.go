// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"fmt"
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
}

type operationResult struct{ operation, result string }

func newMetrics() *metrics {
	m := &metrics{operations: map[operationResult]*histogram{}, calls: map[string]map[provider.Kind]uint64{}}
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

// family begins a metric. The format wants all its samples together.
func (t *metricsText) family(name, kind, help string) {
	help = strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(help)
	fmt.Fprintf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// label is one pair of a sample.
type label struct{ name, value string }

func (t *metricsText) sample(name string, value float64, labels ...label) {
	t.WriteString(name)
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
	for role := range counts {
		roles = append(roles, role)
	}
	slices.SortFunc(roles, func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b)) })
	if len(roles) > roleSeriesMax {
		for _, role := range roles[roleSeriesMax:] {
			rest += counts[role]
		}
		roles = roles[:roleSeriesMax]
	}
	slices.Sort(roles)
	return roles, rest
}
