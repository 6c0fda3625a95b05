// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package kubernetes

import (
	"encoding/base64"
	"strings"
	"testing"
)

// reviewedLogin sets the Kubernetes auth method up as the page does for a server outside the cluster.
func (w *world) reviewedLogin() {
	w.t.Helper()
	w.page("docs/kubernetes.md", "run kubernetes policy")
	// Kubernetes' controllers fill the Secret of a service account's token, and none runs here: the test does.
	w.kubectl("apply", "-f", examples+"reviewer.yaml")
	token := strings.TrimSpace(w.kubectl("-n", "vault", "create", "token", "reviewer"))
	w.kubectl("-n", "vault", "patch", "secret", "reviewer", "-p", `{"data":{"token":"`+base64.StdEncoding.EncodeToString([]byte(token))+`"}}`)
	w.page("docs/kubernetes.md", "run kubernetes reviewer")
	w.page("docs/kubernetes.md", "run kubernetes role")
}

// jwtLogin sets the jwt auth method up as the page does.
func (w *world) jwtLogin() {
	w.t.Helper()
	w.page("docs/kubernetes.md", "run kubernetes policy")
	w.page("docs/kubernetes.md", "run kubernetes jwt")
}

// token is one of a service account's, for an audience.
func (w *world) tokenOf(account, audience string) string {
	w.t.Helper()
	return strings.TrimSpace(w.kubectl("-n", "deploy", "create", "token", account, "--audience="+audience))
}

// login is the error with which the server refuses a token; nil: it takes it, and lets its holder lease.
func (w *world) login(method, token string) error {
	w.t.Helper()
	client, err := w.server.Client.Clone()
	if err != nil {
		w.t.Fatal(err)
	}
	client.ClearToken()
	secret, err := client.Logical().WriteWithContext(w.t.Context(), "auth/"+method+"/login", map[string]any{"role": "deploy", "jwt": token})
	if err != nil {
		return err
	}
	client.SetToken(secret.Auth.ClientToken)
	_, err = client.Logical().ReadWithContext(w.t.Context(), "outscale/creds/deploy")
	return err
}

func TestAServiceAccountLogsIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.role("outscale", "1m", "1h")
	w.reviewedLogin()
	w.page("docs/kubernetes.md", "run kubernetes jwt")
	w.kubectl("-n", "deploy", "create", "serviceaccount", "another")
	for method, how := range map[string]string{"kubernetes": "with a review of its token", "jwt": "with its token's signature alone"} {
		w.run(how, func(t *testing.T) {
			if err := w.login(method, w.tokenOf("deploy", "vault")); err != nil {
				t.Errorf("the account of the page: %v", err)
			}
			if w.login(method, w.tokenOf("another", "vault")) == nil {
				t.Error("another account of the namespace was let in")
			}
			if w.login(method, w.tokenOf("deploy", "https://another.example.com")) == nil {
				t.Error("a token for somebody else was let in")
			}
		})
	}
	w.run("a token is refused where nobody may review it", func(t *testing.T) {
		w.kubectl("delete", "clusterrolebinding", "vault-reviewer")
		w.until(startLimit, "the review is refused", func() bool { return w.login("kubernetes", w.tokenOf("deploy", "vault")) != nil })
		if err := w.login("jwt", w.tokenOf("deploy", "vault")); err != nil {
			t.Errorf("the method that reviews nothing: %v", err)
		}
	})
}
