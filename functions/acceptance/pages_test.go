// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/scripts/docs/markdown"
)

// follow runs the lines of docs/functions.md that have a note, as an operator pastes them, with what is the reader's own replaced by what
// the world has: each of these texts stands in the lines.
func (w *world) follow(note string, replaced ...string) {
	w.t.Helper()
	pages, err := markdown.Pages("../..")
	if err != nil {
		w.t.Fatal(err)
	}
	var lines string
	for _, page := range pages {
		if page.Name == "docs/functions.md" {
			for _, block := range page.Noted(note) {
				lines += block.Text + "\n"
			}
		}
	}
	for i := 0; i < len(replaced); i += 2 {
		if !strings.Contains(lines, replaced[i]) {
			w.t.Fatalf("docs/functions.md, %s, has no %s in %s", note, replaced[i], lines)
		}
		lines = strings.ReplaceAll(lines, replaced[i], replaced[i+1])
	}
	bin := w.t.TempDir()
	if err := os.Symlink(os.Getenv("VAULT_BIN"), filepath.Join(bin, "vault")); err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), "bash", "-euo", "pipefail", "-c", lines)
	cmd.Dir = w.t.TempDir()
	cmd.Env = []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "VAULT_ADDR=" + w.server.Addr(), "VAULT_TOKEN=" + w.server.Client.Token(),
	}
	if said, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s\n%s", err, lines, said)
	}
}

// TestTheLinesForAWSLetBothFunctionsIn pastes what the page says of Vault on AWS.
func TestTheLinesForAWSLetBothFunctionsIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arn, mount := aws.role(t, w.name), "aws-"+w.name
	w.follow("run aws", "auth enable aws", "auth enable -path="+mount+" "+authPlugin, "auth/aws/", "auth/"+mount+"/",
		"https://sts.eu-west-3.amazonaws.com", aws.url+" iam_endpoint="+aws.url+" access_key=test secret_key=test",
		"arn:aws:iam::123456789012:role/...", arn, "cloudkeys-functions", w.name)
	maps.Copy(w.env, aws.assume(t, arn))
	maps.Copy(w.env, map[string]string{"VAULT_AUTH_METHOD": "aws", "VAULT_AUTH_MOUNT": mount, "VAULT_IAM_SERVER_ID": "vault.example.com"})
	for function, says := range map[string]string{revokeFunction: "sweep done", syncFunction: "policy sync done"} {
		role := map[string]string{revokeFunction: "cloudkeys-revoke", syncFunction: "cloudkeys-sync"}[function]
		f := w.start(function, "VAULT_AUTH_ROLE="+role)
		if text := f.invoke(report); strings.Contains(text, "errorType") {
			t.Errorf("%s answers %s", function, text)
		}
		f.message(says)
	}
	w.mustHaveGivenBack()
}
