// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

// newServer starts a server for one test, which may kill it.
func newServer(t *testing.T) *devserver.Server {
	t.Helper()
	return newServerAt(t, logLevel)
}

// newServerAt starts one that logs less: what ten thousand leases log at trace level takes
// longer to write than all else.
func newServerAt(t *testing.T, level string) *devserver.Server {
	t.Helper()
	server, err := startServer(t.Context(), t.TempDir(), level)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return server
}

// beside mounts the engine a second time, on the same cloud account and perhaps
// another server.
func (m *mount) beside(server *devserver.Server, suffix string) *mount {
	m.t.Helper()
	other := *m
	other.server, other.path = server, m.path+"-"+suffix
	if err := devserver.Mount(m.t.Context(), server.Client, other.path, pluginName, api.MountConfigInput{}); err != nil {
		m.t.Fatal(err)
	}
	return &other
}

// instance is the id in the labels of the mount's keys.
func (m *mount) instance() string {
	m.t.Helper()
	return m.read("info")["instance_id"].(string)
}

// ownKeys are the keys in the cloud that carry the label of one instance, dead or alive.
func (m *mount) ownKeys(instance string) []string {
	var own []string
	for _, key := range m.account.Keys() {
		label, err := keylabel.Parse(key.Tag)
		if err == nil && label.Instance == instance {
			own = append(own, key.ID)
		}
	}
	return own
}

// ledger lists the keys that the mount knows of.
func (m *mount) ledger() ([]string, error) { return m.list(m.path + "/keys") }

// leaseIDs lists the leases that Vault knows of the mount's role.
func (m *mount) leaseIDs() ([]string, error) { return m.leaseIDsOf("app") }

func (m *mount) leaseIDsOf(role string) ([]string, error) {
	prefix := m.path + "/creds/" + role + "/"
	ids, err := m.list("sys/leases/lookup/" + prefix)
	for i, id := range ids {
		ids[i] = prefix + id
	}
	return ids, err
}

func (m *mount) list(path string) ([]string, error) {
	return names(m.server.Client.Logical().ListWithContext(m.t.Context(), path))
}

// names are those in the answer to a list, which is nil where there are none.
func names(secret *api.Secret, err error) ([]string, error) {
	if err != nil || secret == nil || secret.Data["keys"] == nil {
		return nil, err
	}
	var names []string
	for _, name := range secret.Data["keys"].([]any) {
		names = append(names, name.(string))
	}
	return names, nil
}

// irrevocable is how many leases Vault has given up on.
func (m *mount) irrevocable() int64 {
	m.t.Helper()
	count, err := m.server.Client.Logical().ReadWithDataWithContext(m.t.Context(), "sys/leases/count", url.Values{"type": {"irrevocable"}})
	if err != nil {
		m.t.Fatal(err)
	}
	return number(m.t, count.Data["lease_count"])
}

// mustHold is the invariant, once all is settled: the mount's keys are those of the given
// leases, all of which work, and ledger and Vault know them and nothing else.
func (m *mount) mustHold(leases []*lease) {
	m.t.Helper()
	var keys, ids []string
	for _, l := range leases {
		keys, ids = append(keys, l.AccessKey), append(ids, l.ID)
		if err := l.call(); err != nil {
			m.t.Errorf("the key of %s does not work: %v", l.ID, err)
		}
	}
	own := m.ownKeys(m.instance())
	orphans := slices.DeleteFunc(slices.Clone(own), func(id string) bool { return slices.Contains(keys, id) })
	figure(m.t, figureOrphans, len(orphans))
	if !sameElements(own, keys) {
		m.t.Errorf("keys in the cloud %v, leased %v", own, keys)
	}
	if ledger, err := m.ledger(); err != nil || !sameElements(ledger, keys) {
		m.t.Errorf("the ledger holds %v, leased %v (%v)", ledger, keys, err)
	}
	if known, err := m.leaseIDs(); err != nil || !sameElements(known, ids) {
		m.t.Errorf("Vault knows %v, leased %v (%v)", known, ids, err)
	}
	n := m.irrevocable()
	figure(m.t, figureIrrevocable, int(n))
	if n != 0 {
		m.t.Errorf("%d leases are irrevocable", n)
	}
}

