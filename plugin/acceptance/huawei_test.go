// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

// huaweiMount is the engine mounted on an account of Huawei Cloud.
type huaweiMount struct {
	*mount
	domain *cloudsim.Domain
}

// huaweiLease is what a client gets.
type huaweiLease struct {
	m         *huaweiMount
	ID        string
	Duration  time.Duration
	Renewable bool
	Warnings  []string
	Data      map[string]any
}

// newHuaweiMount mounts the engine with a key of the IAM user "vault"; "app" and "app-2" are
// users whose keys can be leased.
func newHuaweiMount(t *testing.T, options ...cloudsim.Option) *huaweiMount {
	t.Helper()
	sim := cloudsim.New(options...)
	domain := sim.AddDomain("acme")
	domain.AddUser("app")
	domain.AddUser("app-2")
	domain.AddUser("vault", cloudsim.SecurityAdministrator, cloudsim.AgentOperator)
	m := &huaweiMount{domain: domain, mount: &mount{
		t: t, server: shared, sim: sim, root: domain.AddKey(cloudsim.IAMKeySpec{User: "vault"}), url: sim.StartHuawei(t),
		path: "huawei-" + strings.ToLower(strings.Map(letters, t.Name())),
	}}
	if err := devserver.Mount(t.Context(), shared.Client, m.path, pluginName, api.MountConfigInput{}); err != nil {
		t.Fatal(err)
	}
	m.write("config/default", "provider=huawei", "endpoint="+m.url, "max_requests_per_second=500", "max_ttl=24h",
		"access_key="+m.root.AccessKey, "secret_key="+m.root.SecretKey)
	return m
}

func (m *huaweiMount) tryCreds(role string, fields ...string) (*huaweiLease, error) {
	query := url.Values{}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, "=")
		query.Set(name, value)
	}
	secret, err := m.server.Client.Logical().ReadWithDataWithContext(m.t.Context(), m.path+"/creds/"+role, query)
	if err != nil {
		return nil, err
	}
	return &huaweiLease{
		m: m, ID: secret.LeaseID, Duration: time.Duration(secret.LeaseDuration) * time.Second,
		Renewable: secret.Renewable, Warnings: secret.Warnings, Data: secret.Data,
	}, nil
}

func (m *huaweiMount) creds(role string, fields ...string) *huaweiLease {
	m.t.Helper()
	l, err := m.tryCreds(role, fields...)
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}

func (l *huaweiLease) text(field string) string {
	text, _ := l.Data[field].(string)
	return text
}

func (l *huaweiLease) revoke() error {
	return l.m.server.Client.Sys().RevokeWithOptions(revokeNow(l.ID))
}

// mustRevoke revokes a lease; a key that was made seconds ago may need Vault's next attempt.
func (l *huaweiLease) mustRevoke() {
	l.m.t.Helper()
	if err := l.revoke(); err != nil {
		l.m.t.Fatal(err)
	}
}

// client signs with the leased key, as an application does.
func (l *huaweiLease) client() clouds.Client {
	l.m.t.Helper()
	client, err := clouds.Open(provider.Config{
		Provider: clouds.Huawei, AccessKey: l.text("access_key"), SecretKey: provider.Secret(l.text("secret_key")),
		SecurityToken: provider.Secret(l.text("security_token")),
		Region:        "ap-southeast-1", Endpoint: l.m.url, DomainID: l.m.domain.ID(), Timeout: 15 * time.Second, PerSecond: 500,
	})
	if err != nil {
		l.m.t.Fatal(err)
	}
	l.m.t.Cleanup(client.Close)
	return client
}

// call is one that every user may make of its own key.
func (l *huaweiLease) call() error {
	_, err := l.client().OwnKey(l.m.t.Context())
	return err
}

// due is the date that stands on the key in the cloud.
func (l *huaweiLease) due() time.Time {
	l.m.t.Helper()
	key, there := l.m.domain.Key(l.text("access_key"))
	if !there {
		l.m.t.Fatalf("access key %s is not in the cloud", l.text("access_key"))
	}
	_, date, _ := strings.Cut(key.Description, "/until/")
	due, err := time.Parse(time.RFC3339, date)
	if err != nil {
		l.m.t.Fatalf("the key's description %q holds no expiration date: %v", key.Description, err)
	}
	return due
}

// mustHaveKeys expects so many keys in the cloud, beside the owner's and the engine's own.
func (m *huaweiMount) mustHaveKeys(want int) {
	m.t.Helper()
	if got := len(m.domain.Keys()) - 2; got != want {
		m.t.Errorf("%d keys, want %d", got, want)
	}
}

