// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
)

// secretFields are those that no display may show.
var secretFields = map[string]bool{"secret_key": true, "client_key": true, "login": true, "password": true, "security_token": true}

// shared are the paths whose writes change what all clusters share. Those of the others
// change what belongs to one cluster: leases, ledger, policies.
var shared = map[string]bool{
	configPrefix + framework.GenericNameRegex("account"):   true,
	"rotate-root/" + framework.GenericNameRegex("account"): true,
	rolePrefix + framework.GenericNameRegex("name"):        true,
	staticRolePrefix + framework.GenericNameRegex("name"):  true,
	"rotate-role/" + framework.GenericNameRegex("name"):    true,
	policyPrefix + framework.GenericNameRegex("account"):   false,
	"check/" + framework.GenericNameRegex("account"):       false,
	"creds/" + framework.GenericNameRegex("role"):          false,
	staticCredsPrefix + framework.GenericNameRegex("name"): false,
	"keys/" + framework.GenericNameRegex("access_key_id"):  false,
	"config/?$": false, "roles/?$": false, "static-roles/?$": false, "keys/?$": false,
	"tidy": false, "tidy-status": false, "info": false, "metrics": false,
}

// forwarded are the reads that a standby leaves to the active node: those that need the ledger, the cloud or what the active node
// has in memory, and keys that a rotation may just have replaced. The other reads are of configuration, which every node has.
var forwarded = map[string]bool{
	"creds/" + framework.GenericNameRegex("role"):          true,
	staticCredsPrefix + framework.GenericNameRegex("name"): true,
	"keys/" + framework.GenericNameRegex("access_key_id"):  true,
	"check/" + framework.GenericNameRegex("account"):       true,
	"keys/?$": true, "tidy-status": true, "metrics": true,
}

// pathRules are what every path must have, each with what an operator or a client would
// miss without it.
var pathRules = map[string]func(p *framework.Path) error{
	"help": func(p *framework.Path) error {
		if p.HelpSynopsis == "" || p.HelpDescription == "" {
			return errors.New("vault path-help says nothing")
		}
		return nil
	},
	"an operation id": func(p *framework.Path) error {
		if p.DisplayAttrs == nil || p.DisplayAttrs.OperationPrefix != operationPrefix || p.DisplayAttrs.OperationSuffix == "" {
			return errors.New("generated clients get a name out of its pattern")
		}
		return nil
	},
	"an existence check, where it can be created": func(p *framework.Path) error {
		if _, creates := p.Operations[logical.CreateOperation]; creates && p.ExistenceCheck == nil {
			return errors.New("the sdk panics")
		}
		return nil
	},
	"create and update together": func(p *framework.Path) error {
		_, creates := p.Operations[logical.CreateOperation]
		if _, updates := p.Operations[logical.UpdateOperation]; creates && !updates {
			return errors.New("a second write is refused")
		}
		return nil
	},
	"a patch, where it can be read and written": func(p *framework.Path) error {
		_, reads := p.Operations[logical.ReadOperation]
		_, creates := p.Operations[logical.CreateOperation]
		if _, patches := p.Operations[logical.PatchOperation]; reads && creates && !patches {
			return errors.New("one field cannot be changed alone")
		}
		return nil
	},
	"pages, where it lists": func(p *framework.Path) error {
		if _, lists := p.Operations[logical.ListOperation]; lists && (p.Fields["after"] == nil || p.Fields["limit"] == nil) {
			return errors.New("thousands of names come at once")
		}
		return nil
	},
	"described fields, the secret ones marked": func(p *framework.Path) error { return checkFields(p.Fields) },
	"a summary and a schema of every answer": func(p *framework.Path) error {
		for op, handler := range p.Operations {
			properties := handler.Properties()
			if properties.Summary == "" || len(properties.Responses) == 0 {
				return fmt.Errorf("%s has none", op)
			}
			for _, responses := range properties.Responses {
				for _, response := range responses {
					if response.Description == "" {
						return fmt.Errorf("%s: an answer without description", op)
					}
					if err := checkFields(response.Fields); err != nil {
						return fmt.Errorf("%s: %w", op, err)
					}
				}
			}
		}
		return nil
	},
	"the reads of a standby that are the active node's, and no others": func(p *framework.Path) error {
		for op, handler := range p.Operations {
			read := op == logical.ReadOperation || op == logical.ListOperation
			if forwards := handler.Properties().ForwardPerformanceStandby; read && forwards != forwarded[p.Pattern] {
				return fmt.Errorf("a standby forwards the %s: %t", op, forwards)
			}
		}
		return nil
	},
	"every write forwarded to the node that may write": func(p *framework.Path) error {
		everywhere, known := shared[p.Pattern]
		if !known {
			return errors.New("whether its writes are shared is not said here")
		}
		for op, handler := range p.Operations {
			operation, ok := handler.(*framework.PathOperation)
			if !ok {
				return fmt.Errorf("%s is of another type", op)
			}
			write := op != logical.ReadOperation && op != logical.ListOperation
			if write && !operation.ForwardPerformanceStandby {
				return fmt.Errorf("a standby would do the %s itself", op)
			}
			if operation.ForwardPerformanceSecondary != (write && everywhere) {
				return fmt.Errorf("on a performance secondary, the %s is done on the wrong cluster", op)
			}
		}
		return nil
	},
}

