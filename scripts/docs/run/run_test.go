// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package run runs the commands of README and docs as they stand there, with the real command line against a real server, the
// real plugin and the simulated clouds. Nothing is changed in them but the endpoint of a cloud, which they leave to its default.
package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/scripts/docs/markdown"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

const (
	root       = "../../.."
	pluginFile = "vault-plugin-secrets-cloudkeys"
	login      = "owner@example.com"
	password   = "Correct-Horse-1"
)

func TestCommandsOfThePagesRun(t *testing.T) {
	pages, err := markdown.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	policies := policiesOf(t, pages)
	for _, page := range pages {
		for note, prelude := range map[string]string{"run": "", "run dev": likeMakeDev} {
			blocks := page.Noted(note)
			if len(blocks) == 0 {
				continue
			}
			t.Run(filepath.Base(page.Name)+", "+note, func(t *testing.T) {
				newDesk(t, policies).run(page.Name, prelude, blocks)
			})
		}
	}
}

// TestEveryRightIsNeeded takes the rights of the pages' policies away one by one: check/ must miss each.
func TestEveryRightIsNeeded(t *testing.T) {
	pages, err := markdown.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	policies := policiesOf(t, pages)
	d := newDesk(t, policies)
	for user, role := range map[string]string{
		"engine": "user_names=deploy",
		"builder": "credential_type=iam_user groups=builders policy_orns=orn:ows:idauth::123456789012:policy/ci " +
			`policy_document='{"Statement": [{"Effect": "Allow", "Action": ["api:Read*"], "Resource": ["*"]}]}'`,
	} {
		key := d.account.AddKey(cloudsim.KeySpec{User: user, Expires: time.Now().Add(time.Hour)})
		d.mustRun(fmt.Sprintf(`vault secrets enable -path=%[1]s vault-plugin-secrets-cloudkeys
vault write %[1]s/config/default provider=outscale endpoint="$OUTSCALE_ENDPOINT" max_requests_per_second=500 access_key=%[2]s secret_key=%[3]s
vault write %[1]s/roles/role %[4]s
`, user, key.AccessKey, key.SecretKey, role))
		complete := d.mustRun("vault read " + user + "/check/default")
		for _, right := range policies[user] {
			t.Run(user+" without "+right, func(t *testing.T) {
				d.account.AddUser(user, slices.DeleteFunc(slices.Clone(policies[user]), func(other string) bool { return other == right })...)
				t.Cleanup(func() { d.account.AddUser(user, policies[user]...) })
				findings := d.mustRun("vault read " + user + "/check/default")
				if call := strings.TrimPrefix(right, "api:"); !strings.Contains(findings, call) || strings.Contains(complete, call) {
					t.Errorf("with it:\n%s\nwithout it:\n%s", complete, findings)
				}
			})
		}
	}
}

// likeMakeDev is what a reader of a page has done already: the engine is mounted and leases keys, and somebody has lost one.
const likeMakeDev = `
vault audit enable file file_path="$AUDIT_LOG" hmac_accessor=false
vault secrets enable -path=outscale -audit-non-hmac-response-keys=access_key vault-plugin-secrets-cloudkeys
vault write outscale/config/default provider=outscale region=eu-west-2 access_key="$OSC_ACCESS_KEY" secret_key="$OSC_SECRET_KEY"
vault write outscale/roles/deploy user_names=deploy ttl=10m
vault write outscale/static-roles/legacy user_name=legacy rotation_period=24h
` + somebodyHasLostAKey

// somebodyHasLostAKey sets LEAKED to the id of a leased key.
const somebodyHasLostAKey = `
echo 'path "outscale/creds/deploy" { capabilities = ["read"] }' | vault policy write lost -
LEAKED=$(VAULT_TOKEN=$(vault token create -policy=lost -field=token) vault read -field=access_key outscale/creds/deploy)
`

