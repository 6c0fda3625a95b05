// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestAFunctionAmongThoseWhoDoNotMeanWell starts the armed function as somebody does who may invoke it and decide nothing, who has
// mistyped a setting, or whose cloud misbehaves. What it does not do, it says by the type of its error.
func TestAFunctionAmongThoseWhoDoNotMeanWell(t *testing.T) {
	t.Parallel()
	all := []string{"leased", "orphan", "expired", "foreign"}
	kept := []string{"leased", "foreign"}
	for name, test := range map[string]struct {
		settings  string // between blanks
		before    func(w *world)
		event     string
		errorType string // empty: none
		says      string
		left      []string
		nights    int // 0: one
	}{
		"a bare event, where a person is asked": {settings: "APPROVAL=true RUN_MAX_KEYS=1", event: `{}`, says: `"mode":"report"`, left: all},
		"a step that nobody has decided on": {
			settings: "APPROVAL=true", event: `{"phase": "apply", "run_id": "r", "accounts": ["default"], "plans": ["x"]}`,
			errorType: "NotApprovedError", says: "decided on no changes", left: all,
		},
		"a message of a queue": {
			event:     `{"Records": [{"messageId": "a", "eventSource": "aws:sqs", "body": "{}"}]}`,
			errorType: "EventRefusedError", says: "aws:sqs", left: all,
		},
		"a message of a topic": {
			event: `{"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "{}"}}]}`, errorType: "EventRefusedError", says: "aws:sns", left: all,
		},
		"news of a bucket": {
			event: `{"Records": [{"eventSource": "aws:s3", "s3": {}}]}`, errorType: "EventRefusedError", says: "aws:s3", left: all,
		},
		"a stream's record": {
			event: `{"Records": [{"eventSource": "aws:kinesis", "kinesis": {}}]}`, errorType: "EventRefusedError", says: "aws:kinesis", left: all,
		},
		"nothing": {event: `null`, errorType: "EventRefusedError", says: "null", left: all},
		"the same account twice": {
			event: `{"accounts": ["default", "default"]}`, errorType: "SettingsRefusedError", says: "twice", left: all,
		},
		"a way out of Vault's path": {
			event: `{"accounts": ["../config/default"]}`, errorType: "SettingsRefusedError", says: "no name of an account", left: all,
		},
		"patterns of another language": {
			settings: "KEEP_USERS=^app$;db-*", event: `{}`, errorType: "SettingsRefusedError", says: "KEEP_USERS", left: all,
		},
		"a mount that is none": {
			settings: "VAULT_ENGINE=outscael", event: `{}`, errorType: "VaultDeniedError", says: "VAULT_ENGINE", left: all,
		},
		"an auth method that is not there": {
			settings: "VAULT_AUTH_MOUNT=nowhere", event: `{}`, errorType: "VaultDeniedError", says: "VAULT_AUTH_MOUNT", left: all,
		},
		"a cloud whose pages do not end": {
			before: func(w *world) {
				w.sim.Order(cloudsim.Fault{
					Op: "ReadUsers", User: "functions", Kind: cloudsim.RubbishAnswer,
					Body: `{"Users": [{"UserName": "app", "UserId": "A", "Path": "/"}],` +
						`"HasMoreItems": true, "NextPageToken": "next", "ResponseContext": {"RequestId": "r"}}`,
				})
			}, event: `{}`, errorType: "FailedError", says: "page", left: all,
		},
		"a user who was renamed, with a lease": {
			before: func(w *world) { w.account.RenameUser("app", "app-2") }, event: `{}`, says: `"deleted":2`, left: kept,
		},
		"two of five keys, and a cap of a quarter": {settings: "MAX_PERCENT=25", event: `{}`, says: `"deleted":2`, left: kept},
		"labels that an owner has forged": {
			settings: "FOREIGN=enforce", event: `{}`, left: []string{"leased"}, nights: 3, // one user's plan is halved each night
			before: func(w *world) {
				w.write(w.name+"/roles/app", "user_names=app", "ttl=1h", "max_ttl=8h")
				for _, tag := range []string{
					keylabel.New(w.read(w.name + "/info")["instance_id"].(string), keylabel.KindRoot).String(), "vault-keep-until=9999-01-01",
					"vault-keep-until=x",
				} {
					w.forged = append(w.forged, w.account.AddKey(cloudsim.KeySpec{
						User: "app", Tag: tag, Created: time.Now().AddDate(-3, 0, 0),
						Expires: time.Now().AddDate(1, 0, 0),
					}).AccessKey)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.withAppRole()
			w.withBucket()
			w.env["AWS_REGION"], w.env["AWS_ACCESS_KEY_ID"], w.env["AWS_SECRET_ACCESS_KEY"] = awsRegion, "test", "test"
			if test.before != nil {
				test.before(w)
			}
			function := w.start(revokeFunction, append(strings.Fields(test.settings), "MODE=enforce")...)
			if test.errorType != "" {
				function.mustFail(test.event, test.errorType, test.says)
			} else if text := function.invoke(test.event); !strings.Contains(text, test.says) {
				t.Errorf("got %s, want %q in it", text, test.says)
			}
			for range test.nights {
				function.invoke(test.event)
			}
			if strings.Contains(function.log.String(), "wrapError") {
				t.Error("an error has the type of Go's library")
			}
			w.mustHave(test.left...)
			keys := w.keys()
			for _, id := range w.forged {
				if _, there := keys[id]; there {
					t.Errorf("a forged label keeps the key %s", keys[id].Tag)
				}
			}
			w.mustHaveGivenBack()
		})
	}
}

// TestOwnersAreToldFirst by a webhook; one that does not take the message keeps the key.
func TestOwnersAreToldFirst(t *testing.T) {
	t.Parallel()
	for status, outcome := range map[int]string{
		http.StatusAccepted:  `"outcome":"notified"`,
		http.StatusForbidden: `"outcome":"not notified"`,
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.withAppRole()
			var sent atomic.Value
			hook := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				sent.Store(string(body))
				answer.WriteHeader(status)
			}))
			t.Cleanup(hook.Close)
			dir := t.TempDir()
			mustExit(t, exitDone, w.env, "revoke-expired-keys", "-mode", "enforce", "-quarantine", "7d", "-notify", hook.URL, "-dir", dir)
			w.mustHave("leased", "orphan", "foreign") // the expired one cannot sign: nobody need be told
			if state := w.keys()[w.orphan].State; state != cloudsim.Active {
				t.Errorf("the orphan is %s", state)
			}
			message, _ := sent.Load().(string)
			if !strings.Contains(message, `"user":"app"`) || strings.Contains(message, w.orphan) {
				t.Errorf("its owner got %q", message)
			}
			pages, err := filepath.Glob(filepath.Join(dir, "reports", "*", "default.json"))
			if err != nil || len(pages) != 1 || !strings.Contains(mustRead(t, pages[0]), outcome) {
				t.Errorf("%v (%v) does not say %s", pages, err, outcome)
			}
		})
	}
}