func sameElements(x, y []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y)))
}

// logged counts a text in the server's log.
func (m *mount) logged(text string) int {
	m.t.Helper()
	log, err := m.server.Logs()
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Count(log, text)
}

// mustHideSecrets searches the server's log, at trace level, for both halves of every
// secret that the simulated cloud ever made, and so whatever else it is given, such as what
// clients were said.
func (m *mount) mustHideSecrets(said ...string) {
	m.t.Helper()
	mustHideSecretsOf(m.t, []*devserver.Server{m.server}, m)
	figure(m.t, figureSecrets, secretsIn(m.sim.Secrets(), said...))
	if secretsIn(m.sim.Secrets(), said...) > 0 {
		m.t.Error("a secret key shows in what clients were said")
	}
}

// mustHideSecretsOf does so for several mounts, and for the servers that they were on.
func mustHideSecretsOf(t *testing.T, servers []*devserver.Server, mounts ...*mount) {
	t.Helper()
	var secrets []string
	for _, m := range mounts {
		secrets = append(secrets, m.sim.Secrets()...)
	}
	named, leaked := false, 0
	for _, server := range servers {
		log, err := server.Logs()
		if err != nil {
			t.Fatal(err)
		}
		named = named || strings.Contains(log, mounts[0].path)
		leaked += secretsIn(secrets, log)
	}
	figure(t, figureSecrets, leaked)
	if leaked > 0 {
		t.Fatal("a secret key shows in the server's log")
	}
	if !named {
		t.Fatal("the log does not even name the mount: it proves nothing")
	}
}

// secretsIn counts the places in which half a secret stands. There are thousands of
// secrets, so each text is gone through once.
func secretsIn(secrets []string, texts ...string) (leaked int) {
	halves := map[string]bool{}
	for _, secret := range secrets {
		half := len(secret) / 2
		if half < 8 {
			halves[secret] = true // half a short password is half of many words
			continue
		}
		halves[secret[:half]], halves[secret[half:2*half]] = true, true
	}
	lengths := map[int]bool{}
	for half := range halves {
		lengths[len(half)] = true
	}
	for _, text := range texts {
		for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return !inSecrets(r) }) {
			for half := range lengths {
				for i := range max(0, len(word)-half+1) {
					if halves[word[i:i+half]] {
						leaked++
					}
				}
			}
		}
	}
	return leaked
}

// inSecrets tells the letters of both clouds' secret keys.
func inSecrets(r rune) bool {
	return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("+/=_-", r)
}

func TestAccountOfLiveLeasesIsKept(t *testing.T) {
	m := newMount(t)
	m.configure("ttl=10m")
	l := m.lease("")
	const otherID = "210987654321"
	root := m.sim.AddAccount(otherID).RootKey()
	other := []string{"access_key=" + root.AccessKey, "secret_key=" + root.SecretKey}
	remove := func() error {
		_, err := m.server.Client.Logical().DeleteWithContext(t.Context(), m.path+"/config/default")
		return err
	}

	t.Run("it cannot be pointed at another cloud account", func(t *testing.T) {
		_, err := m.tryWrite("config/default", other...)
		m.mustRefuse(err, `account "default" is in use (1 `, otherID, accountID, "Revoke its leases and delete its static roles first")
	})
	t.Run("nor blindly at a key that nobody has tried", func(t *testing.T) {
		_, err := m.tryWrite("config/default", append(other, "verify=false")...)
		m.mustRefuse(err, `account "default" is in use`, "leave out verify=false")
	})
	t.Run("nor be deleted", func(t *testing.T) {
		m.mustRefuse(remove(), `account "default" is in use`, "cannot be revoked")
	})
	t.Run("so that its leases work on and can be revoked", func(t *testing.T) {
		m.mustHold([]*lease{l})
		l.revoke()
		m.mustHold(nil)
	})
	t.Run("after which it can be both", func(t *testing.T) {
		m.write("config/default", other...)
		if err := remove(); err != nil {
			t.Error(err)
		}
	})
	m.mustHideSecrets()
}

