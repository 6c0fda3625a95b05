// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestMetrics(t *testing.T) {
	tests := map[string]func(t *testing.T, v *testVault){
		"leases are counted by role": func(t *testing.T, v *testVault) {
			v.write("roles/other", "user_names=app", "ttl=10m")
			l := v.lease("app")
			v.lease("app")
			v.lease("other")
			mustMeasure(t, v.scrape(), `cloudkeys_leases{role="app"}`, 2, `cloudkeys_leases{role="other"}`, 1)
			v.mustRevoke(l)
			mustMeasure(t, v.scrape(), `cloudkeys_leases{role="app"}`, 1)
		},
		"those of before a restart are counted once the ledger was looked through": func(t *testing.T, v *testVault) {
			l := v.lease("app")
			v.lease("app")
			v.restart()
			mustMeasure(t, v.scrape(), `cloudkeys_leases_complete`, 0)
			v.lease("app")
			v.advance(rollbackPeriod)
			mustMeasure(t, v.scrape(), `cloudkeys_leases{role="app"}`, 3, `cloudkeys_leases_complete`, 1)
			v.mustRevoke(l)
			mustMeasure(t, v.scrape(), `cloudkeys_leases{role="app"}`, 2)
			v.advance(31 * time.Minute) // a further look at the ledger counts none twice, though their leases end here
			v.lease("app")
			mustMeasure(t, v.scrape(), `cloudkeys_leases{role="app"}`, 1)
		},
		"max_active_keys, which reads the ledger by itself, counts none twice": func(t *testing.T, v *testVault) {
			v.lease("app")
			v.restart()
			v.advance(rollbackPeriod)
			v.write("roles/app", "user_names=app", "max_active_keys=9")
			v.lease("app")
			mustMeasure(t, v.scrape(), `cloudkeys_leases{role="app"}`, 2)
		},
		"operations are timed, by what became of them": func(t *testing.T, v *testVault) {
			l := v.lease("app")
			if err := v.renew(l, 0); err != nil {
				t.Fatal(err)
			}
			v.mustRevoke(l)
			v.mustRefuse(logical.ReadOperation, "creds/nope", nil, "does not exist")
			got := v.scrape()
			for _, operation := range []string{operationIssue, operationRenew, operationRevoke} {
				mustMeasure(t, got, fmt.Sprintf(`cloudkeys_operation_duration_seconds_count{operation=%q,result="ok"}`, operation), 1,
					fmt.Sprintf(`cloudkeys_operation_duration_seconds_bucket{operation=%q,result="ok",le="+Inf"}`, operation), 1)
			}
			mustMeasure(t, got, `cloudkeys_operation_duration_seconds_count{operation="issue",result="refused"}`, 1,
				`cloudkeys_operation_duration_seconds_count{operation="issue",result="failed"}`, 0)
		},
		"each attempt that the cloud throttles is an error of its kind": func(t *testing.T, v *testVault) {
			before := v.scrape()
			v.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.Refuse, Status: 429, Code: "24", Times: 2})
			v.lease("app")
			after := v.scrape()
			calls := `cloudkeys_cloud_calls_total{account="default"}`
			if after[calls] < before[calls]+3 {
				t.Errorf("%v calls, then %v", before[calls], after[calls])
			}
			mustMeasure(t, after, `cloudkeys_cloud_errors_total{account="default",kind="throttled"}`, 2,
				`cloudkeys_cloud_errors_total{account="default",kind="denied"}`, 0)
		},
		"a key that cannot be removed shows with its age": func(t *testing.T, v *testVault) {
			mustMeasure(t, v.scrape(), `cloudkeys_stuck_cleanups{account="default"}`, 0,
				`cloudkeys_oldest_stuck_cleanup_seconds{account="default"}`, 0)
			v.lease("app")
			v.leases = nil
			stop := v.order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 403})
			v.advance(time.Hour)
			got := v.scrape()
			mustMeasure(t, got, `cloudkeys_stuck_cleanups{account="default"}`, 1)
			if age := got[`cloudkeys_oldest_stuck_cleanup_seconds{account="default"}`]; age < (45*time.Minute).Seconds() ||
				age > time.Hour.Seconds() {
				t.Errorf("%v s old", age)
			}
			stop()
			v.advance(2 * lifetime.LongestPause)
			mustMeasure(t, v.scrape(), `cloudkeys_stuck_cleanups{account="default"}`, 0,
				`cloudkeys_oldest_stuck_cleanup_seconds{account="default"}`, 0)
		},
		"a request that cannot be cleaned up shows with its age": func(t *testing.T, v *testVault) {
			v.leaveBegun()
			stop := v.order(cloudsim.Fault{Kind: cloudsim.RefuseConnection})
			v.advance(begunAge + time.Hour)
			got := v.scrape()
			mustMeasure(t, got, `cloudkeys_stuck_cleanups{account="default"}`, 1)
			if age := got[`cloudkeys_oldest_stuck_cleanup_seconds{account="default"}`]; age < (55 * time.Minute).Seconds() {
				t.Errorf("%v s old", age)
			}
			stop()
			v.advance(3 * rollbackPeriod)
			mustMeasure(t, v.scrape(), `cloudkeys_stuck_cleanups{account="default"}`, 0)
		},
		"the engine's own key has its dates, where it has any": func(t *testing.T, v *testVault) {
			expires, rotation := `cloudkeys_engine_key_expiration_timestamp_seconds{account="default"}`,
				`cloudkeys_engine_key_rotation_timestamp_seconds{account="default"}`
			if got := v.scrape(); got[expires] != 0 || got[rotation] != 0 {
				t.Errorf("a key without a date expires at %v and is replaced at %v", got[expires], got[rotation])
			}
			v.rootKeyWithDate(30 * day)
			v.configure()
			mustMeasure(t, v.scrape(), expires, float64(time.Now().Add(30*day).Unix()), rotation, float64(time.Now().Add(20*day).Unix()))
		},
		"slots are told by role, those that others' keys take as last listed": func(t *testing.T, v *testVault) {
			v.write("roles/pool", "user_names=app,"+strings.TrimPrefix(v.pool(1), "user_names="), "ttl=10m")
			v.lease("app")
			v.lease("app")
			mustMeasure(t, v.scrape(), `cloudkeys_slots_used{account="default",role="app"}`, 2,
				`cloudkeys_slots_free{account="default",role="app"}`, 8,
				`cloudkeys_slots_used{account="default",role="pool"}`, 2, `cloudkeys_slots_free{account="default",role="pool"}`, 18)
			for range 8 {
				v.account.AddKey(cloudsim.KeySpec{User: "app"})
			}
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "2 of 10 issued by this mount, 8 others")
			mustMeasure(t, v.scrape(), `cloudkeys_slots_used{account="default",role="app"}`, 10,
				`cloudkeys_slots_free{account="default",role="app"}`, 0,
				`cloudkeys_slots_free{account="default",role="pool"}`, 10)
		},
		"a static role has its dates, and is overdue while its rotation fails": func(t *testing.T, v *testVault) {
			v.account.AddUser("db")
			v.write("static-roles/db", "user_name=db", "rotation_period=1h")
			made := time.Now()
			v.mustTick()
			rotated, due := `cloudkeys_static_role_rotated_timestamp_seconds{account="default",static_role="db"}`,
				`cloudkeys_static_role_due_timestamp_seconds{account="default",static_role="db"}`
			mustMeasure(t, v.scrape(), rotated, float64(made.Unix()), due, float64(made.Add(time.Hour).Unix()))
			stop := v.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.Refuse, Status: 403})
			v.settle(2 * time.Hour)
			mustMeasure(t, v.scrape(), rotated, float64(made.Unix()), due, float64(made.Add(time.Hour).Unix()))
			stop()
			v.settle(2 * time.Hour)
			if got := v.scrape()[due]; got <= float64(time.Now().Unix()) {
				t.Errorf("rotated, and still due at %v", got)
			}
			v.write("static-roles/other", "user_name=app", "rotation_period=1h")
			if _, err := v.try(logical.DeleteOperation, "static-roles/db"); err != nil {
				t.Fatal(err)
			}
			v.mustTick()
			if _, there := v.scrape()[due]; there {
				t.Error("a deleted static role is still told of")
			}
		},
		"promtool's lint finds nothing": func(t *testing.T, v *testVault) {
			v.account.AddUser("db")
			v.write("static-roles/db", "user_name=db", "rotation_period=1h")
			v.lease("app")
			v.mustTick()
			resp, err := v.rawRequest(logical.ReadOperation, "metrics", nil)
			if err != nil {
				t.Fatal(err)
			}
			problems, err := promlint.New(strings.NewReader(resp.Data[logical.HTTPRawBody].(string))).Lint()
			if err != nil || len(problems) > 0 {
				t.Errorf("%v, %v", problems, err)
			}
		},
		"a scrape asks no cloud and reads no ledger": func(t *testing.T, v *testVault) {
			v.lease("app")
			v.restart()
			calls, reads := v.countCalls(""), v.countLedgerReads()
			v.scrape()
			if n := v.countCalls("") - calls; n != 0 || reads() != 0 {
				t.Errorf("%d calls and %d reads", n, reads())
			}
		},
	}
	for name, run := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newTestVault(t)
				v.configure("ttl=10m", "max_ttl=1h")
				run(t, v)
			})
		})
	}
}

