// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package kubernetes

import (
	"context"
	"strings"
	"testing"
	"time"
)

// huaweiKey is the access key that the Secret huawei holds; empty: none.
func (w *world) huaweiKey() string { return w.secret("huawei")["HUAWEICLOUD_SDK_AK"] }

func TestVaultSecretsOperatorAndAUserOfTwoKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.reviewedLogin()
	w.role("huawei", ttl.String(), "5m")
	o := w.installVSO("--client-cache-persistence-model=direct-encrypted")
	w.page("docs/kubernetes.md", "run kubernetes cache")
	w.page("docs/kubernetes.md", "run kubernetes cache role")
	w.kubectl("apply", "-f", examples+"vso-login.yaml", "-f", examples+"vault-secrets-operator-huawei.yaml")
	w.until(startLimit, "the Secret has a key", func() bool { return w.huaweiKey() != "" })
	w.until(startLimit, "the operator's token is kept", func() bool { return w.cached() })

	w.run("three restarts keep the key, the lease and a free slot", func(t *testing.T) {
		for range 3 {
			before := w.huaweiKey()
			renewed := w.renewals("huawei")
			o.restart()
			w.until(leaseLimit, "the operator has renewed the lease again", func() bool { return w.renewals("huawei") > renewed })
			if now := w.huaweiKey(); now != before || !w.works(now) {
				t.Errorf("the Secret holds %s, which works: %v; before it held %s", now, w.works(now), before)
			}
			if keys := w.keys(); len(keys) != 1 {
				t.Errorf("keys of the user: %v", keys)
			}
		}
	})

	w.run("after a server that was sealed in between the Secret has a key that works, and one key is left", func(t *testing.T) {
		sealed := time.Now()
		if err := w.server.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.until(leaseLimit, "the operator has met the sealed server", func() bool {
			return strings.Contains(strings.Join(w.events("SecretLeaseRenewalError", "SecretSyncError", "VaultClientConfigError"), "\n"), "sealed")
		})
		w.until(leaseLimit, "the lease is over", func() bool { return time.Since(sealed) > ttl })
		if err := w.server.Unseal(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
		renewed := w.renewals("huawei")
		w.until(leaseLimit, "the Secret has a key which is renewed", func() bool {
			return w.works(w.huaweiKey()) && w.renewals("huawei") > renewed
		})
		w.until(leaseLimit, "one key is left", func() bool { return len(w.keys()) == 1 })
	})
}

// cached reports whether the operator has stored its token.
func (w *world) cached() bool {
	var list object
	if err := w.find("/api/v1/namespaces/vault-secrets-operator/secrets", &list); err != nil {
		w.t.Fatal(err)
	}
	for _, secret := range list.Items {
		if strings.HasPrefix(secret.Metadata.Name, "vso-cc-") {
			return true
		}
	}
	return false
}

// renewals are how often the operator has renewed a lease or leased another, by what its resource says.
func (w *world) renewals(name string) int64 {
	w.t.Helper()
	var found struct {
		Status struct {
			LastRenewalTime int64 `json:"lastRenewalTime"`
		} `json:"status"`
	}
	if err := w.find("/apis/secrets.hashicorp.com/v1beta1/namespaces/deploy/vaultdynamicsecrets/"+name, &found); err != nil {
		w.t.Fatal(err)
	}
	return found.Status.LastRenewalTime
}

func TestVaultSecretsOperatorWithoutItsCache(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.jwtLogin()
	w.role("outscale", "10m", "1h")
	w.staticRole("0 0 1 1 *")
	o := w.vso("vso-login-jwt.yaml")

	w.run("each restart leases another key, and the key before lives on", func(t *testing.T) {
		for restarts := 1; restarts <= 2; restarts++ {
			before := w.key()
			o.restart()
			w.until(leaseLimit, "the Secret has another key", func() bool { return w.key() != before })
			if keys := w.keys(); len(keys) != restarts+1 || !w.works(before) || !w.works(w.key()) {
				t.Errorf("after %d restarts the user's keys are %v", restarts, keys)
			}
		}
	})
}

func TestASecretThatExistsAlready(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.reviewedLogin()
	w.role("outscale", "10m", "1h")
	w.staticRole("0 0 1 1 *")
	w.kubectl("-n", "deploy", "create", "secret", "generic", "outscale", "--from-literal=OSC_ACCESS_KEY=of-somebody")
	w.installVSO()
	w.kubectl("apply", "-f", examples+"vso-login.yaml", "-f", examples+"vault-secrets-operator.yaml")

	w.run("it is left alone, and each try of the operator leases a key", func(t *testing.T) {
		w.until(leaseLimit, "the operator has tried twice", func() bool { return len(w.keys()) >= 2 })
		if w.key() != "of-somebody" {
			t.Errorf("the Secret holds %s", w.key())
		}
		if said := strings.Join(w.events("SecretSyncError"), "\n"); !strings.Contains(said, "not the owner of the destination Secret") {
			t.Errorf("the operator says %q", said)
		}
	})
	w.run("overwrite takes it over", func(t *testing.T) {
		w.kubectl("-n", "deploy", "patch", "vaultdynamicsecret.secrets.hashicorp.com", "outscale", "--type=merge",
			"-p", `{"spec":{"destination":{"overwrite":true}}}`)
		w.until(leaseLimit, "the Secret has a leased key", func() bool { return w.works(w.key()) })
		if held := w.secret("outscale"); len(held) != 3 {
			t.Errorf("the Secret holds %d fields", len(held))
		}
	})
	w.run("what was leased in vain is revoked by its owner", func(t *testing.T) {
		w.kubectl("delete", "-f", examples+"vault-secrets-operator.yaml")
		w.shell("vault lease revoke -sync -prefix outscale/creds/deploy")
		w.until(30*time.Second, "no key is left", func() bool { return len(w.keys()) == 0 })
	})
}
