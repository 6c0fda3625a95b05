// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

const (
	accountID   = "123456789012"
	cloudRegion = "eu-west-2"
)

// world is a mount of the engine on a cloud of its own, with the logins of the functions.
type world struct {
	t       testing.TB
	server  *devserver.Server
	name    string
	sim     *cloudsim.Cloud
	account *cloudsim.Account
	leased  string // a key that Vault has leased out
	orphan  string // ours by its label, and in no ledger
	expired string // ours, and expired
	foreign string // made by a person long ago
	env     map[string]string

	certificate string   // of the command's own, where the account demands one
	forged      []string // keys whose owner has labelled them
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, vaultServer)
}

func newWorldOn(t testing.TB, server *devserver.Server) *world {
	t.Helper()
	sim := cloudsim.New(cloudsim.WithRegion(cloudRegion))
	w := &world{t: t, server: server, sim: sim, account: sim.AddAccount(accountID), name: worldName(t)}
	w.account.AddUser("app", "api:ReadVms")
	w.account.AddUser("functions", "api:ReadUsers", "api:ReadAccounts", "api:ReadAccessKeys", "api:UpdateAccessKey", "api:DeleteAccessKey",
		"api:ReadApiAccessPolicy", "api:UpdateApiAccessPolicy")
	if err := devserver.Mount(t.Context(), server.Client, w.name, pluginName, api.MountConfigInput{}); err != nil {
		t.Fatal(err)
	}
	root := w.account.RootKey()
	w.write(w.name+"/config/default", "provider=outscale", "region="+cloudRegion, "endpoint="+sim.Start(t), "max_requests_per_second=500",
		"access_key="+root.AccessKey, "secret_key="+root.SecretKey)
	w.write(w.name+"/roles/app", "user_names=app", "ttl=1h", "max_ttl=8h")
	w.write(w.name+"/roles/functions-default", "user_names=functions", "ttl=15m", "max_ttl=30m")
	w.addKeys()
	w.env = map[string]string{
		"VAULT_ADDR": server.Addr(), "VAULT_MAX_RETRIES": "0", "VAULT_ENGINE": w.name,
		"MAX_PERCENT": "100", "QUARANTINE": "0s",
	}
	w.writePolicy("")
	return w
}

// worldName is the test's name, as far as mounts, buckets and roles can have it.
func worldName(t testing.TB) string {
	t.Helper()
	name := strings.ToLower(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, t.Name()))
	return "w" + name[max(0, len(name)-50):]
}

// addKeys makes one key of each kind that matters.
func (w *world) addKeys() {
	w.t.Helper()
	w.leased = w.read(w.name + "/creds/app")["access_key"].(string)
	instance := w.read(w.name + "/info")["instance_id"].(string)
	label := func() string { return keylabel.New(instance, keylabel.KindLease).String() }
	now := time.Now()
	w.orphan = w.account.AddKey(cloudsim.KeySpec{
		User: "app", Tag: label(), Created: now.Add(-3 * time.Hour),
		Expires: now.Add(48 * time.Hour),
	}).AccessKey
	w.expired = w.account.AddKey(cloudsim.KeySpec{
		User: "app", Tag: label(), Created: now.Add(-9 * time.Hour),
		Expires: now.Add(-5 * time.Hour),
	}).AccessKey
	w.foreign = w.account.AddKey(cloudsim.KeySpec{User: "app", Created: now.AddDate(0, 0, -400)}).AccessKey
}

// writePolicy writes what docs/examples/policies tells an operator to write, but for one path,
// and what a sync needs besides that tunes the mount.
func (w *world) writePolicy(without string) {
	w.t.Helper()
	text, err := os.ReadFile("../../docs/examples/policies/vault-functions.hcl")
	if err != nil {
		w.t.Fatal(err)
	}
	policy := fmt.Sprintf("path %q { capabilities = [\"update\"] }\n", "sys/mounts/"+w.name+"/tune")
	for line := range strings.Lines(string(text)) {
		if without == "" || !strings.HasPrefix(line, fmt.Sprintf("path %q", "outscale/"+without)) {
			policy += strings.ReplaceAll(line, "outscale/", w.name+"/")
		}
	}
	w.write("sys/policies/acl/"+w.name, "policy="+policy)
}

// withAWS lets the function log in as Lambda functions do, with an IAM role of its own.
func (w *world) withAWS() {
	w.t.Helper()
	arn := aws.role(w.t, w.name)
	w.write("auth/aws/role/"+w.name, "auth_type=iam", "bound_iam_principal_arn="+arn, "resolve_aws_unique_ids=true",
		"token_policies="+w.name, "token_no_default_policy=true", "token_ttl=15m", "token_max_ttl=15m")
	maps.Copy(w.env, aws.assume(w.t, arn))
	maps.Copy(w.env, map[string]string{"VAULT_AUTH_METHOD": "aws", "VAULT_AUTH_ROLE": w.name, "VAULT_IAM_SERVER_ID": serverID})
}

