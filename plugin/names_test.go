// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

// TestNamesAreTakenAsSentOrRefused is E9, capitals, and E27, names with "..".
func TestNamesAreTakenAsSentOrRefused(t *testing.T) {
	t.Parallel()
	paths := map[string][]logical.Operation{
		"config/%s":       {logical.ReadOperation, logical.UpdateOperation, logical.PatchOperation, logical.DeleteOperation},
		"rotate-root/%s":  {logical.UpdateOperation},
		"policy/%s":       {logical.ReadOperation, logical.UpdateOperation},
		"check/%s":        {logical.ReadOperation},
		"roles/%s":        {logical.ReadOperation, logical.UpdateOperation, logical.PatchOperation, logical.DeleteOperation},
		"creds/%s":        {logical.ReadOperation, logical.UpdateOperation},
		"static-roles/%s": {logical.ReadOperation, logical.UpdateOperation, logical.PatchOperation, logical.DeleteOperation},
		"static-creds/%s": {logical.ReadOperation},
		"rotate-role/%s":  {logical.UpdateOperation},
	}
	names := map[string]string{
		"E9: capitals, for which Vault's policies have another name": "App",
		"E27: two dots, which storage refuses":                       "a..b",
		"129 characters":                                             strings.Repeat("a", 129),
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"on every path": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for pattern, operations := range paths {
				for why, name := range names {
					for _, operation := range operations {
						path := strings.Replace(pattern, "%s", name, 1)
						resp, err := v.try(operation, path)
						if err != nil || resp == nil || !resp.IsError() || !strings.Contains(resp.Error().Error(), "lower-case") {
							t.Errorf("%s of %s (%s): got %v, %v, want a refusal that tells what names are", operation, pattern, why, resp, err)
						}
						if resp != nil && resp.IsError() && len(resp.Error().Error()) > 300 {
							t.Errorf("%s of %s: the refusal has %d characters", operation, pattern, len(resp.Error().Error()))
						}
					}
				}
			}
			if keys := v.keys(); len(keys) != 1 {
				t.Errorf("%d keys, want the engine's alone", len(keys))
			}
		},
		"in every field that names an account": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for path, operation := range map[string]logical.Operation{
				"roles/x": logical.UpdateOperation, "static-roles/x": logical.UpdateOperation, "tidy": logical.UpdateOperation,
				"keys/": logical.ListOperation,
			} {
				v.mustRefuse(operation, path, []string{"account=Default"}, `account "Default"`, "lower-case")
			}
		},
		"a longest and an odd one are taken": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for _, name := range []string{strings.Repeat("a", 128), "a.b-c_d", "_", "0"} {
				v.write("roles/"+name, "user_names=app")
				v.mustRevoke(v.lease(name))
			}
		},
	})
}

// TestADurationThatWholeSecondsCannotSayIsRefused is E29.
func TestADurationThatWholeSecondsCannotSayIsRefused(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"on every path that has one": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for value, says := range map[string]string{
				"500ms":               "give whole seconds", // would be stored as 0: no limit
				"-500ms":              "give whole seconds",
				"1500ms":              "give whole seconds",
				"0.5":                 "", // whichever refuses it
				"9223372036854775807": "", // in seconds
				"ten minutes":         "such as 90s, 15m or 8h",
				"1e300":               "",
			} {
				for path, fields := range map[string][]string{
					"config/default": {"ttl", "max_ttl", "expiry_grace", "request_timeout", "rotation_period"},
					"roles/app":      {"ttl", "max_ttl"},
					"creds/app":      {"ttl"},
					"static-roles/x": {"rotation_period", "rotation_window", "rotation_grace_period"},
				} {
					for _, field := range fields {
						v.mustRefuse(logical.UpdateOperation, path, []string{field + "=" + value}, field, says)
					}
				}
			}
		},
	})
}