func TestHuaweiAccessKey(t *testing.T) {
	m := newHuaweiMount(t)
	m.write("roles/app", "user_names=app,app-2", "ttl=15m", "max_ttl=2h")
	l := m.creds("app")

	t.Run("the leased key signs a real request", func(t *testing.T) {
		if err := l.call(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("its date follows the lease, and moves with it", func(t *testing.T) {
		before := l.due()
		if after := time.Now().Add(l.Duration); before.Before(after) || before.After(after.Add(time.Minute+2*time.Second)) {
			t.Errorf("a lease of %s and a date of %s", l.Duration, before)
		}
		secret, err := m.server.Client.Sys().Renew(l.ID, 3600)
		if err != nil || secret.LeaseDuration != 3600 {
			t.Fatalf("renewed: %+v, %v", secret, err)
		}
		if !l.due().After(before) {
			t.Errorf("still %s", before)
		}
	})
	t.Run("it is in the ledger", func(t *testing.T) {
		if entry := m.read("keys/" + l.text("access_key")); entry["user_name"] != l.text("user_name") || entry["role"] != "app" {
			t.Errorf("%v", entry)
		}
	})
	t.Run("a full pool is HTTP 400 with the counts", func(t *testing.T) {
		for range 3 {
			m.creds("app")
		}
		_, err := m.tryCreds("app")
		m.mustRefuse(err, "2 of 2 issued by this mount, 0 others", `"app"`, `"app-2"`)
	})
	t.Run("a revocation deletes it, and the cloud refuses its calls", func(t *testing.T) {
		l.mustRevoke()
		m.mustHaveKeys(3)
		if err := l.call(); err == nil {
			t.Error("the key still works")
		}
	})
	t.Run("a key that somebody deleted is revoked", func(t *testing.T) {
		gone := m.creds("app")
		m.domain.DeleteKey(gone.text("access_key"))
		until(t, time.Minute, "the revocation of a key that is gone is a success", func() bool { return gone.revoke() == nil })
	})
}

func TestHuaweiLeaseEndsByItself(t *testing.T) {
	m := newHuaweiMount(t)
	m.write("roles/app", "user_names=app")
	m.creds("app", "ttl=10s") // the machine may be busy: it must live while it is looked at
	m.mustHaveKeys(1)
	until(t, time.Minute, "Vault has revoked the lease at its end", func() bool { return len(m.domain.Keys()) == 2 })
}

func TestHuaweiUser(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]cloudsim.HuaweiRules{
		"at once":                              {},
		"unknown to the cloud for ten seconds": {UserDelay: 10 * time.Second, KeyDelay: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newHuaweiMount(t, cloudsim.WithHuaweiRules(rules))
			m.domain.AddGroup("readers", "ecs:*")
			m.write("roles/job", "credential_type=iam_user", "groups=readers", "ttl=10m")
			l := m.creds("job")
			user, there := m.domain.User(l.text("user_name"))
			if !there || user.AccessMode != "programmatic" || fmt.Sprint(user.Groups) != "[readers]" {
				t.Fatalf("got %+v", user)
			}
			until(t, 30*time.Second, "the key works", func() bool { return l.call() == nil })
			until(t, 2*time.Minute, "the lease is revoked", func() bool { return l.revoke() == nil })
			if _, there := m.domain.User(l.text("user_name")); there {
				t.Error("the user is still there")
			}
			m.mustHaveKeys(0)
		})
	}
}

func TestHuaweiSession(t *testing.T) {
	m := newHuaweiMount(t)
	m.domain.AddAgency("deployers", m.domain, cloudsim.SecurityAdministrator)
	m.write("roles/job", "credential_type=session_token", "agency_name=deployers", "ttl=20m")
	l := m.creds("job")

	t.Run("its lease ends with it, and cannot be renewed", func(t *testing.T) {
		expires, err := time.Parse(time.RFC3339, l.text("expiration"))
		if err != nil {
			t.Fatal(err)
		}
		if end := time.Now().Add(l.Duration); l.Renewable || end.After(expires.Add(time.Second)) || end.Before(expires.Add(-10*time.Second)) {
			t.Errorf("a lease of %s for a session until %s, renewable: %v", l.Duration, expires, l.Renewable)
		}
		if !strings.Contains(strings.Join(l.Warnings, " "), "cannot take this session back") {
			t.Errorf("%v", l.Warnings)
		}
	})
	t.Run("it signs with its token, before and after the revocation", func(t *testing.T) {
		for range 2 {
			for _, err := range l.client().ListUsers(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
			}
			l.mustRevoke()
		}
	})
	t.Run("a shorter one than the cloud gives is refused", func(t *testing.T) {
		_, err := m.tryCreds("job", "ttl=5m")
		m.mustRefuse(err, "15m0s at least")
	})
}

func TestHuaweiStaticRole(t *testing.T) {
	m := newHuaweiMount(t)
	m.write("static-roles/db", "user_name=app", "rotation_period=24h")
	first := m.read("static-creds/db")
	for range 3 {
		m.write("rotate-role/db")
		m.mustHaveKeys(2)
	}
	if second := m.read("static-creds/db"); second["access_key"] == first["access_key"] || second["expiration"] != "" {
		t.Errorf("not rotated, or with a date that ends nothing: %v", second["expiration"])
	}
	m.domain.AddKey(cloudsim.IAMKeySpec{User: "app-2"})
	m.write("static-roles/other", "user_name=app-2", "rotation_period=24h")
	_, err := m.tryWrite("rotate-role/other")
	m.mustRefuse(err, "1 of 2 issued by this mount, 1 others")
}

func TestHuaweiRotateRoot(t *testing.T) {
	t.Parallel()
	m := newHuaweiMount(t, cloudsim.WithHuaweiRules(cloudsim.HuaweiRules{ActivationDelay: 3 * time.Second}))
	m.write("roles/app", "user_names=app", "ttl=10m")
	foreign := m.domain.AddKey(cloudsim.IAMKeySpec{User: "vault"}).AccessKey

	_, err := m.tryWrite("rotate-root/default")
	m.mustRefuse(err, "cannot be rotated", "0 of 2 issued by this mount, 2 others", foreign)
	if findings := fmt.Sprint(m.read("check/default")["findings"]); !strings.Contains(findings, foreign) ||
		!strings.Contains(findings, "engine key cannot be rotated") {
		t.Errorf("check says %s", findings)
	}

	m.domain.DeleteKey(foreign)
	answer := m.write("rotate-root/default")
	if answer.Data["previous_access_key"] != m.root.AccessKey || m.domain.Locked(answer.Data["access_key"].(string)) {
		t.Errorf("%v", answer.Data)
	}
	_, err = m.tryWrite("rotate-root/default")
	m.mustRefuse(err, "cannot be rotated yet", m.root.AccessKey)
	m.creds("app").revokeSoon()
}

// revokeSoon revokes once the cloud is sure of the key.
func (l *huaweiLease) revokeSoon() {
	l.m.t.Helper()
	until(l.m.t, time.Minute, "the lease is revoked", func() bool { return l.revoke() == nil })
}

// TestHuaweiFaults loses answers and throttles. No answer and no log line may hold a secret.
func TestHuaweiFaults(t *testing.T) {
	t.Parallel()
	m := newHuaweiMount(t)
	m.domain.AddAgency("deployers", m.domain, "ecs:*")
	m.write("roles/app", "user_names=app", "ttl=10m")
	m.write("roles/job", "credential_type=iam_user", "ttl=10m")
	m.write("roles/session", "credential_type=session_token", "agency_name=deployers")

	var answers []string
	try := func(role string) error {
		_, err := m.tryCreds(role)
		if err != nil {
			answers = append(answers, err.Error())
		}
		return err
	}
	const create = "CreatePermanentAccessKey"
	for name, fault := range map[string]cloudsim.Fault{
		"a lost answer":      {Op: create, Kind: cloudsim.DropAnswer, Times: 1},
		"an empty answer":    {Op: create, Kind: cloudsim.EmptyAnswer, Times: 1},
		"a truncated answer": {Op: create, Kind: cloudsim.RubbishAnswer, Times: 1},
		"a 500 after all":    {Op: create, Kind: cloudsim.RefuseAfter, Times: 1},
	} {
		t.Run(name+", once, costs a second key at most", func(t *testing.T) {
			defer m.sim.Order(fault)()
			l := m.creds("app")
			m.mustHaveKeys(1)
			if err := l.call(); err != nil {
				t.Error(err)
			}
			l.revokeSoon()
			m.mustHaveKeys(0)
		})
	}
	t.Run("creates that are always truncated are an error, and leave nothing", func(t *testing.T) {
		for _, op := range []string{create, "CreateUser", "CreateTemporaryAccessKeyByAgency"} {
			cancel := m.sim.Order(cloudsim.Fault{Op: op, Kind: cloudsim.RubbishAnswer})
			for _, role := range []string{"app", "job", "session"} {
				err := try(role)
				leases := op == create && role == "session" || op == "CreateUser" && role != "job" || op == "CreateTemporaryAccessKeyByAgency" &&
					role != "session"
				if (err == nil) != leases {
					t.Errorf("%s from role %s: %v", op, role, err)
				}
			}
			cancel()
		}
		if err := m.server.Client.Sys().RevokePrefix(m.path); err != nil {
			t.Fatal(err)
		}
		until(t, 5*time.Minute, "nothing is left in the cloud", func() bool { return len(m.domain.Keys()) == 2 && len(m.domain.Users()) == 3 })
	})
	t.Run("a cloud that throttles is waited for", func(t *testing.T) {
		defer m.sim.Order(cloudsim.Fault{Kind: cloudsim.Throttle, Rate: 2})()
		for range 3 {
			m.creds("app").revokeSoon()
		}
	})

	logs, err := m.server.Logs()
	if err != nil {
		t.Fatal(err)
	}
	if len(answers) < 3 || !strings.Contains(logs, m.path) {
		t.Fatal("answers or log prove nothing")
	}
	text := logs + strings.Join(answers, "\n")
	for _, secret := range m.sim.Secrets() {
		if strings.Contains(text, secret) || strings.Contains(text, secret[:min(20, len(secret))]) {
			t.Error("a secret shows in an answer or in the server's log")
		}
	}
}
