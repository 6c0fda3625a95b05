// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package browser opens the HTML report in a real browser. It is a package of its own so
// that no other test needs one.
package browser

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report/reporttest"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// browser finds Chromium. A machine without one fails: a test that skips proves nothing.
func browser(t *testing.T) string {
	t.Helper()
	name := os.Getenv("CHROMIUM")
	if name == "" {
		name = "chromium"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("this test needs Chromium: run scripts/pins/chromium/install.sh, or set CHROMIUM to one: %v", err)
	}
	return path
}

// open runs Chromium on a page, without any network, and returns what it prints.
func open(t *testing.T, page string, arguments ...string) string {
	t.Helper()
	arguments = append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND", "--user-data-dir=" + t.TempDir(),
	}, arguments...)
	cmd := exec.CommandContext(t.Context(), browser(t), append(arguments, "file://"+page)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("chromium: %v\n%s", err, errs.String())
	}
	return string(out)
}

// write makes the page of a run in a mode. REPORT_DIR keeps it, and its picture, for a look.
func write(t *testing.T, mode string) string {
	t.Helper()
	dir := os.Getenv("REPORT_DIR")
	if dir == "" {
		dir = t.TempDir()
	}
	path := filepath.Join(dir, mode+".html")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	about := report.About{Function: "revoke-expired-keys", Version: "v1.2.3", RunID: "2026-05-06T02:00:00Z", Digest: "0123456789ab"}
	if err := report.SweepHTML(file, about, reporttest.Result(t, mode)); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestThePageInABrowser(t *testing.T) {
	for _, mode := range []string{settings.Report, settings.Enforce} {
		t.Run(mode, func(t *testing.T) {
			page := write(t, mode)
			dom := open(t, page, "--dump-dom")
			t.Run("shows the plan", func(t *testing.T) {
				_, plan, found := strings.Cut(dom, `<table id="plan">`)
				plan, _, _ = strings.Cut(plan, "</table>")
				if rows := strings.Count(plan, "<tr>") - 1; !found || rows != 5 {
					t.Errorf("the plan has %d rows, want 5: %s", rows, plan)
				}
				for _, want := range []string{"ORPH…AAA1", "deactivate", "delete", "remove", "its ledger has no such key"} {
					if !strings.Contains(plan, want) {
						t.Errorf("the plan lacks %q", want)
					}
				}
			})
			t.Run("shows the histogram", func(t *testing.T) {
				_, svg, _ := strings.Cut(dom, `<svg id="ages"`)
				svg, _, found := strings.Cut(svg, "</svg>")
				if bars := len(regexp.MustCompile(`<rect class="bar-kept"[^>]* height="[0-9.]+"`).FindAllString(svg, -1)); !found || bars != 7 {
					t.Errorf("the histogram has %d bars, want 7: %s", bars, svg)
				}
			})
			t.Run("says why each key is kept", func(t *testing.T) {
				for _, want := range []string{"signs the calls of this run", "signs Vault's calls", "keep until 2999-01-01", "its tag says", "leased by the role"} {
					if !strings.Contains(strings.ReplaceAll(dom, "the end of ", ""), want) {
						t.Errorf("the page lacks %q", want)
					}
				}
			})
			t.Run("runs no script that the cloud sent", func(t *testing.T) {
				if strings.Contains(dom, "<script") || strings.Contains(dom, "<title>hacked") || !strings.Contains(dom, "&lt;script&gt;document.title") {
					t.Error("the user's name was taken for markup")
				}
			})
			t.Run("refers to nothing else", func(t *testing.T) {
				if found := regexp.MustCompile(`(?i)(https?:)?//[a-z]|\b(src|href|url|@import|action)\s*[=(]`).FindString(dom); found != "" {
					t.Errorf("the page has %q", found)
				}
				if !strings.Contains(dom, "default-src 'none'") {
					t.Error("the page has no policy of its own")
				}
			})
			t.Run("can be drawn", func(t *testing.T) {
				picture := strings.TrimSuffix(page, ".html") + ".png"
				open(t, page, "--hide-scrollbars", "--window-size=1180,1500", "--screenshot="+picture)
				if info, err := os.Stat(picture); err != nil || info.Size() < 20_000 {
					t.Errorf("the picture is %v, error %v", info, err)
				}
			})
		})
	}
}
