// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package kubernetes

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// eso installs External Secrets, and applies the manifest as it stands, but for one number: quarter hours are too long for a test.
func (w *world) eso(refresh time.Duration) {
	w.t.Helper()
	w.installESO()
	manifest := w.readFile(filepath.Join(repository, examples+"external-secrets.yaml"))
	if strings.Count(manifest, "refreshInterval: 15m ") != 1 {
		w.t.Fatal("the manifest does not refresh each quarter of an hour")
	}
	w.kubectlWith(strings.Replace(manifest, "refreshInterval: 15m ", "refreshInterval: "+refresh.String()+" ", 1), "apply", "-f", "-")
	w.until(startLimit, "the Secret has a key", func() bool { return w.key() != "" })
}

func TestExternalSecretsLeasesAtEachRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.reviewedLogin()
	const refresh = 12 * time.Second
	w.role("outscale", (2 * refresh).String(), "1h")
	w.eso(refresh)
	held := w.secret("outscale")
	if len(held) != 3 || held["OSC_REGION"] != "eu-west-2" || held["OSC_SECRET_KEY"] == "" {
		t.Errorf("the Secret holds %d fields, its region is %q", len(held), held["OSC_REGION"])
	}
	// Two refreshes in a lease's life and one more, and at each perhaps a second key, which replaces the first at once.
	most, seen, before := 0, map[string]bool{}, held["OSC_ACCESS_KEY"]
	w.until(leaseLimit, "the key was replaced five times", func() bool {
		key := w.key()
		if seen[key] = true; !w.works(key) {
			t.Errorf("the Secret holds %s, which does not work", key)
		}
		if key != before && !w.works(before) {
			t.Errorf("%s was revoked when it was replaced; the page says that nothing is", before)
		}
		before = key
		most = max(most, len(w.keys()))
		return len(seen) > 5
	})
	leased := w.sim.CountCalls("CreateAccessKey")
	t.Logf("%d keys came into the Secret, %d were leased, and at most %d worked at once", len(seen), leased, most)
	if most < 2 || most > 6 {
		t.Errorf("%d keys were there at once; the page says six at most, and that nothing is revoked", most)
	}
	if leased > 2*len(seen) {
		t.Errorf("%d keys were leased for %d that came into the Secret; the page says twice as many at most", leased, len(seen))
	}
}

func TestExternalSecretsAsThePageWarns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.reviewedLogin()
	w.role("outscale", "10m", "1h")
	w.staticRole("0 0 1 1 *")
	w.installESO()

	w.run("a SecretStore reads a static role", func(t *testing.T) {
		w.kubectl("apply", "-f", examples+"external-secrets-static.yaml")
		w.until(startLimit, "the Secret has a key", func() bool { return w.secret("outscale-legacy") != nil })
		if held := w.secret("outscale-legacy"); len(held) != 2 || !w.works(held["OSC_ACCESS_KEY"]) {
			t.Errorf("the Secret holds %d fields, its key works: %v", len(held), w.works(held["OSC_ACCESS_KEY"]))
		}
	})
	w.run("a SecretStore that reads creds has a key which is revoked at once, and says that it is ready", func(t *testing.T) {
		w.kubectlWith(`{"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret",
			"metadata": {"name": "wrong", "namespace": "deploy"}, "spec": {
			"refreshInterval": "5m", "secretStoreRef": {"kind": "SecretStore", "name": "outscale"},
			"target": {"name": "wrong"}, "dataFrom": [{"extract": {"key": "creds/deploy"}}]}}`, "apply", "-f", "-")
		w.until(startLimit, "the Secret has a key", func() bool { return w.secret("wrong")["access_key"] != "" })
		w.until(startLimit, "its key is revoked", func() bool { return !w.works(w.secret("wrong")["access_key"]) })
		w.mustBeReady("wrong")
	})
	w.run("two entries of data are read from two keys", func(t *testing.T) {
		w.kubectlWith(`{"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret",
			"metadata": {"name": "halves", "namespace": "deploy"}, "spec": {
			"refreshInterval": "5m", "secretStoreRef": {"kind": "SecretStore", "name": "outscale"}, "target": {"name": "halves"}, "data": [
			{"secretKey": "one", "remoteRef": {"key": "creds/deploy", "property": "access_key"}},
			{"secretKey": "other", "remoteRef": {"key": "creds/deploy", "property": "access_key"}}]}}`, "apply", "-f", "-")
		w.until(startLimit, "the Secret is there", func() bool { return w.secret("halves") != nil })
		if held := w.secret("halves"); held["one"] == "" || held["other"] == "" || held["one"] == held["other"] {
			t.Errorf("it holds %s and %s", held["one"], held["other"])
		}
	})
	w.run("a lease ends with the token, which the operator does not renew", func(t *testing.T) {
		w.write("auth/kubernetes/role/deploy", map[string]any{"token_period": 0, "token_ttl": "5s"})
		w.kubectl("apply", "-f", examples+"external-secrets.yaml")
		w.until(startLimit, "the Secret has a key", func() bool { return w.key() != "" })
		key := w.key()
		w.until(leaseLimit, "the key is gone with the token", func() bool { return !w.works(key) })
		w.mustBeReady("outscale")
	})
}

// mustBeReady expects that a resource of the operator says of itself that all is well.
func (w *world) mustBeReady(name string) {
	w.t.Helper()
	var found object
	if err := w.find("/apis/external-secrets.io/v1/namespaces/deploy/externalsecrets/"+name, &found); err != nil {
		w.t.Fatal(err)
	}
	if len(found.Status.Conditions) != 1 || found.Status.Conditions[0].Type != "Ready" || found.Status.Conditions[0].Status != "True" {
		w.t.Errorf("%s says %v", name, found.Status.Conditions)
	}
}
