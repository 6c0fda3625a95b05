// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestASealedVaultEndsTheRun(t *testing.T) {
	t.Parallel()
	server, err := startVault(t.Context(), filepath.Join(t.TempDir(), "vault"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Kill(); err != nil {
			t.Error(err)
		}
	})
	w := newWorldOn(t, server)
	w.withAWS()
	function := w.start(revokeFunction, "MODE=enforce")
	before := w.keys()
	if err := server.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	function.mustFail(`{}`, "VaultSealedError", "sealed")
	w.mustBeUnchanged(before)
	t.Run("the same process works again when it is unsealed", func(t *testing.T) {
		if err := server.Unseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		function.invoke(`{}`)
		w.mustHave("leased", "foreign")
	})
}

func TestNobodyAnswersForVault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withAppRole()
	w.start(revokeFunction, "VAULT_ADDR=http://127.0.0.1:1").mustFail(`{}`, "VaultUnreachableError")
}

// TestWhatThePolicyLacks takes one path after the other out of the documented policy: each
// is needed, its lack is told, and nothing is changed for want of it.
func TestWhatThePolicyLacks(t *testing.T) {
	t.Parallel()
	for path, test := range map[string]struct{ function, errorType string }{
		"config":            {revokeFunction, "VaultDeniedError"},
		"config/*":          {revokeFunction, "VaultDeniedError"},
		"info":              {revokeFunction, "VaultDeniedError"},
		"keys":              {revokeFunction, "FailedError"},
		"keys/*":            {revokeFunction, "FailedError"},
		"creds/functions-*": {revokeFunction, "FailedError"},
		"policy/*":          {syncFunction, "VaultDeniedError"},
	} {
		t.Run(strings.TrimRight(path, "/*")+" "+test.errorType, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.writePolicy(path)
			w.withAppRole()
			before := w.keys()
			function := w.start(test.function, "MODE=enforce")
			function.mustFail(`{}`, test.errorType, "403")
			w.mustBeUnchanged(before)
			w.mustHaveGivenBack()
			w.mustHideSecrets(function.log.String())
		})
	}
}

func TestAnEngineWithoutAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withAppRole()
	w.start(revokeFunction, "VAULT_ENGINE=nowhere").mustFail(`{}`, "VaultDeniedError")
}

func TestSettingsThatDoNotFitAreRefusedBeforeAnyCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withAppRole()
	w.sim.ResetCalls()
	function := w.start(revokeFunction, "MODE=report", "MAX_AGE=1h", "MIN_AGE=2h")
	function.mustFail(`{}`, "SettingsRefusedError", "MAX_AGE")
	function.mustFail(`{"mod": "report"}`, "EventRefusedError", "mod")
	function.mustFail(`[]`, "EventRefusedError")
	w.start(revokeFunction, "MODE=report").mustFail(`{"mode": "enforce"}`, "SettingsRefusedError", "only MODE itself can raise it")
	calls := slices.DeleteFunc(w.sim.Calls(), func(call cloudsim.Call) bool { // what the engine reads at each of its ticks
		return call.AccessKey == w.account.RootKey().AccessKey && (call.Op == "ReadUsers" || call.Op == "ReadApiAccessPolicy")
	})
	if len(calls) > 0 {
		t.Errorf("the cloud was called: %v", calls)
	}
}

// TestASIGTERMEndsARunInOrder: Lambda sends it when it ends an environment, and kills half a
// second later.
func TestASIGTERMEndsARunInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withAWS()
	function := w.start(revokeFunction, "MODE=enforce")
	listed := make(chan struct{}, 1)
	w.sim.OnCall(func(call cloudsim.Call) {
		if call.Op == "ReadAccessKeys" && call.User == "functions" {
			select {
			case listed <- struct{}{}:
			default:
			}
		}
	})
	w.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", User: "functions", Kind: cloudsim.Delay, Delay: 30 * time.Second})
	answered := make(chan string, 1)
	go func() {
		text, err := function.tryInvoke(`{}`)
		if err != nil {
			text = err.Error()
		}
		answered <- text
	}()
	<-listed
	began := time.Now()
	function.terminate()
	text := <-answered
	if took := time.Since(began); took > 20*time.Second { // the call in flight alone takes 30
		t.Errorf("it took %s", took)
	}
	w.mustHave("leased", "orphan", "expired", "foreign")
	w.mustHaveGivenBack()
	w.mustHideSecrets(text, function.log.String())
}

// TestTimeRunsOut leaves a function so little time that the reserve takes nearly all.
func TestTimeRunsOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withAWS()
	w.withBucket()
	for i := range 40 {
		name := "user" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		w.account.AddUser(name)
		w.account.AddKey(cloudsim.KeySpec{User: name})
	}
	// The users take 20 seconds of the 16 that are left by the reserve, and the login and the first user as many as a busy machine needs.
	cancel := w.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Delay, Delay: 500 * time.Millisecond})
	function := w.start(revokeFunction, "AWS_LAMBDA_FUNCTION_TIMEOUT=26", "RESERVE=10s", "WORKERS=1")
	answer := decode[run.SweepAnswer](t, function.invoke(report))
	if len(answer.Accounts) != 1 || !answer.Accounts[0].Partial || answer.Resume["default"] == "" || len(answer.Reports) != 5 {
		t.Fatalf("got %+v", answer)
	}
	seen := answer.Accounts[0].Seen
	w.mustHaveGivenBack()
	// The keys of 40 users, four of app, and the function's own, which comes before the cursor.
	t.Run("the next run goes on where it ended", func(t *testing.T) {
		cancel()
		next := decode[run.SweepAnswer](t, function.invoke(report))
		if len(next.Accounts) != 1 || next.Accounts[0].Partial || next.Accounts[0].Seen+seen != 45 {
			t.Errorf("got %+v after %d keys", next, seen)
		}
	})
}
