// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package kubernetes

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// reviewedLogin sets the Kubernetes auth method up as the page does for a server outside the cluster.
func (w *world) reviewedLogin() {
	w.t.Helper()
	w.page("docs/kubernetes.md", "run kubernetes policy")
	filled := make(chan error, 1)
	go func() { filled <- w.fillToken() }()
	w.page("docs/kubernetes.md", "run kubernetes reviewer")
	if err := <-filled; err != nil {
		w.t.Fatal(err)
	}
	w.page("docs/kubernetes.md", "run kubernetes role")
}

// controllersTake is played, and not waited for: commands that are pasted together are over by then, but for one that waits for the token.
const controllersTake = time.Second

// fillToken fills the Secret of the reviewer's token some time after it was made, as Kubernetes' controllers do, which do not run here.
func (w *world) fillToken() error {
	const secret = "/api/v1/namespaces/vault/secrets/reviewer"
	deadline, tick := time.After(startLimit), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for w.find(secret, nil) != nil {
		select {
		case <-tick.C:
		case <-deadline:
			return errors.New("the page has made no Secret for the reviewer's token")
		}
	}
	<-time.After(controllersTake)
	var token struct{ Status struct{ Token string } }
	err := w.send(http.MethodPost, "/api/v1/namespaces/vault/serviceaccounts/reviewer/token",
		`{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}`, &token)
	if err == nil {
		err = w.send(http.MethodPatch, secret, fmt.Sprintf(`{"stringData": {"token": %q}}`, token.Status.Token), nil)
	}
	return err
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

// login is the client of who has logged in with a token, or the error with which the server refuses it.
func (w *world) login(method, token string) (*api.Client, error) {
	w.t.Helper()
	client, err := w.server.Client.Clone()
	if err != nil {
		w.t.Fatal(err)
	}
	client.ClearToken()
	secret, err := client.Logical().WriteWithContext(w.t.Context(), "auth/"+method+"/login", map[string]any{"role": "deploy", "jwt": token})
	if err != nil {
		return nil, err
	}
	client.SetToken(secret.Auth.ClientToken)
	return client, nil
}

// mustLease expects that a token is taken, and that its holder may lease a key.
func (w *world) mustLease(method, token string) {
	w.t.Helper()
	client, err := w.login(method, token)
	if err == nil {
		_, err = client.Logical().ReadWithContext(w.t.Context(), "outscale/creds/deploy")
	}
	if err != nil {
		w.t.Errorf("by the method %s: %v", method, err)
	}
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
			w.mustLease(method, w.tokenOf("deploy", "vault"))
			if _, err := w.login(method, w.tokenOf("another", "vault")); err == nil {
				t.Error("another account of the namespace was let in")
			}
			if _, err := w.login(method, w.tokenOf("deploy", "https://another.example.com")); err == nil {
				t.Error("a token for somebody else was let in")
			}
		})
	}
	w.run("a token is refused where nobody may review it", func(t *testing.T) {
		w.kubectl("delete", "clusterrolebinding", "vault-reviewer")
		w.until(startLimit, "the review is refused", func() bool {
			_, err := w.login("kubernetes", w.tokenOf("deploy", "vault"))
			return err != nil && strings.Contains(err.Error(), "permission denied")
		})
		w.mustLease("jwt", w.tokenOf("deploy", "vault"))
	})
}
