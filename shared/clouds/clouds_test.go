// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package clouds

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

func TestAccountsWithTheSameCertificatesShareTheirConnections(t *testing.T) {
	opener := NewOpener()
	one, err := opener.pool(provider.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	if another, _ := opener.pool(provider.TLS{}); another != one {
		t.Error("two pools for the same certificates")
	}
	if _, err := opener.pool(provider.TLS{CACert: "no PEM"}); err == nil {
		t.Error("a pool that trusts nothing that was said")
	}
}

func TestAnUnknownCloudIsRefused(t *testing.T) {
	for name, says := range map[string]string{"elsewhere": `unknown provider "elsewhere"`, "": "provider is missing"} {
		_, err := Open(provider.Config{Provider: name})
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "outscale or huawei") {
			t.Errorf("provider %q: got %v, want %q and the names that are known", name, err, says)
		}
	}
}

// TestTheCloudsAreImportedHereAlone keeps a third cloud to a folder and a line in All, whatever
// is built of the project, and whatever tests it. The one exception: the tests of a cloud's own
// package may stand outside of it, and import it.
func TestTheCloudsAreImportedHereAlone(t *testing.T) {
	const module = "github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/"
	const imports = `{{.ImportPath}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}`
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", imports, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	importers := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		for _, imported := range fields[1:] {
			isCloud := imported == module+"shared/provider/outscale" || imported == module+"shared/provider/huawei"
			if isCloud && imported != fields[0] {
				importers[strings.TrimPrefix(fields[0], module)] = true
			}
		}
	}
	if len(importers) != 1 || !importers["shared/clouds"] {
		t.Errorf("the clouds' packages are imported by %v, want shared/clouds alone", importers)
	}
}
