// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/scripts/devserver"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

// newServer starts a server for one test, which may kill it. When the test ends, the
// server's log is searched for the secrets of the clouds of its mounts.
func newServer(t *testing.T) *devserver.Server {
	t.Helper()
	server, err := startServer(t.Context(), t.TempDir())
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

// liveKeys are the keys of one instance that can sign calls now.
func (m *mount) liveKeys(instance string) []string {
	var live []string
	for _, key := range m.account.Keys() {
		label, err := keylabel.Parse(key.Tag)
		if err == nil && label.Instance == instance && key.Live(time.Now()) {
			live = append(live, key.ID)
		}
	}
	return live
}

// ledger lists the keys that the mount knows of.
func (m *mount) ledger() ([]string, error) { return m.list(m.path + "/keys") }

// leaseIDs lists the leases that Vault knows of the mount's role.
func (m *mount) leaseIDs() ([]string, error) {
	prefix := m.path + "/creds/app/"
	ids, err := m.list("sys/leases/lookup/" + prefix)
	for i, id := range ids {
		ids[i] = prefix + id
	}
	return ids, err
}

func (m *mount) list(path string) ([]string, error) {
	secret, err := m.server.Client.Logical().ListWithContext(m.t.Context(), path)
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

// mustHold is the invariant, once all is settled: the mount's live keys are those of the
// given leases, all of which work, and ledger and Vault know them and nothing else.
func (m *mount) mustHold(leases []*lease) {
	m.t.Helper()
	var keys, ids []string
	for _, l := range leases {
		keys, ids = append(keys, l.AccessKey), append(ids, l.ID)
		if err := l.call(); err != nil {
			m.t.Errorf("the key of %s does not work: %v", l.ID, err)
		}
	}
	if live := m.liveKeys(m.instance()); !sameElements(live, keys) {
		m.t.Errorf("live keys %v, leased %v", live, keys)
	}
	if ledger, err := m.ledger(); err != nil || !sameElements(ledger, keys) {
		m.t.Errorf("the ledger holds %v, leased %v (%v)", ledger, keys, err)
	}
	if known, err := m.leaseIDs(); err != nil || !sameElements(known, ids) {
		m.t.Errorf("Vault knows %v, leased %v (%v)", known, ids, err)
	}
	if n := m.irrevocable(); n != 0 {
		m.t.Errorf("%d leases are irrevocable", n)
	}
}

func sameElements(x, y []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y)))
}

// secretLength is that of OUTSCALE's secret keys.
const secretLength = 40

// mustHideSecrets searches the server's log, at trace level, for both halves of every
// secret that the simulated cloud ever made. There are thousands of secrets, so the log
// is gone through once.
func (m *mount) mustHideSecrets() {
	m.t.Helper()
	log, err := m.server.Logs()
	if err != nil {
		m.t.Fatal(err)
	}
	if !strings.Contains(log, m.path) {
		m.t.Fatal("the log does not even name the mount: it proves nothing")
	}
	const half = secretLength / 2
	halves := map[string]bool{}
	for _, secret := range m.sim.Secrets() {
		halves[secret[:half]], halves[secret[half:]] = true, true
	}
	for word := range strings.FieldsFuncSeq(log, func(r rune) bool { return !inSecrets(r) }) {
		for i := range max(0, len(word)-half+1) {
			if halves[word[i:i+half]] {
				m.t.Fatal("a secret key shows in the server's log")
			}
		}
	}
}

// inSecrets tells the letters of OUTSCALE's secret keys.
func inSecrets(r rune) bool { return r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' }

// expectLive fails where a lease that still runs has lost its key.
func (l *lease) expectLive(end time.Time) {
	l.m.t.Helper()
	if err := l.call(); err != nil && time.Now().Before(end) {
		l.m.t.Errorf("the key of a lease that ends at %s does not work: %v", end, err)
	}
}

var _ = cloudsim.Active