// policiesOf are the actions of each policy that the pages tell readers to give to the engine's users.
func policiesOf(t *testing.T, pages []markdown.Page) map[string][]string {
	t.Helper()
	policies := map[string][]string{}
	for _, page := range pages {
		for _, block := range page.Blocks {
			name, is := strings.CutPrefix(block.Note, "policy ")
			if !is {
				continue
			}
			var document struct{ Statement []struct{ Action []string } }
			if err := json.Unmarshal([]byte(block.Text), &document); err != nil {
				t.Fatalf("%s:%d: %v", page.Name, block.Line, err)
			}
			for _, statement := range document.Statement {
				policies[name] = append(policies[name], statement.Action...)
			}
		}
	}
	return policies
}

// desk is where a reader sits: a shell with a server of its own and both clouds.
type desk struct {
	t       *testing.T
	dir     string
	plugins string
	account *cloudsim.Account
	env     []string
}

// newDesk is a desk whose server keeps its data in memory and has the plugin in its catalog.
func newDesk(t *testing.T, policies map[string][]string) *desk {
	t.Helper()
	d, server := newBareDesk(t, policies, true)
	if _, err := devserver.RegisterPlugin(t.Context(), server.Client, d.plugins, pluginFile, pluginFile); err != nil {
		t.Fatal(err)
	}
	return d
}

// newBareDesk is a desk before anything was installed but the binary in the server's plugin directory.
func newBareDesk(t *testing.T, policies map[string][]string, inMemory bool) (*desk, *devserver.Server) {
	t.Helper()
	bin, plugin := os.Getenv("VAULT_BIN"), os.Getenv("CLOUDKEYS_PLUGIN")
	if bin == "" || plugin == "" {
		t.Fatal("VAULT_BIN and CLOUDKEYS_PLUGIN name no binaries: run make test-acceptance, which builds both")
	}
	d := &desk{t: t, dir: t.TempDir()}
	d.plugins = filepath.Join(d.dir, "plugins") // pages copy binaries there
	d.copyPlugin(plugin)
	// The clouds come first, and go last: a server that ends waits for the revocation of a lease that is under way.
	clouds := d.clouds(policies)
	server, err := devserver.Start(t.Context(), devserver.Options{
		Bin: bin, PluginDir: d.plugins, Dir: filepath.Join(d.dir, "server"), Dev: inMemory, LogLevel: "info",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(d.dir, "password.txt"), []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	d.env = append(clouds,
		"PATH="+d.commandLine(bin)+":"+os.Getenv("PATH"), "HOME="+d.dir, "PLUGINS="+d.plugins, "NEW="+plugin, "VERSION=v0.1.0", "NEW_VERSION=v0.2.0",
		"AUDIT_LOG="+filepath.Join(d.dir, "audit.log"),
		// bao reads these as well, and a BAO_TOKEN would win over the VAULT_TOKEN that a page sets for one command.
		"VAULT_ADDR="+server.Addr(), "VAULT_TOKEN="+server.Token(),
	)
	return d, server
}

func (d *desk) copyPlugin(plugin string) {
	d.t.Helper()
	from, err := os.Open(plugin)
	if err != nil {
		d.t.Fatal(err)
	}
	defer from.Close()
	if err := os.Mkdir(d.plugins, 0o700); err != nil {
		d.t.Fatal(err)
	}
	to, err := os.OpenFile(filepath.Join(d.plugins, pluginFile), os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		d.t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		d.t.Fatal(err)
	}
}

// clouds starts both clouds with what the pages presume: users, a group, an agency, and engine's users that have the rights
// which the pages name and no others.
func (d *desk) clouds(policies map[string][]string) []string {
	d.t.Helper()
	sim := cloudsim.New()
	account := sim.AddAccount("123456789012")
	account.SetLogin(login, password)
	for _, user := range []string{"deploy", "deploy-2", "legacy", "backup"} {
		account.AddUser(user, "api:Read*")
	}
	key := func(user string) cloudsim.Credentials {
		account.AddUser(user, policies[user]...)
		return account.AddKey(cloudsim.KeySpec{User: user, Expires: time.Now().Add(20 * 24 * time.Hour)})
	}
	account.AddUser("functions", policies["functions"]...)
	d.account = account
	engine, builder, next := key("engine"), key("builder"), key("engine")

	domain := sim.AddDomain("acme")
	for _, user := range []string{"deploy-1", "deploy-2", "deploy-3", "backup"} {
		domain.AddUser(user)
	}
	domain.AddGroup("readers")
	domain.AddAgency("ci", domain)
	domain.AddUser("engine", policies["huawei"]...)
	huawei := domain.AddKey(cloudsim.IAMKeySpec{User: "engine"})
	return []string{
		"OUTSCALE_ENDPOINT=" + sim.Start(d.t), "HUAWEI_ENDPOINT=" + sim.StartHuawei(d.t),
		"OSC_ACCESS_KEY=" + engine.AccessKey, "OSC_SECRET_KEY=" + engine.SecretKey,
		"NEW_ACCESS_KEY=" + next.AccessKey, "NEW_SECRET_KEY=" + next.SecretKey,
		"BUILDER_ACCESS_KEY=" + builder.AccessKey, "BUILDER_SECRET_KEY=" + builder.SecretKey,
		"OSC_LOGIN=" + login, "OSC_PASSWORD=" + password,
		"HUAWEI_ACCESS_KEY=" + huawei.AccessKey, "HUAWEI_SECRET_KEY=" + huawei.SecretKey,
	}
}

// endpoints stands for vault on the reader's PATH. It names the simulated cloud where an account is written.
const endpoints = `#!/bin/sh
case "$1 $2" in
"write outscale/config/"*) exec %[1]q "$@" endpoint="$OUTSCALE_ENDPOINT" ;;
"write huawei/config/"*) exec %[1]q "$@" endpoint="$HUAWEI_ENDPOINT" ;;
*) exec %[1]q "$@" ;;
esac
`

// commandLine is a directory in which the server's binary is called vault, which bao may be called too.
func (d *desk) commandLine(bin string) string {
	d.t.Helper()
	real, err := exec.LookPath(bin)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	dir := filepath.Join(d.dir, "bin")
	err = errors.Join(err, os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "vault"), fmt.Appendf(nil, endpoints, real), 0o700))
	if err != nil {
		d.t.Fatal(err)
	}
	return dir
}

