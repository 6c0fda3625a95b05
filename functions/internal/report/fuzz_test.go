// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report/reporttest"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// FuzzReport: names and reasons come from the cloud, where others write them. None adds an
// element to the page, and the report in JSON stays JSON.
func FuzzReport(f *testing.F) {
	for _, seed := range []string{"deploy", `<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, "</td></table>", "&amp;", "{{.}}", "\x00\xff", "` ${x}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		result := reporttest.Result(t, settings.Report)
		elements := func() int {
			var page bytes.Buffer
			if err := SweepHTML(&page, about, result); err != nil {
				t.Fatal(err)
			}
			return strings.Count(page.String(), "<")
		}
		result.Accounts[0].Account, result.Accounts[0].Problem = "name", "problem"
		want := elements()
		result.Accounts[0].Account, result.Accounts[0].Problem = "a"+text, "a"+text
		if got := elements(); got != want {
			t.Errorf("%q: the page has %d tags, want %d", text, got, want)
		}
		var out bytes.Buffer
		if err := SweepJSON(&out, about, result); err != nil || !json.Valid(out.Bytes()) {
			t.Errorf("%q: no JSON, %v", text, err)
		}
	})
}
