// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"strings"
	"testing"
)

const report = `{"mode": "report"}`

func TestLoginWithAppRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withAppRole()
	function := w.start(revokeFunction, "MODE=enforce")
	text := function.invoke(`{}`)
	w.mustHave("leased", "foreign")
	w.mustHaveGivenBack()
	w.mustHideSecrets(text, function.log.String())
	t.Run("a warm function logs in anew for each event", func(t *testing.T) {
		if text := function.invoke(report); !strings.Contains(text, `"planned":0`) {
			t.Errorf("got %s", text)
		}
		w.mustHaveGivenBack()
	})
}

// TestLoginWithTheExecutionRole tells which logins Vault's AWS auth method refuses. That it
// accepts the right one, every event has shown.
func TestLoginWithTheExecutionRole(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(*world)
		want   string // type of the error; empty: none
	}{
		"the right role": {func(*world) {}, ""},
		"another server's id": {
			func(w *world) { w.env["VAULT_IAM_SERVER_ID"] = "vault.elsewhere.test" }, "VaultFailedError",
		},
		"no server's id":                                {func(w *world) { w.env["VAULT_IAM_SERVER_ID"] = "" }, "VaultFailedError"},
		"another function's role":                       {func(w *world) { w.otherRole() }, "VaultFailedError"},
		"a role that was deleted and made anew by name": {func(w *world) { w.sameNameAgain() }, "VaultFailedError"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.withAWS()
			test.change(w)
			function := w.start(revokeFunction, "MODE=enforce")
			if test.want == "" {
				function.invoke(report)
				function.message("sweep done")
			} else {
				before := w.keys()
				function.mustFail(`{}`, test.want, "auth/aws/login")
				w.mustBeUnchanged(before)
			}
			w.mustHaveGivenBack()
			w.mustHideSecrets(function.log.String())
		})
	}
}

// otherRole has the function run with another IAM role than the one that is bound.
func (w *world) otherRole() {
	w.t.Helper()
	for name, value := range aws.assume(w.t, aws.role(w.t, w.name+"-other")) {
		w.env[name] = value
	}
}

// sameNameAgain has somebody take the role's name, who is not the role.
func (w *world) sameNameAgain() {
	w.t.Helper()
	aws.deleteRole(w.t, w.name)
	for name, value := range aws.assume(w.t, aws.role(w.t, w.name)) {
		w.env[name] = value
	}
}

func TestATokenIsForLocalRunsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["VAULT_AUTH_METHOD"], w.env["VAULT_TOKEN"] = "token", w.server.Token()
	t.Run("Lambda refuses it", func(t *testing.T) {
		function := w.start(revokeFunction)
		function.mustFail(report, "SettingsRefusedError", "local runs only")
	})
	t.Run("sam local takes it, and only reports", func(t *testing.T) {
		before := w.keys()
		function := w.start(revokeFunction, "MODE=enforce", "AWS_SAM_LOCAL=true")
		if text := function.invoke(`{}`); !strings.Contains(text, `"mode":"report"`) || !strings.Contains(text, "ALLOW_LOCAL_ENFORCE") {
			t.Errorf("got %s", text)
		}
		w.mustBeUnchanged(before)
	})
	t.Run("the operator's token lives on, and the key that it leased does not", func(t *testing.T) {
		w.read("auth/token/lookup-self")
		w.mustHaveGivenBack()
	})
	t.Run("sam local enforces where it is told so twice", func(t *testing.T) {
		w.start(revokeFunction, "MODE=enforce", "AWS_SAM_LOCAL=true", "ALLOW_LOCAL_ENFORCE=true").invoke(`{}`)
		w.mustHave("leased", "foreign")
	})
}

func TestWithoutVaultTheKeyComesFromTheEnvironment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.account.RootKey()
	function := w.start(revokeFunction, "VAULT_ADDR=", "OSC_ACCESS_KEY="+key.AccessKey, "OSC_SECRET_KEY="+key.SecretKey,
		"OSC_REGION="+cloudRegion, "OSC_ENDPOINT_API="+w.read(w.name + "/config/default")["endpoint"].(string), "MODE=enforce")
	text := function.invoke(`{}`)
	// Without a ledger nothing is called an orphan, and without an instance nothing is ours.
	w.mustHave("leased", "orphan", "expired", "foreign")
	if !strings.Contains(text, `"account":"environment"`) {
		t.Errorf("got %s", text)
	}
	w.mustHideSecrets(text, function.log.String())
}