// withAppRole lets it log in with AppRole.
func (w *world) withAppRole() {
	w.t.Helper()
	w.write("auth/approle/role/"+w.name, "token_policies="+w.name, "token_no_default_policy=true", "token_ttl=15m", "secret_id_num_uses=0")
	roleID := w.read("auth/approle/role/" + w.name + "/role-id")["role_id"].(string)
	secret := w.write("auth/approle/role/"+w.name+"/secret-id", "ttl=10m").Data["secret_id"].(string)
	maps.Copy(w.env, map[string]string{"VAULT_AUTH_METHOD": "approle", "VAULT_ROLE_ID": roleID, "VAULT_SECRET_ID": secret})
}

// withBucket gives the function a bucket for its reports.
func (w *world) withBucket() {
	w.t.Helper()
	aws.bucket(w.t, w.name)
	w.env["REPORT_BUCKET"], w.env["AWS_ENDPOINT_URL_S3"] = w.name, aws.url
}

// start runs a function in the world, with more settings.
func (w *world) start(function string, settings ...string) *lambda {
	w.t.Helper()
	env := maps.Clone(w.env)
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		env[name] = value
	}
	return startLambda(w.t, function, env)
}

func (w *world) write(path string, fields ...string) *api.Secret {
	w.t.Helper()
	data := map[string]any{}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, "=")
		data[name] = value
	}
	secret, err := w.server.Client.Logical().WriteWithContext(w.t.Context(), path, data)
	if err != nil {
		w.t.Fatal(err)
	}
	return secret
}

func (w *world) read(path string) map[string]any {
	w.t.Helper()
	secret, err := w.server.Client.Logical().ReadWithContext(w.t.Context(), path)
	if err != nil || secret == nil {
		w.t.Fatalf("read %s: %v, %v", path, secret, err)
	}
	return secret.Data
}

// keys are the cloud's, as they are now.
func (w *world) keys() map[string]cloudsim.Key {
	keys := map[string]cloudsim.Key{}
	for _, key := range w.account.Keys() {
		keys[key.ID] = key
	}
	return keys
}

// mustHave compares which keys of the world are left.
func (w *world) mustHave(names ...string) {
	w.t.Helper()
	keys := w.keys()
	var left []string
	for name, id := range map[string]string{"leased": w.leased, "orphan": w.orphan, "expired": w.expired, "foreign": w.foreign} {
		if _, there := keys[id]; there {
			left = append(left, name)
		}
	}
	slices.Sort(left)
	slices.Sort(names)
	if !slices.Equal(left, names) {
		w.t.Errorf("the cloud has %v, want %v", left, names)
	}
}

// mustBeUnchanged tells that no call has changed a key or the policy, but for the
// function's own key, which Vault makes and removes.
func (w *world) mustBeUnchanged(before map[string]cloudsim.Key) {
	w.t.Helper()
	now := w.keys()
	maps.DeleteFunc(now, func(_ string, key cloudsim.Key) bool { return key.User == "functions" })
	if !maps.Equal(now, before) {
		w.t.Errorf("the cloud has\n%v\nand had\n%v", now, before)
	}
	if w.sim.CountCalls("UpdateApiAccessPolicy") > 0 {
		w.t.Error("the policy was written")
	}
}

// mustHaveGivenBack tells that no token of the function is left, and no key of its. Vault
// revokes a token's leases after it has answered.
func (w *world) mustHaveGivenBack() {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(time.Minute); w.hasOwnKey(); {
		select {
		case <-tick.C:
		case <-limit:
			w.t.Fatal("the function's own key is still there")
		}
	}
	list, err := w.server.Client.Logical().ListWithContext(w.t.Context(), "auth/token/accessors")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, accessor := range list.Data["keys"].([]any) {
		secret, err := w.server.Client.Auth().Token().LookupAccessorWithContext(w.t.Context(), accessor.(string))
		if err != nil {
			continue // it has ended meanwhile
		}
		policies, err := secret.TokenPolicies()
		if err != nil {
			w.t.Fatal(err)
		}
		if slices.Contains(policies, w.name) {
			w.t.Errorf("a token of the function is alive: %v", secret.Data)
		}
	}
}

func (w *world) hasOwnKey() bool {
	if slices.ContainsFunc(w.account.Keys(), func(key cloudsim.Key) bool { return key.User == "functions" }) {
		return true
	}
	domain := w.sim.Domain("acme")
	return domain != nil && slices.ContainsFunc(domain.Keys(), func(key cloudsim.IAMKey) bool { return key.User == "functions" })
}

// mustHideSecrets searches everything that the function wrote and answered.
func (w *world) mustHideSecrets(texts ...string) {
	w.t.Helper()
	secrets := w.sim.Secrets()
	for _, name := range []string{"VAULT_SECRET_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		if w.env[name] != "" {
			secrets = append(secrets, w.env[name])
		}
	}
	for _, text := range texts {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				w.t.Error("a secret shows")
			}
		}
		for _, id := range []string{w.leased, w.orphan, w.expired, w.foreign} {
			if strings.Contains(text, id) {
				w.t.Errorf("the whole id of an access key shows in %s", text)
			}
		}
		if strings.Contains(text, "hvs.") || strings.Contains(text, "hvb.") {
			w.t.Error("a token of Vault shows")
		}
	}
}

// decode reads an answer.
func decode[T any](t testing.TB, text string) T {
	t.Helper()
	var answer T
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return answer
}

// encode writes an event.
func encode(t testing.TB, event any) string {
	t.Helper()
	text, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func mustRead(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
