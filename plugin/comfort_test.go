// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/vault/sdk/logical"
)

// TestAnswersReadAsTables holds every answer to what the command line prints well: it shows a nested value as map[...], and an
// absent one as <nil>.
func TestAnswersReadAsTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newTestVault(t)
		v.account.AddUser("legacy")
		v.configure("ttl=15m")
		v.write("static-roles/x", "user_name=legacy", "rotation_period=1h")
		l := v.lease("app")
		for op, paths := range map[logical.Operation][]string{
			logical.ReadOperation: {
				"config/default", "roles/app", "creds/app", "policy/default", "check/default", "static-roles/x", "static-creds/x",
				"keys/" + l.AccessKey(),
				"tidy-status", "info",
			},
			logical.UpdateOperation: {
				"policy/default", "tidy", "config/default", "roles/app", "static-roles/x", "rotate-role/x",
				"rotate-root/default",
			},
			logical.PatchOperation: {"config/default", "roles/app", "static-roles/x"},
		} {
			for _, path := range paths {
				resp, err := v.try(op, path)
				v.mustSucceed(string(op)+" "+path, resp, err)
				if resp == nil || len(resp.Data) == 0 {
					t.Errorf("%s %s tells nothing of what it has decided", op, path)
					continue
				}
				for field, value := range resp.Data {
					if !flat(value) {
						t.Errorf("%s %s: %s is %#v, which no table shows", op, path, field, value)
					}
				}
			}
		}
	})
}

// flat tells values that fit into a cell: plain ones, and lists of them.
func flat(value any) bool {
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.Slice:
		if v.IsNil() {
			return false
		}
		for i := range v.Len() {
			if kind := v.Index(i).Kind(); kind != reflect.String && kind != reflect.Int64 {
				return false
			}
		}
		return true
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64:
		return true
	default:
		return false
	}
}

func TestDurationsAreTakenInWordsAndShownInSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newTestVault(t)
		v.account.AddUser("legacy")
		v.configure("ttl=15m", "max_ttl=2h")
		v.write("config/default", "expiry_grace=2m", "request_timeout=20s", "rotation_period=30d", "ttl=1h", "max_ttl=1d")
		v.write("static-roles/x", "user_name=legacy", "rotation_period=1h", "rotation_grace_period=5m")
		for path, want := range map[string]map[string]int64{
			"config/default": {"expiry_grace": 120, "request_timeout": 20, "rotation_period": 30 * 86400, "ttl": 3600, "max_ttl": 86400},
			"roles/app":      {"ttl": 900, "max_ttl": 7200},
			"static-roles/x": {"rotation_period": 3600, "rotation_grace_period": 300},
		} {
			for field, seconds := range want {
				if got := v.read(path)[field]; got != seconds {
					t.Errorf("%s of %s is %v, want %d", field, path, got, seconds)
				}
			}
		}
	})
}