func TestMetricsOverGRPC(t *testing.T) {
	overGRPC(t, "the metrics cross the wire", func(t *testing.T, v *testVault) {
		v.lease("app")
		mustMeasure(t, v.scrape(), `cloudkeys_leases{role="app"}`, 1)
	})
}

func TestRolesBeyondTheBoundAreAddedUp(t *testing.T) {
	counts := map[string]int{"big": 9}
	for i := range roleSeriesMax + 10 {
		counts[fmt.Sprintf("role-%04d", i)] = 1
	}
	roles, rest := topRoles(counts)
	if len(roles) != roleSeriesMax || roles[0] != "big" || rest != 11 {
		t.Errorf("%d roles from %s, and %d others", len(roles), roles[0], rest)
	}
}

func TestTextFormat(t *testing.T) {
	t.Run("what would break a line is escaped", func(t *testing.T) {
		var text metricsText
		text.family("m", metricGauge, "a \\ and\na line")
		text.sample("m", 1.5, label{"l", "é\"\\\n"}, label{"k", ""})
		want := "# HELP cloudkeys_m a \\\\ and\\na line\n# TYPE cloudkeys_m gauge\ncloudkeys_m{l=\"é\\\"\\\\\\n\",k=\"\"} 1.5\n"
		if text.String() != want {
			t.Errorf("got %q, want %q", text.String(), want)
		}
	})
	t.Run("the buckets of a histogram add up", func(t *testing.T) {
		var h histogram
		for _, d := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 3 * time.Second, time.Hour} {
			h.observe(d)
		}
		var text metricsText
		text.family("m", metricHistogram, "help")
		text.histogram("m", h)
		mustMeasure(t, parseMetrics(t, text.String()), `cloudkeys_m_bucket{le="0.1"}`, 2, `cloudkeys_m_bucket{le="2.5"}`, 2,
			`cloudkeys_m_bucket{le="5"}`, 3, `cloudkeys_m_bucket{le="60"}`, 3, `cloudkeys_m_bucket{le="+Inf"}`, 4, `cloudkeys_m_count`, 4,
			`cloudkeys_m_sum`, 3603.15)
	})
}

