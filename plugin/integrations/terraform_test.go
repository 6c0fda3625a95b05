// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package integrations

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// terraform runs Terraform in a copy of docs/examples/terraform.
type terraform struct {
	desk *desk
	env  []string
}

// newTerraform has it run the provider that was built, in place of one of a registry; it then wants no init.
func (d *desk) newTerraform() *terraform {
	d.t.Helper()
	d.example("terraform")
	config := filepath.Join(d.home, "cli.tfrc")
	text := fmt.Sprintf("provider_installation {\n  dev_overrides {\n    \"hashicorp/vault\" = %q\n  }\n  direct {}\n}\n",
		filepath.Dir(needed(d.t, "CLOUDKEYS_TERRAFORM_PROVIDER")))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	root := d.account.RootKey()
	return &terraform{desk: d, env: []string{
		"TF_CLI_CONFIG_FILE=" + config, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "VAULT_TOKEN=" + d.server.Token(),
		"TF_VAR_access_key=" + root.AccessKey, "TF_VAR_secret_key=" + root.SecretKey, "TF_VAR_endpoint=" + d.url + "/api/v1",
	}}
}

func (f *terraform) run(arguments ...string) (string, error) {
	return f.desk.run(append([]string{needed(f.desk.t, "TERRAFORM_BIN")}, arguments...), f.env...)
}

func (f *terraform) mustRun(arguments ...string) string {
	f.desk.t.Helper()
	out, err := f.run(arguments...)
	if err != nil {
		f.desk.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func (f *terraform) mustApply(arguments ...string) {
	f.desk.t.Helper()
	f.mustRun(append([]string{"apply", "-auto-approve", "-input=false", "-no-color"}, arguments...)...)
}

// TestTerraformConfiguresTheEngine is run by make test-terraform alone: it needs Terraform, and its provider takes minutes to build.
func TestTerraformConfiguresTheEngine(t *testing.T) {
	d := emptyDesk(t)
	f := d.newTerraform()
	f.mustRun("validate", "-no-color")
	first := d.account.RootKey().AccessKey
	f.mustApply()

	t.Run("a key can be leased", func(t *testing.T) {
		if lease := d.read("outscale/creds/deploy"); lease.LeaseDuration > 900 || lease.LeaseDuration < 890 ||
			lease.Data["user_name"] != "deploy" {
			t.Errorf("a lease of %d s for %v", lease.LeaseDuration, lease.Data["user_name"])
		}
	})
	t.Run("the key in Terraform's state is not the engine's any more", func(t *testing.T) {
		if now := d.read("outscale/config/default").Data["access_key"]; now == first {
			t.Errorf("the engine's key still is %s", first)
		}
	})
	t.Run("the audit log will show the ids of keys", func(t *testing.T) {
		if keys := d.read("sys/mounts/outscale/tune").Data["audit_non_hmac_response_keys"]; fmt.Sprint(keys) != "[access_key]" {
			t.Errorf("it will show %v", keys)
		}
	})
	t.Run("another plan has nothing to change", func(t *testing.T) {
		if out, err := f.run("plan", "-detailed-exitcode", "-input=false", "-no-color"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("what is changed is written, and the engine's new key stays", func(t *testing.T) {
		current := d.read("outscale/config/default").Data["access_key"]
		f.mustApply("-var", "max_ttl=7200")
		account := d.read("outscale/config/default").Data
		if fmt.Sprint(account["max_ttl"]) != "7200" || account["access_key"] != current {
			t.Errorf("max_ttl is %v and the key is %v, after %v", account["max_ttl"], account["access_key"], current)
		}
		if role := d.read("outscale/roles/deploy").Data; fmt.Sprint(role["max_ttl"]) != "7200" {
			t.Errorf("the role's max_ttl is %v", role["max_ttl"])
		}
	})
	t.Run("an account with leases is not destroyed", func(t *testing.T) {
		if out, err := f.run("apply", "-destroy", "-target=vault_generic_endpoint.account", "-auto-approve", "-input=false",
			"-no-color"); err == nil || !strings.Contains(err.Error(), "lease") {
			t.Errorf("it is: %v\n%s", err, out)
		}
	})
	t.Run("everything is destroyed when the leases are revoked", func(t *testing.T) {
		d.write("sys/leases/revoke-prefix/outscale/creds", map[string]any{"sync": true})
		f.mustRun("apply", "-destroy", "-auto-approve", "-input=false", "-no-color")
		if keys := d.deployKeys(); len(keys) != 0 {
			t.Errorf("keys are left: %+v", keys)
		}
	})
}
