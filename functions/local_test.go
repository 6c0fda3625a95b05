// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package functions_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/vault"
)

// samples are what env.json sets, by function.
func samples(t *testing.T) map[string]map[string]string {
	t.Helper()
	text, err := os.ReadFile("../env.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]string
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if ids := slices.Sorted(maps.Keys(all)); !slices.Equal(ids, []string{revokeID, syncID}) {
		t.Fatalf("env.json has %v", ids)
	}
	return all
}

// local is a function's environment as sam local puts it together: what the template declares, of which the shell sets what it has,
// and env.json after it; a reference to a resource is its logical id.
func local(t *testing.T, id string, file, shell map[string]string) func(string) string {
	t.Helper()
	parsed, _ := read(t)
	declared := parsed.getenv(id)
	return func(name string) string {
		if name == "AWS_SAM_LOCAL" {
			return "true"
		}
		node, own := parsed.Resources[id].Properties.Environment.Variables[name]
		if common, is := parsed.Globals.Function.Environment.Variables[name]; !own {
			if node = common; !is {
				return "" // sam hands over no variable that the template does not declare
			}
		}
		if value, set := file[name]; set {
			return value
		}
		if value, set := shell[name]; set {
			return value
		}
		if _, resource := parsed.Resources[node.Value]; node.Tag == "!Ref" && resource {
			return node.Value
		}
		return declared(name)
	}
}

func TestSamplesForSAMLocalSetWhatTheTemplateDeclares(t *testing.T) {
	parsed, _ := read(t)
	for id, variables := range samples(t) {
		for name := range variables {
			_, global := parsed.Globals.Function.Environment.Variables[name]
			if _, own := parsed.Resources[id].Properties.Environment.Variables[name]; !own && !global {
				t.Errorf("%s of %s is not in the template: sam local would ignore it", name, id)
			}
		}
	}
}

// What env.json sets beats the shell, and the file is tracked: nobody is to write a token into it.
func TestTheShellsVaultIsTakenUnderSAMLocal(t *testing.T) {
	shell := map[string]string{"VAULT_ADDR": "http://172.17.0.1:8200", "VAULT_TOKEN": "s.token"}
	for id, file := range samples(t) {
		config, ok, err := vault.ReadConfig(local(t, id, file, shell))
		if err != nil || !ok || config.Token != "s.token" || local(t, id, file, shell)("VAULT_ADDR") != shell["VAULT_ADDR"] {
			t.Errorf("%s: %v, with Vault: %v", id, err, ok)
		}
	}
}

func TestAnotherLoginUnderSAMLocalGoesToItsOwnMount(t *testing.T) {
	shell := map[string]string{
		"VAULT_ADDR": "http://172.17.0.1:8200", "VAULT_AUTH_METHOD": "approle", "VAULT_ROLE_ID": "r", "VAULT_SECRET_ID": "s",
	}
	config, _, err := vault.ReadConfig(local(t, revokeID, nil, shell))
	if err != nil || config.AuthMount != "approle" {
		t.Errorf("the login goes to auth/%s: %v", config.AuthMount, err)
	}
	t.Run("and that of AWS to auth/aws", func(t *testing.T) {
		parsed, _ := read(t)
		config, _, _ := vault.ReadConfig(func(name string) string { // what Lambda sets is missing
			if name == "VAULT_ADDR" {
				return "https://vault.example.com"
			}
			return parsed.getenv(revokeID)(name)
		})
		if config.AuthMount != "aws" {
			t.Errorf("the login goes to auth/%s", config.AuthMount)
		}
	})
}

// sam local puts the logical id of the bucket where its name belongs.
func TestABucketThatEnvJSONLeavesOutIsNoneUnderSAMLocal(t *testing.T) {
	getenv := local(t, revokeID, nil, nil)
	if name := getenv("REPORT_BUCKET"); name != "ReportBucket" {
		t.Fatalf("REPORT_BUCKET is %q", name)
	}
	if kept := archive.FromEnvironment(getenv); kept != nil {
		t.Errorf("reports would go to %+v", kept)
	}
	shell := map[string]string{"REPORT_BUCKET": "my-reports"}
	if archive.FromEnvironment(local(t, revokeID, nil, shell)) == nil {
		t.Error("a bucket that the shell names is none")
	}
}
