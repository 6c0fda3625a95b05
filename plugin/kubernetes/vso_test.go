// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package kubernetes

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// leaseLimit is the longest that anything of a lease may take on a busy machine: the operator's back-off is a minute at most.
const leaseLimit = 2 * time.Minute

// The life of a lease of most tests: the operator renews after two thirds of it.
const (
	ttl    = 20 * time.Second
	maxTTL = time.Minute
)

// key is the access key that the Secret outscale holds; empty: none.
func (w *world) key() string { return w.secret("outscale")["OSC_ACCESS_KEY"] }

// vso applies the manifests of a leased key for Vault Secrets Operator, and waits for the Secret.
func (w *world) vso(login string) *operator {
	w.t.Helper()
	o := w.installVSO()
	w.kubectl("apply", "-f", examples+login, "-f", examples+"vault-secrets-operator.yaml")
	w.until(startLimit, "the Secret has a key", func() bool { return w.key() != "" })
	return o
}

func (w *world) staticRole(schedule string) {
	w.t.Helper()
	w.write("outscale/static-roles/legacy", map[string]any{"user_name": "legacy", "rotation_schedule": schedule})
}

func TestVaultSecretsOperatorKeepsALeasedKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.reviewedLogin()
	w.role("outscale", ttl.String(), maxTTL.String())
	w.staticRole("0 0 1 1 *")
	w.kubectl("-n", "deploy", "create", "deployment", "deploy", "--image=registry.example.com/deploy")
	w.vso("vso-login.yaml")
	first := w.key()
	began, created := time.Now(), w.mustKey(first).Expires

	w.run("the Secrets hold what the templates name, and nothing else", func(t *testing.T) {
		held := w.secret("outscale")
		if len(held) != 3 || held["OSC_REGION"] != "eu-west-2" || held["OSC_SECRET_KEY"] == "" || !w.works(first) {
			t.Errorf("the Secret holds %d fields, its region is %q, its key works: %v", len(held), held["OSC_REGION"], w.works(first))
		}
		w.until(leaseLimit, "the static role's Secret is there", func() bool { return w.secret("outscale-legacy") != nil })
		if held := w.secret("outscale-legacy"); len(held) != 2 || !w.works(held["OSC_ACCESS_KEY"]) {
			t.Errorf("the static role's Secret holds %d fields, its key works: %v", len(held), w.works(held["OSC_ACCESS_KEY"]))
		}
	})

	w.run("the lease is renewed past its first end, and so is the key's expiration date", func(t *testing.T) {
		w.until(leaseLimit, "the first lease is over", func() bool { return time.Since(began) > ttl })
		if w.key() != first || !w.works(first) {
			t.Errorf("the Secret holds %s, which works: %v; it held %s", w.key(), w.works(w.key()), first)
		}
		if now := w.mustKey(first).Expires; !now.After(created) {
			t.Errorf("the key expired at %s, and expires at %s", created, now)
		}
	})

	w.run("another key comes at the longest life of a lease, and nobody sees one that does not work", func(t *testing.T) {
		most, started := 0, w.restartedAt("deploy")
		w.until(leaseLimit, "the Secret has another key", func() bool {
			key := w.key()
			if !w.works(key) {
				t.Errorf("the Secret holds %s, which does not work", key)
			}
			most = max(most, len(w.keys()))
			return key != first
		})
		if !w.works(first) {
			t.Error("the key before was gone when the other came: what still uses it had no time to be started again")
		}
		w.until(startLimit, "the Deployment is started again", func() bool { return w.restartedAt("deploy") > started })
		w.until(leaseLimit, "the key before is deleted", func() bool { return !w.works(first) })
		if most != 2 {
			t.Errorf("%d keys of one resource were there at once, the page says 2", most)
		}
	})

	w.run("a key that somebody deletes is replaced, and kubectl describe says why", func(t *testing.T) {
		second := w.key()
		if _, err := w.server.Client.Logical().DeleteWithContext(t.Context(), "outscale/keys/"+second); err != nil {
			t.Fatal(err)
		}
		w.until(leaseLimit, "the Secret has another key, which works", func() bool { key := w.key(); return key != second && w.works(key) })
		described := w.kubectl("-n", "deploy", "describe", "vaultdynamicsecret.secrets.hashicorp.com", "outscale")
		_, event, _ := strings.Cut(described, "\nEvents:")
		why := "access key " + second + " no longer exists in the cloud: revoke this lease and ask for a new one"
		if !strings.Contains(event, why+" (UpdateAccessKey: not found (HTTP 400, code 4000, InvalidParameterValue) [request id ") {
			t.Errorf("the events do not say whole what the engine says: %s", described)
		}
	})

	w.run("the lease is revoked with the resource", func(t *testing.T) {
		w.mustRevoke(func() { w.kubectl("-n", "deploy", "delete", "vaultdynamicsecret.secrets.hashicorp.com", "outscale") })
		w.collect("outscale")
	})

	w.run("the lease is revoked with the file", func(t *testing.T) {
		w.kubectl("apply", "-f", examples+"vault-secrets-operator.yaml")
		w.until(leaseLimit, "the Secret has a key", func() bool { return w.key() != "" })
		w.mustRevoke(func() { w.kubectl("delete", "-f", examples+"vault-secrets-operator.yaml") })
	})
}

