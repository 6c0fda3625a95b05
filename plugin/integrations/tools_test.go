// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package integrations

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	osc "github.com/outscale/osc-sdk-go/v2"
)

// hour is a role whose leases outlive a test.
var hour = map[string]any{"ttl": "1h"}

// tool is a program of the Python environment that make test-integrations installs.
func tool(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(needed(t, "CLOUDKEYS_CLIENTS"), name)
}

// pointed are the settings with which docs/agent.md points a tool to the files that the agent writes.
func (d *desk) pointed(arguments ...string) []string {
	at := func(name string) string { return filepath.Join(d.home, name) }
	return append([]string{"env", "HOME=" + at("cloudkeys"), "AWS_SHARED_CREDENTIALS_FILE=" + at(awsProfiles)}, arguments...)
}

// oscCLI is OUTSCALE's command line, as the vendor's pages show it, with the endpoint of the simulated cloud.
func (d *desk) oscCLI(call string, arguments ...string) []string {
	return append(d.pointed(tool(d.t, "osc-cli"), "api", call, "--profile", "default", "--endpoint", d.url), arguments...)
}

// awsCLI is AWS's command line on OUTSCALE's EIM endpoint.
func (d *desk) awsCLI(call string, arguments ...string) []string {
	return append(d.pointed(tool(d.t, "aws"), "iam", call, "--profile", "outscale", "--endpoint-url", d.url), arguments...)
}

// readWithPython lists the caller's keys with OUTSCALE's SDK for Python.
const readWithPython = `
import json
from osc_sdk_python import Gateway
with Gateway(max_retries=0) as gateway:
    print(json.dumps(gateway.ReadAccessKeys()))
`

// proxied has the SDK for Python reach the simulated cloud under the API's true name: it leaves the port out of what it signs, so
// that it works with the usual ones alone.
func (d *desk) proxied() []string { return []string{"HTTP_PROXY=" + d.url, "OSC_PROTOCOL=http"} }

// accessKeys is an answer of the API.
type accessKeys struct {
	AccessKeys []struct{ AccessKeyId, State string }
	AccessKey  struct{ AccessKeyId, SecretKey, ExpirationDate string }
}

// eimAccessKeys is what AWS's command line prints.
type eimAccessKeys struct {
	AccessKeyMetadata []struct{ AccessKeyId, Status string }
	AccessKey         struct{ AccessKeyId, SecretAccessKey string }
}

// environment are the lines of a rendered file.
func (d *desk) environment(file string) []string { return strings.Fields(d.file(file)) }

// clients list the caller's keys, each in its own way, and return their ids.
func (d *desk) clients() map[string]func() ([]string, error) {
	api := func(text string, err error) ([]string, error) {
		if err != nil {
			return nil, err
		}
		var ids []string
		for _, key := range mustDecode[accessKeys](d.t, text).AccessKeys {
			ids = append(ids, key.AccessKeyId)
		}
		return ids, nil
	}
	eim := func(text string, err error) ([]string, error) {
		if err != nil {
			return nil, err
		}
		var ids []string
		for _, key := range mustDecode[eimAccessKeys](d.t, text).AccessKeyMetadata {
			ids = append(ids, key.AccessKeyId)
		}
		return ids, nil
	}
	python := []string{tool(d.t, "python"), "-c", readWithPython}
	return map[string]func() ([]string, error){
		"osc-cli with the profile": func() ([]string, error) { return api(d.run(d.oscCLI("ReadAccessKeys"))) },
		"osc-sdk-python with the profile": func() ([]string, error) {
			return api(d.run(python, append(d.proxied(), "OSC_CONFIG_FILE="+filepath.Join(d.home, oscProfiles))...))
		},
		"osc-sdk-python with the environment file": func() ([]string, error) {
			env := append(d.proxied(), d.environment(envFile)...)
			return api(d.run(python, append(env, "HOME="+d.t.TempDir())...))
		},
		"osc-sdk-go with the profile": d.readWithGo,
		"aws iam with the AWS profile": func() ([]string, error) {
			return eim(d.run(d.awsCLI("list-access-keys")))
		},
	}
}

// readWithGo lists the caller's keys with OUTSCALE's SDK for Go.
func (d *desk) readWithGo() ([]string, error) {
	path := filepath.Join(d.home, oscProfiles)
	file, err := osc.LoadConfigFile(&path)
	if err != nil {
		return nil, err
	}
	ctx, err := file.Context(d.t.Context(), "default")
	if err != nil {
		return nil, err
	}
	config, err := file.Configuration("default")
	if err != nil {
		return nil, err
	}
	config.Servers = osc.ServerConfigurations{{URL: d.url + "/api/v1"}}
	answer, _, err := osc.NewAPIClient(config).AccessKeyApi.ReadAccessKeys(ctx).ReadAccessKeysRequest(osc.ReadAccessKeysRequest{}).Execute()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, key := range answer.GetAccessKeys() {
		ids = append(ids, key.GetAccessKeyId())
	}
	return ids, nil
}