var (
	commentLine = regexp.MustCompile(`^# (HELP|TYPE) ([a-z_]+) (.+)$`)
	sampleLine  = regexp.MustCompile(`^([a-z_]+)(\{[a-z_]+="(?:[^"\\]|\\.)*"(?:,[a-z_]+="(?:[^"\\]|\\.)*")*\})? (\S+)$`)
)

// parseMetrics reads the text format as strictly as Prometheus does: each family has its help and type before its samples,
// and no sample comes twice.
func parseMetrics(t *testing.T, text string) map[string]float64 {
	t.Helper()
	samples, family := map[string]float64{}, ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if comment := commentLine.FindStringSubmatch(line); comment != nil {
			family = comment[2]
			continue
		}
		sample := sampleLine.FindStringSubmatch(line)
		if sample == nil || !strings.HasPrefix(sample[1], family) || family == "" {
			t.Fatalf("not a line of the format, or not one of %q: %s", family, line)
		}
		name := sample[1] + sample[2]
		if _, twice := samples[name]; twice {
			t.Fatalf("twice: %s", name)
		}
		value, err := strconv.ParseFloat(sample[3], 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		samples[name] = value
	}
	return samples
}

// mustMeasure expects pairs of a sample and its value.
func mustMeasure(t *testing.T, got map[string]float64, pairs ...any) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		var want float64
		switch value := pairs[i+1].(type) {
		case int:
			want = float64(value)
		case float64:
			want = value
		}
		value, there := got[pairs[i].(string)]
		if !there || value < want-1e-6 || value > want+1e-6 {
			t.Errorf("%s is %v (there: %v), want %v", pairs[i], value, there, want)
		}
	}
}