// restartedAt is when the operator has last asked for new pods of a Deployment, which nobody makes here.
func (w *world) restartedAt(name string) string {
	var found struct {
		Spec struct {
			Template struct {
				Metadata struct {
					Annotations map[string]string `json:"annotations"`
				} `json:"metadata"`
			} `json:"template"`
		} `json:"spec"`
	}
	if err := w.find("/apis/apps/v1/namespaces/deploy/deployments/"+name, &found); err != nil {
		w.t.Fatal(err)
	}
	return found.Spec.Template.Metadata.Annotations["vso.secrets.hashicorp.com/restartedAt"]
}

// mustRevoke expects that the operator revokes the lease of the resource outscale when something is deleted.
func (w *world) mustRevoke(remove func()) {
	w.t.Helper()
	var found object
	if err := w.find("/apis/secrets.hashicorp.com/v1beta1/namespaces/deploy/vaultdynamicsecrets/outscale", &found); err != nil {
		w.t.Fatal(err)
	}
	remove()
	w.until(leaseLimit, "no key works", func() bool { return len(w.keys()) == 0 })
	w.until(startLimit, "the operator says that it has revoked the lease, which otherwise has ended by itself", func() bool {
		return slices.Contains(w.events("SecretLeaseRevoke"), "Lease revoked: "+found.Status.SecretLease.ID)
	})
}

// collect deletes a Secret whose owner is gone, as Kubernetes' garbage collector does.
func (w *world) collect(name string) {
	w.t.Helper()
	w.kubectl("-n", "deploy", "delete", "secret", name)
}

func TestVaultSecretsOperatorFollowsARotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.jwtLogin()
	w.role("outscale", "10m", "1h")
	w.installVSO()
	// The next full minute that leaves the operator time to begin.
	due := time.Now().UTC().Add(90 * time.Second).Truncate(time.Minute)
	w.staticRole(fmt.Sprintf("%d %d * * *", due.Minute(), due.Hour()))
	w.kubectl("apply", "-f", examples+"vso-login-jwt.yaml", "-f", examples+"vault-secrets-operator.yaml")
	key := func() string { return w.secret("outscale-legacy")["OSC_ACCESS_KEY"] }
	w.until(startLimit, "the Secret has the static role's key", func() bool { return key() != "" && w.unhealthy("outscale-legacy") == "" })
	before := key()
	if time.Now().After(due) {
		t.Fatal("the machine is too busy: the rotation was due before the operator was there")
	}
	w.until(leaseLimit, "the Secret has the next key", func() bool {
		if key := key(); !w.works(key) {
			t.Errorf("the Secret holds %s, which does not work", key)
		}
		if unhealthy := w.unhealthy("outscale-legacy"); unhealthy != "" {
			t.Errorf("the operator is not healthy: %s", unhealthy)
		}
		return key() != before
	})
	if late := time.Since(due); late > 15*time.Second {
		t.Errorf("the key of a rotation came into the Secret after %s", late)
	}
	if errors := w.events("SecretSyncError"); len(errors) != 0 {
		t.Errorf("the operator could not read the role: %q", errors)
	}
	w.run("a key that is rotated by hand comes into the Secret when somebody deletes that", func(t *testing.T) {
		before := key()
		w.page("docs/kubernetes.md", "run kubernetes rotate")
		w.until(leaseLimit, "the Secret has the next key", func() bool { return key() != "" && key() != before })
		if !w.works(key()) {
			t.Errorf("the Secret holds %s, which does not work", key())
		}
	})
}

// unhealthy is what a resource of the operator says where it is not ready or not healthy.
func (w *world) unhealthy(name string) string {
	w.t.Helper()
	var found object
	if err := w.find("/apis/secrets.hashicorp.com/v1beta1/namespaces/deploy/vaultdynamicsecrets/"+name, &found); err != nil {
		w.t.Fatal(err)
	}
	said := map[string]string{}
	for _, condition := range found.Status.Conditions {
		said[condition.Type] = strings.TrimSpace(condition.Status + " " + condition.Message)
	}
	for _, kind := range []string{"Ready", "Healthy"} {
		if !strings.HasPrefix(said[kind], "True") {
			return kind + " is " + said[kind]
		}
	}
	return ""
}