// TestThePolicyIsNeverWrittenBelowItsFloor, which is a day where nobody says otherwise, whatever Vault needs.
func TestThePolicyIsNeverWrittenBelowItsFloor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withAppRole()
	w.account.DeleteKey(w.foreign)
	w.account.DeleteKey(w.orphan)
	w.account.DeleteKey(w.account.RootKey().AccessKey)
	root := w.account.AddKey(cloudsim.KeySpec{Expires: time.Now().Add(2 * time.Hour)})
	w.write(w.name+"/config/default", "access_key="+root.AccessKey, "secret_key="+root.SecretKey)
	w.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 8_640_000})
	w.start(syncFunction, "MODE=enforce").invoke(`{}`)
	if got := w.account.Policy().MaxAccessKeyExpirationSeconds; got != 86_400 {
		t.Errorf("the policy is %d s", got)
	}
}

// TestAReportWithoutVault needs nothing but a cloud's own variables, and no wanted policy.
func TestAReportWithoutVault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.account.RootKey()
	dir := t.TempDir()
	stdout, _ := mustExit(t, exitDone, map[string]string{
		"OSC_ACCESS_KEY": key.AccessKey, "OSC_SECRET_KEY": key.SecretKey, "OSC_REGION": cloudRegion,
		"OSC_ENDPOINT_API": w.read(w.name + "/config/default")["endpoint"].(string),
	}, "report", "-dir", dir)
	if !strings.Contains(stdout, "environment: policy 0 s") || !strings.Contains(stdout, "nothing is compared") {
		t.Errorf("it says %s", stdout)
	}
	w.mustHave("leased", "orphan", "expired", "foreign")
}