func TestOUTSCALEsToolsSignWithALeasedKey(t *testing.T) {
	t.Parallel()
	d := newDesk(t, hour)
	d.example("agent")
	d.page("docs/agent.md")
	d.startAgent("agent.hcl")
	leased := d.profile("").Default.AccessKey
	d.until(10*time.Second, "all files are there", func() bool { return d.file(envFile) != "" && d.file(awsProfiles) != "" })

	for name, list := range d.clients() {
		t.Run(name, func(t *testing.T) {
			if got, err := list(); err != nil || len(got) != 1 || got[0] != leased {
				t.Errorf("it lists the keys %v (%v), and %s is leased", got, err, leased)
			}
		})
	}
	// With the right secret: a wrong one would lock the account, and prove nothing of the others.
	d.write("sys/leases/revoke-prefix/outscale/creds", map[string]any{"sync": true})
	t.Run("osc-cli is refused when the lease is revoked", func(t *testing.T) {
		if out, err := d.run(d.oscCLI("ReadAccessKeys")); err == nil || !strings.Contains(err.Error(), "4120") {
			t.Errorf("it got %q, %v", out, err)
		}
	})
}

func TestKeysThatToolsMakeAreForeign(t *testing.T) {
	t.Parallel()
	d := newDesk(t, hour)
	d.example("agent")
	d.page("docs/agent.md")
	d.startAgent("agent.hcl")
	leased := d.profile("").Default.AccessKey
	d.until(10*time.Second, "the AWS profile is there", func() bool { return d.file(awsProfiles) != "" })

	// As OUTSCALE's pages show it.
	byOSC := mustDecode[accessKeys](t, d.mustRun(d.oscCLI("CreateAccessKey", "--ExpirationDate", "2063-04-05"))).AccessKey.AccessKeyId
	byAWS := mustDecode[eimAccessKeys](t, d.mustRun(d.awsCLI("create-access-key", "--user-name", "deploy"))).AccessKey.AccessKeyId

	t.Run("check counts them, and names the one that never expires", func(t *testing.T) {
		found := fmt.Sprint(d.read("outscale/check/default").Data)
		for _, part := range []string{"3 of 10 (1 issued by this mount, 2 others)", "not created by this mount never expire: " + byAWS} {
			if !strings.Contains(found, part) {
				t.Errorf("check does not say %q: %s", part, found)
			}
		}
	})
	t.Run("the ledger does not list them", func(t *testing.T) {
		listed, err := d.server.Client.Logical().ListWithContext(t.Context(), "outscale/keys")
		if err != nil || listed == nil {
			t.Fatalf("%v, %v", listed, err)
		}
		if ids := fmt.Sprint(listed.Data["keys"]); !strings.Contains(ids, leased) || strings.Contains(ids, byOSC) ||
			strings.Contains(ids, byAWS) {
			t.Errorf("the ledger lists %s", ids)
		}
	})
	t.Run("tidy leaves them alone", func(t *testing.T) {
		d.write("outscale/tidy", map[string]any{"account": "default"})
		d.until(time.Minute, "the tidy is done", func() bool { return d.read("outscale/tidy-status").Data["state"] == "done" })
		if status := fmt.Sprint(d.read("outscale/tidy-status").Data); strings.Contains(status, byOSC) || strings.Contains(status, byAWS) {
			t.Errorf("tidy has found %s", status)
		}
		if keys := d.deployKeys(); len(keys) != 3 {
			t.Errorf("the user has %d keys after the tidy", len(keys))
		}
	})
	t.Run("revoking all leases leaves them alone", func(t *testing.T) {
		d.write("sys/leases/revoke-prefix/outscale/creds", map[string]any{"sync": true})
		if keys := d.deployKeys(); len(keys) != 2 || keys[0].ID != byOSC || keys[1].ID != byAWS {
			t.Errorf("the user has the keys %+v", keys)
		}
	})
}

func TestHuaweisSDKSignsWithALeasedKey(t *testing.T) {
	t.Parallel()
	d := newDesk(t, hour)
	lease := d.read("huawei/creds/deploy")
	env := []string{
		fmt.Sprintf("HUAWEICLOUD_SDK_AK=%s", lease.Data["access_key"]), fmt.Sprintf("HUAWEICLOUD_SDK_SK=%s", lease.Data["secret_key"]),
		fmt.Sprintf("HUAWEICLOUD_SDK_DOMAIN_ID=%s", d.read("huawei/config/default").Data["domain_id"]),
	}
	sdk := []string{needed(t, "CLOUDKEYS_HUAWEI_SDK"), d.url}

	described := mustDecode[struct{ Access, Status, Description string }](t, d.mustRun(sdk, env...))
	if described.Access != lease.Data["access_key"] || described.Status != "active" || !strings.Contains(described.Description, "until") {
		t.Errorf("the SDK is described %+v", described)
	}
	d.write("sys/leases/revoke-prefix/huawei/creds", map[string]any{"sync": true})
	if out, err := d.run(sdk, env...); err == nil {
		t.Errorf("the SDK still signs with the key of a revoked lease: %s", out)
	}
}
