// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report/reporttest"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// FuzzReport: names and reasons come from the cloud, where others write them. None adds an
// element to a page, and the reports in JSON stay JSON.
func FuzzReport(f *testing.F) {
	for _, seed := range append(reporttest.Hostile(), "deploy", "</td></table>", "{{.}}", "\x00\xff", "` ${x}", "]}</SCRIPT ") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		pages := func(name string) (elements []int, reports []string) {
			a := reporttest.Account("production", settings.Enforce, 0)
			a.Result.Account, a.Result.Problem, a.Result.Cursor = "a"+name, "a"+name, "a"+name
			a.Findings = func(yield func(sweep.Finding, error) bool) {
				yield(sweep.Finding{
					AccessKey: "a" + name, User: "a" + name, Class: sweep.ClassOrphan, Reason: "a" + name, Detail: "a" + name,
					Action: sweep.ActionFlag,
				}, nil)
			}
			x := reporttest.Index(settings.Enforce, 1)
			x.Sums[0].Account, x.Sums[0].Problem, x.Approval.Answer = "a"+name, "a"+name, "a"+name
			p := reporttest.Policy(settings.Report, 9)
			p.Result.Accounts[0].Account, p.Result.Accounts[0].Blockers[0].User, p.Result.Accounts[0].Reason = "a"+name, "a"+name, "a"+name
			for _, page := range []string{html(t, a), text(t, x.HTML), text(t, p.HTML)} {
				elements = append(elements, strings.Count(page, "<"))
			}
			return elements, []string{text(t, a.JSON), text(t, x.JSON), text(t, p.JSON)}
		}
		want, _ := pages("")
		got, reports := pages(name)
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%q: page %d has %d tags, want %d", name, i, got[i], want[i])
			}
			if !json.Valid([]byte(reports[i])) {
				t.Errorf("%q: report %d is no JSON", name, i)
			}
		}
	})
}