// TestEveryPath walks the paths of the engine.
func TestEveryPath(t *testing.T) {
	b := newBackend(Build{}, nil)
	for rule, check := range pathRules {
		t.Run("every path has "+rule, func(t *testing.T) {
			for _, p := range b.Paths {
				if err := check(p); err != nil {
					t.Fatalf("%s: %v", p.Pattern, err)
				}
			}
		})
	}
	t.Run("every path that is spoken of here exists", func(t *testing.T) {
		for pattern := range shared {
			if !slices.ContainsFunc(b.Paths, func(p *framework.Path) bool { return p.Pattern == pattern }) {
				t.Errorf("%s does not", pattern)
			}
		}
	})
}

// TestOpenAPI reads the description of the engine as clients' generators do.
func TestOpenAPI(t *testing.T) {
	b := newBackend(Build{}, nil)
	resp, err := b.HandleRequest(t.Context(), &logical.Request{Operation: logical.HelpOperation, Path: ""})
	if err != nil {
		t.Fatal(err)
	}
	doc, ok := resp.Data["openapi"].(*framework.OASDocument)
	if !ok {
		t.Fatalf("no description, but %T", resp.Data["openapi"])
	}
	seen := map[string]string{}
	for path, item := range doc.Paths {
		for _, operation := range []*framework.OASOperation{item.Get, item.Post, item.Patch, item.Delete} {
			if operation == nil {
				continue
			}
			switch other, taken := seen[operation.OperationID]; {
			case !strings.HasPrefix(operation.OperationID, operationPrefix+"-"):
				t.Errorf("%s: operation id %q", path, operation.OperationID)
			case taken:
				t.Errorf("%s and %s have the same operation id %q", path, other, operation.OperationID)
			}
			seen[operation.OperationID] = path
		}
	}
	if len(seen) < 25 {
		t.Errorf("only %d operations", len(seen))
	}
}

// TestVersion: a server refuses a plugin whose own version is not the registered one, so that a build which is no release tells
// people alone what it was made of.
func TestVersion(t *testing.T) {
	for name, test := range map[string]struct {
		build                   Build
		server, version, commit string
	}{
		"a release":          {Build{Version: "v1.2.3", Commit: "0123abc"}, "v1.2.3", "v1.2.3", "0123abc"},
		"a build of a tree":  {Build{Source: "v1.2.3-7-g0123abc", Commit: "0123abc-dirty"}, "", "v1.2.3-7-g0123abc", "0123abc-dirty"},
		"a build of nothing": {Build{}, "", "dev", "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(test.build, nil)
			if b.RunningVersion != test.server {
				t.Errorf("the server hears %q", b.RunningVersion)
			}
			info, err := b.HandleRequest(t.Context(), &logical.Request{
				Operation: logical.ReadOperation, Path: "info", Storage: &logical.InmemStorage{},
			})
			if err != nil || info.Data["version"] != test.version || info.Data["commit"] != test.commit {
				t.Errorf("info: %v, %v", info, err)
			}
			if said := fmt.Sprint(test.build); !strings.Contains(said, " "+test.version+" (commit "+test.commit+",") {
				t.Errorf("-version: %s", said)
			}
		})
	}
}

func checkFields(fields map[string]*framework.FieldSchema) error {
	for name, field := range fields {
		if field.Description == "" {
			return fmt.Errorf("field %s has no description", name)
		}
		if secretFields[name] && (field.DisplayAttrs == nil || !field.DisplayAttrs.Sensitive) {
			return fmt.Errorf("field %s is not marked sensitive", name)
		}
	}
	return nil
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
	for _, prefix := range []string{configPrefix, staticCredsPrefix} { // what holds a secret key
		if !slices.Contains(paths.SealWrapStorage, prefix) {
			t.Errorf("%s is not wrapped by the seal", prefix)
		}
	}
	for _, prefix := range []string{ledger.Prefix, instancePrefix, policyPrefix, reconcilePrefix, tidyPrefix} {
		if !slices.Contains(paths.LocalStorage, prefix) {
			t.Errorf("%s, which belongs to one cluster, is replicated", prefix)
		}
	}
	if len(paths.Unauthenticated) != 0 {
		t.Errorf("open to everybody: %v", paths.Unauthenticated)
	}
}
