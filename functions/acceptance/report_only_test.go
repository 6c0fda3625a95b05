// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"regexp"
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"
)

// TestADeploymentThatIsOnlyToReportCannotDelete logs in with the role and the policy that docs/functions.md shows for it, and then does
// what nobody should: its mode is raised.
func TestADeploymentThatIsOnlyToReportCannotDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	page := regexp.MustCompile(`(?s)vault policy write cloudkeys-report - <<'POLICY'\n(.*?)    POLICY`).FindStringSubmatch(mustRead(t,
		"../../docs/functions.md"))
	if page == nil {
		t.Fatal("the page has no policy cloudkeys-report")
	}
	w.write("sys/policies/acl/"+w.name, "policy="+strings.ReplaceAll(page[1], "outscale/", w.name+"/"))
	w.account.AddUser("functions-report", "api:ReadUsers", "api:ReadAccounts", "api:ReadAccessKeys", "api:ReadApiAccessPolicy")
	w.write(w.name+"/roles/functions-report-default", "account=default", "user_names=functions-report", "ttl=15m", "max_ttl=30m")
	w.withAppRole()
	w.env["VAULT_CREDS_ROLE"] = "functions-report-{account}"

	t.Run("it reports", func(t *testing.T) {
		answer := decode[run.SweepAnswer](t, w.start(revokeFunction, "MODE=report").invoke(`{}`))
		if len(answer.Accounts) != 1 || answer.Accounts[0].Planned != 2 || answer.Accounts[0].Problem != "" {
			t.Errorf("got %+v", answer)
		}
		synced := decode[run.PolicyAnswer](t, w.start(syncFunction, "MODE=report").invoke(`{}`))
		if len(synced.Accounts) != 1 || synced.Accounts[0].Problem != "" {
			t.Errorf("got %+v", synced)
		}
	})
	t.Run("armed, it changes nothing, and fails", func(t *testing.T) {
		w.start(revokeFunction, "MODE=enforce").mustFail(`{}`, "FailedError")
		w.start(syncFunction, "MODE=enforce").mustFail(`{}`, "FailedError")
		w.mustHave("leased", "orphan", "expired", "foreign")
	})
	t.Run("nor does it get a key of the function that may", func(t *testing.T) {
		w.start(revokeFunction, "MODE=enforce", "VAULT_CREDS_ROLE=functions-{account}").mustFail(`{}`, "FailedError", "403")
		w.mustHave("leased", "orphan", "expired", "foreign")
	})
}
