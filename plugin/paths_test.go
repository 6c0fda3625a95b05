// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// TestEveryPath walks the paths of the engine and fails on the first thing that an
// operator or a client would miss.
func TestEveryPath(t *testing.T) {
	b := newBackend(Build{}, nil)
	secret := map[string]bool{"secret_key": true, "client_key": true, "login": true, "password": true, "security_token": true}
	for _, p := range b.Paths {
		t.Run(p.Pattern, func(t *testing.T) {
			if p.HelpSynopsis == "" || p.HelpDescription == "" {
				t.Error("no help")
			}
			if p.DisplayAttrs == nil || p.DisplayAttrs.OperationPrefix != operationPrefix || p.DisplayAttrs.OperationSuffix == "" {
				t.Error("no operation id")
			}
			_, reads := p.Operations[logical.ReadOperation]
			_, creates := p.Operations[logical.CreateOperation]
			if creates && p.ExistenceCheck == nil {
				t.Error("a create without an existence check makes the sdk panic")
			}
			if _, patches := p.Operations[logical.PatchOperation]; reads && creates && !patches {
				t.Error("an entry that can be read and written cannot be patched")
			}
			for name, field := range p.Fields {
				if field.Description == "" {
					t.Errorf("field %s has no description", name)
				}
				if secret[name] && (field.DisplayAttrs == nil || !field.DisplayAttrs.Sensitive) {
					t.Errorf("field %s is not marked sensitive", name)
				}
			}
			for op, handler := range p.Operations {
				properties := handler.Properties()
				if properties.Summary == "" || len(properties.Responses) == 0 {
					t.Errorf("%s: no summary or no response schema", op)
				}
				for _, responses := range properties.Responses {
					for _, response := range responses {
						checkResponseFields(t, response.Fields, secret)
					}
				}
				write := op != logical.ReadOperation && op != logical.ListOperation
				if operation, ok := handler.(*framework.PathOperation); !ok || write && !operation.ForwardPerformanceStandby {
					t.Errorf("%s: a write that a standby would try itself", op)
				}
			}
		})
	}
}

func checkResponseFields(t *testing.T, fields map[string]*framework.FieldSchema, secret map[string]bool) {
	t.Helper()
	for name, field := range fields {
		if field.Description == "" {
			t.Errorf("answer field %s has no description", name)
		}
		if secret[name] && (field.DisplayAttrs == nil || !field.DisplayAttrs.Sensitive) {
			t.Errorf("answer field %s is not marked sensitive", name)
		}
	}
}

// TestSpecialPaths holds the storage prefixes against the sdk's matching rules: a
// prefix that lacks its slash protects nothing.
func TestSpecialPaths(t *testing.T) {
	paths := newBackend(Build{}, nil).PathsSpecial
	for _, prefixes := range [][]string{paths.LocalStorage, paths.SealWrapStorage} {
		for _, prefix := range prefixes {
			if prefix[len(prefix)-1] != '/' {
				t.Errorf("%q is not a prefix", prefix)
			}
		}
	}
	if len(paths.Unauthenticated) != 0 {
		t.Errorf("open to everybody: %v", paths.Unauthenticated)
	}
}
