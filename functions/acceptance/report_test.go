// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestALocalReport runs what `make report` does, with the token that an operator has.
func TestALocalReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.keys()
	dir := t.TempDir()
	cmd := exec.Command("go", "run", "./functions/cloudkeys", "report", "-dir", dir)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+w.server.Addr(), "VAULT_TOKEN="+w.server.Token(), "VAULT_AUTH_METHOD=token",
		"VAULT_ENGINE="+w.name, "MODE=enforce")
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	w.mustBeUnchanged(before)
	pages, err := filepath.Glob(filepath.Join(dir, "reports", "*-revoke-expired-keys-local", "default.html"))
	if err != nil || len(pages) != 1 {
		t.Fatalf("got %v (%v): %s", pages, err, output)
	}
	page, err := os.ReadFile(pages[0])
	if err != nil || !strings.Contains(string(page), "orphan") {
		t.Errorf("the page is %s (%v)", page, err)
	}
	if policies, err := filepath.Glob(filepath.Join(dir, "reports", "*-sync-policy-local", "index.html")); err != nil || len(policies) != 1 {
		t.Errorf("got %v (%v)", policies, err)
	}
	w.mustHaveGivenBack()
	w.mustHideSecrets(string(page), string(output))
}

// TestTheBinariesStaySmall: a package that looks methods up by name at run time, such as
// html/template, makes the linker keep every method of OUTSCALE's SDK.
func TestTheBinariesStaySmall(t *testing.T) {
	for _, function := range []string{revokeFunction, syncFunction} {
		info, err := os.Stat(filepath.Join(os.Getenv("FUNCTIONS_BIN"), function, "bootstrap"))
		if err != nil || info.Size() > 20<<20 {
			t.Errorf("%s: %v, %v", function, info, err)
		}
	}
}