// TestOwnKeyDead deletes the engine's own key in the cloud. The cloud then answers as if
// nothing existed, and locks the account's API after four tries.
func TestOwnKeyDead(t *testing.T) {
	m := newMount(t)
	m.configure("ttl=10m")
	var leases []*lease
	for range 8 {
		leases = append(leases, m.lease(""))
	}
	// The default pace: who raises it, has more calls under way when a key dies.
	m.write("config/default", "max_requests_per_second=5")
	m.account.DeleteKey(m.root.AccessKey)
	// As far away as a cloud is: many calls leave before the first is answered.
	defer m.sim.Order(cloudsim.Fault{Kind: cloudsim.Delay, Delay: 50 * time.Millisecond})()

	t.Run("no revocation reports success", func(t *testing.T) {
		var revocations sync.WaitGroup
		for _, l := range leases {
			revocations.Go(func() {
				if err := m.server.Client.Sys().RevokeWithOptions(revokeNow(l.ID)); err == nil {
					t.Errorf("the revocation of %s succeeded", l.ID)
				}
			})
		}
		revocations.Wait()
	})
	t.Run("no lease is issued, and the reason says what to do", func(t *testing.T) {
		_, err := m.tryLease("")
		m.mustRefuse(err, "config/default")
	})
	t.Run("no lockout follows", func(t *testing.T) {
		if m.account.Locked() {
			t.Error("the account's API is locked")
		}
	})
	t.Run("the keys are still there, and known", func(t *testing.T) {
		m.mustHold(leases)
	})
	t.Run("with a good key every revocation succeeds", func(t *testing.T) {
		m.root = m.account.AddKey(cloudsim.KeySpec{})
		m.write("config/default", m.accountFields()...)
		for _, l := range leases {
			l.revoke()
		}
		m.mustHold(nil)
	})
	m.mustHideSecrets()
}

func TestUnreadablePolicyIsUnknown(t *testing.T) {
	m := newMount(t)
	m.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 3600})
	m.account.AddUser("engine", "api:CreateAccessKey", "api:ReadAccessKeys", "api:UpdateAccessKey", "api:DeleteAccessKey",
		"api:ReadAccounts", "api:ReadUsers")
	m.root = m.account.AddKey(cloudsim.KeySpec{User: "engine", Expires: time.Now().Add(30 * time.Minute)})
	m.configure("ttl=10m")

	t.Run("the policy is shown as unknown, with the reason", func(t *testing.T) {
		policy := m.read("policy/default")
		if policy["known"] != false || policy["read_at"] != "" || !strings.Contains(policy["problem"].(string), "ReadApiAccessPolicy") {
			t.Errorf("%v", policy)
		}
	})
	t.Run("the role says that it might cut leases", func(t *testing.T) {
		if role := m.read("roles/app"); role["limited_by"] != "mount, policy unknown" {
			t.Errorf("limited_by %v", role["limited_by"])
		}
	})
	t.Run("leases that the policy allows are given all the same", func(t *testing.T) {
		m.mustHold([]*lease{m.lease("")})
	})
	t.Run("the permission makes it known", func(t *testing.T) {
		m.account.AddUser("engine", "api:*")
		if policy := m.write("policy/default").Data; policy["known"] != true || policy["limited_by"] != "policy" {
			t.Errorf("%v", policy)
		}
	})
	m.mustHideSecrets()
}
