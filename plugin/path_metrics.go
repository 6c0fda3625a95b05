// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	metricsPath        = "metrics"
	metricsContentType = "text/plain; version=0.0.4; charset=utf-8"
)

func (b *backend) pathMetrics() []*framework.Path {
	return []*framework.Path{{
		Pattern:      metricsPath,
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationVerb: "read", OperationSuffix: "metrics"},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback: b.pathMetricsRead,
				Summary:  "Read what the engine has counted, as Prometheus scrapes it.",
				// No fields: the sdk keeps the names of a raw answer's parts out of schemas.
				Responses:                 map[int][]framework.Response{http.StatusOK: {{Description: "OK", MediaType: "text/plain"}}},
				ForwardPerformanceStandby: true, // what is counted is in the active node's memory
			},
		},
		HelpSynopsis: "What the engine has counted, as Prometheus scrapes it.",
		HelpDescription: "Answers in Prometheus's text format: leased keys by role, how long issue, renewal and revocation take, " +
			"calls to the cloud and their errors, " +
			"clean-ups that are stuck, and how long the engine's own keys live. It asks no cloud and does not read the ledger. " +
			"Counters are of the process that " +
			"answers, and begin at 0 with it; a performance standby forwards to the active node, a performance secondary answers for itself. " +
			"The command line shows it with vault read -format=raw.",
	}}
}

func (b *backend) pathMetricsRead(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	accounts, err := b.accountMetrics(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	var text metricsText
	b.writeMetrics(&text, accounts, time.Now())
	return &logical.Response{Data: map[string]any{
		logical.HTTPContentType: metricsContentType,
		logical.HTTPRawBody:     text.String(),
		logical.HTTPStatusCode:  http.StatusOK,
	}}, nil
}

// accountMetric is what is known of one account.
type accountMetric struct {
	name       string
	keyExpires time.Time // of the engine's own key; zero: it has no date
	stuck      int       // clean-ups that have failed so far
	since      time.Time // that the oldest of them is stuck
}

// accountMetrics looks at the configurations, of which storage is asked for none that is in memory.
func (b *backend) accountMetrics(ctx context.Context, s logical.Storage) ([]accountMetric, error) {
	names, err := accountNames(ctx, s)
	if err != nil {
		return nil, err
	}
	var accounts []accountMetric
	for _, name := range names {
		config, err := b.accountConfig(ctx, s, name)
		if err != nil {
			return nil, err
		}
		if config == nil {
			continue // deleted since it was listed
		}
		metric := accountMetric{name: name, keyExpires: config.KeyExpires}
		metric.stuck, metric.since = b.ledger.Overdue(name)
		accounts = append(accounts, metric)
	}
	return accounts, nil
}

// metricPrefix begins the name of every metric.
const metricPrefix = "cloudkeys_"

func (b *backend) writeMetrics(t *metricsText, accounts []accountMetric, now time.Time) {
	commit, goVersion, _ := b.build.facts()
	t.family(metricPrefix+"info", metricGauge, "1 for the build of the plugin that answers.")
	t.sample(metricPrefix+"info", 1, label{"version", b.build.Version}, label{"commit", commit}, label{"go_version", goVersion})
	b.writeLeases(t)
	b.metrics.write(t, accounts, now)

	name := metricPrefix + "panics_total"
	t.family(name, metricCounter, "Requests and background work that met a mistake in the plugin, each of them in the server's log.")
	t.sample(name, float64(b.metrics.panics.Load()))

	name = metricPrefix + "engine_key_days_left"
	t.family(name, metricGauge, "Days until the engine's own key ends, as stored; an account whose key has no date is missing.")
	for _, a := range accounts {
		if !a.keyExpires.IsZero() {
			t.sample(name, a.keyExpires.Sub(now).Hours()/24, label{"account", a.name})
		}
	}
}

// writeLeases tells how many keys are out, as far as the ledger's index is filled.
func (b *backend) writeLeases(t *metricsText) {
	counts, whole := b.ledger.ByRole()
	name := metricPrefix + "leases"
	t.family(name, metricGauge, "Access keys that leases hold, or that are being made or cleaned up, by role; sessions are not counted. "+
		"Those from before a restart are counted as the ledger is read, within minutes.")
	roles, rest := topRoles(counts)
	for _, role := range roles {
		t.sample(name, float64(counts[role]), label{"role", role})
	}
	if rest > 0 {
		t.sample(name, float64(rest), label{"role", otherRoles})
	}
	t.family(
		metricPrefix+"leases_complete",
		metricGauge,
		"1 once the keys from before the last restart are counted among the leases, 0 before.",
	)
	t.sample(metricPrefix+"leases_complete", oneIf(whole))
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// write tells what this process has counted.
func (m *metrics) write(t *metricsText, accounts []accountMetric, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := metricPrefix + "operation_duration_seconds"
	t.family(
		name,
		metricHistogram,
		"How long issues, renewals and revocations of keys have taken, by result, since this process began: ok, refused (HTTP 400), failed.",
	)
	for _, operation := range []string{operationIssue, operationRenew, operationRevoke} {
		for _, result := range []string{resultOK, resultRefused, resultFailed} {
			t.histogram(name, *m.operations[operationResult{operation, result}], label{"operation", operation}, label{"result", result})
		}
	}
	m.writeCalls(t, accounts)
	m.writeStuck(t, accounts, now)
}

// writeCalls leaves out accounts that are gone: their series end with them.
func (m *metrics) writeCalls(t *metricsText, accounts []accountMetric) {
	name := metricPrefix + "cloud_calls_total"
	t.family(name, metricCounter, "Calls to the cloud since this process began, each attempt counted.")
	for _, a := range accounts {
		total := uint64(0)
		for n := range maps.Values(m.calls[a.name]) {
			total += n
		}
		t.sample(name, float64(total), label{"account", a.name})
	}
	name = metricPrefix + "cloud_errors_total"
	t.family(name, metricCounter, "Those of them that failed, by kind of error; throttled: the cloud wants fewer calls.")
	for _, a := range accounts {
		for _, kind := range provider.Kinds() {
			t.sample(name, float64(m.calls[a.name][kind]), label{"account", a.name}, label{"kind", strings.ReplaceAll(string(kind), " ", "_")})
		}
	}
}

// writeStuck tells of keys past their date that cannot be removed, and of unfinished requests that cannot be cleaned up.
func (m *metrics) writeStuck(t *metricsText, accounts []accountMetric, now time.Time) {
	name := metricPrefix + "stuck_cleanups"
	t.family(
		name,
		metricGauge,
		"Clean-ups that have failed so far: keys past their date, and unfinished requests since this process began. tidy-status tells why.",
	)
	for _, a := range accounts {
		t.sample(name, float64(a.stuck), label{"account", a.name})
	}
	name = metricPrefix + "oldest_stuck_cleanup_seconds"
	t.family(name, metricGauge, "Age of the oldest of them; 0: there is none.")
	for _, a := range accounts {
		age := 0.0
		if !a.since.IsZero() {
			age = now.Sub(a.since).Seconds()
		}
		t.sample(name, age, label{"account", a.name})
	}
}
