// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

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