// buildCommand puts the command of the companion functions on the reader's PATH, as a release would.
func (d *desk) buildCommand() {
	d.t.Helper()
	build := exec.CommandContext(d.t.Context(), "go", "build", "-o", filepath.Join(d.dir, "bin", "cloudkeys"), "./functions/cloudkeys")
	build.Dir = root
	if said, err := build.CombinedOutput(); err != nil {
		d.t.Fatalf("%v:\n%s", err, said)
	}
}

// The reader's own shell after a page: what was a variable of it before still has the value that it had, since a reader goes on in it.
const (
	rememberTheShell = `
readers() { printf %s "$VAULT_ADDR $VAULT_TOKEN $OSC_ACCESS_KEY $OSC_SECRET_KEY $HOME $PATH" | sha256sum; }
readers_before=$(readers)
`
	holdTheShell = `
test "$readers_before" = "$(readers)" || echo "error: the page has changed the variables of the reader's shell"
`
)

// run runs the blocks of a page in one shell, which ends at the first command that fails.
func (d *desk) run(page, prelude string, blocks []markdown.Block) {
	d.t.Helper()
	script := "set -eu\n" + prelude + rememberTheShell
	for _, block := range blocks {
		script += fmt.Sprintf("echo '== %s:%d'\n%s", page, block.Line, block.Text)
	}
	if strings.Contains(script, "\ncloudkeys ") {
		d.buildCommand()
	}
	out := d.mustRun(script + holdTheShell)
	if strings.Contains(out, "error: ") {
		d.t.Errorf("check/ has a finding, or the shell is not what it was:\n%s", out)
	}
}

// mustRun returns what a script prints.
func (d *desk) mustRun(script string) string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 2*time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "sh", "-c", script)
	shell.Dir, shell.Env = d.dir, d.env
	out, err := shell.CombinedOutput()
	if err != nil {
		d.t.Fatalf("%v:\n%s", err, out)
	}
	return string(out)
}
