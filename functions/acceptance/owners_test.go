// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestTheEngineKeyOfAnotherAccountIsNeverTouched: two accounts of the mount are of one cloud account, and the engine key of the second
// is one that an operator made long ago. No ledger has it, and no label: to a run of the first account alone it looks like anybody's.
func TestTheEngineKeyOfAnotherAccountIsNeverTouched(t *testing.T) {
	t.Parallel()
	for name, sweeps := range map[string]func(w *world){
		"by an event that names one account": func(w *world) {
			w.start(revokeFunction, "MODE=enforce", "FOREIGN=enforce").invoke(`{"accounts": ["default"]}`)
		},
		"by a state machine's steps": func(w *world) {
			function := w.start(revokeFunction, "MODE=enforce", "FOREIGN=enforce", "RUN_MAX_PERCENT=100")
			for _, event := range []string{
				`{"phase": "list", "run_id": "r"}`, `{"phase": "plan", "run_id": "r", "accounts": ["default"], "resume": {"default": ""}}`,
				`{"phase": "plan", "run_id": "r", "accounts": ["second"], "resume": {"second": ""}}`, `{"phase": "decide", "run_id": "r"}`,
			} {
				function.invoke(event)
			}
			for _, order := range decode[[]map[string]any](w.t, aws.object(w.t, "s3://"+w.name+"/runs/r/changes.json")) {
				order["run_id"] = "r"
				function.invoke(encode(w.t, order))
			}
		},
		"by the command": func(w *world) {
			mustExit(w.t, exitDone, w.env, "revoke-expired-keys", "-mode", "enforce", "-foreign", "enforce", "-run-max-percent", "100", "-dir",
				w.t.TempDir())
		},
		"by the command, for one account": func(w *world) {
			mustExit(w.t, exitDone, w.env, "revoke-expired-keys", "-mode", "enforce", "-foreign", "enforce", "-accounts", "default", "-dir",
				w.t.TempDir())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.withAppRole()
			w.withBucket()
			w.env["AWS_REGION"], w.env["AWS_ACCESS_KEY_ID"], w.env["AWS_SECRET_ACCESS_KEY"] = awsRegion, "test", "test"
			w.account.AddUser("engine", "api:*")
			key := w.account.AddKey(cloudsim.KeySpec{User: "engine", Created: time.Now().AddDate(0, 0, -400)})
			w.write(w.name+"/config/second", "provider=outscale", "region="+cloudRegion,
				"endpoint="+w.read(w.name + "/config/default")["endpoint"].(string),
				"access_key="+key.AccessKey, "secret_key="+key.SecretKey)
			w.write(w.name+"/roles/functions-second", "account=second", "user_names=functions", "ttl=15m", "max_ttl=30m")
			sweeps(w)
			if got := w.keys()[key.AccessKey]; got.State != cloudsim.Active {
				t.Errorf("the engine key of the second account is %q", got.State)
			}
			w.mustHave("leased") // the old key of nobody's is gone, so that the run has changed what it may
		})
	}
}
