// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"context"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

// lease is a leased access key.
type lease struct {
	m         *mount
	ID        string
	Duration  time.Duration
	AccessKey string
	SecretKey string
	Data      map[string]any
}

func (m *mount) tryLease(ttl string) (*lease, error) { return m.tryLeaseOf("app", ttl) }

func (m *mount) tryLeaseOf(role, ttl string) (*lease, error) {
	query := url.Values{}
	if ttl != "" {
		query.Set("ttl", ttl)
	}
	secret, err := m.server.Client.Logical().ReadWithDataWithContext(m.t.Context(), m.path+"/creds/"+role, query)
	if err != nil {
		return nil, err
	}
	if secret == nil { // a standby says so whose leader dies while it is asked
		return nil, errors.New("the server's answer is empty")
	}
	return m.leaseIn(secret), nil
}

// leaseIn is the lease in an answer of the server's.
func (m *mount) leaseIn(secret *api.Secret) *lease {
	return &lease{
		m: m, ID: secret.LeaseID, Duration: time.Duration(secret.LeaseDuration) * time.Second, Data: secret.Data,
		AccessKey: secret.Data["access_key"].(string), SecretKey: secret.Data["secret_key"].(string),
	}
}

func (m *mount) lease(ttl string) *lease {
	m.t.Helper()
	l, err := m.tryLease(ttl)
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}

// end is when Vault will revoke the lease.
func (l *lease) end() time.Time {
	l.m.t.Helper()
	return l.endOn(l.m.server)
}

// endOn is the end of the lease as a node knows it.
func (l *lease) endOn(node *devserver.Server) time.Time {
	l.m.t.Helper()
	found, err := node.Client.Sys().Lookup(l.ID)
	if err != nil {
		l.m.t.Fatal(err)
	}
	end, err := time.Parse(time.RFC3339Nano, found.Data["expire_time"].(string))
	if err != nil {
		l.m.t.Fatal(err)
	}
	return end
}

func (l *lease) key() cloudsim.Key {
	l.m.t.Helper()
	key, ok := l.m.account.Key(l.AccessKey)
	if !ok {
		l.m.t.Fatalf("access key %s is not in the cloud", l.AccessKey)
	}
	return key
}

// mustFit is the promise: lease end <= key's date <= lease end + expiry_grace + 2 s.
func (l *lease) mustFit(grace time.Duration) {
	l.m.t.Helper()
	if end := l.end(); !l.fits(end, grace) {
		l.m.t.Errorf("the lease ends at %s and its key at %s, with a grace of %s", end, l.key().Expires, grace)
	}
}

// fits tells whether the key ends by its grace after the lease's end.
func (l *lease) fits(end time.Time, grace time.Duration) bool {
	l.m.t.Helper()
	expires := l.key().Expires
	return !expires.Before(end) && !expires.After(end.Add(grace+2*time.Second))
}

func (l *lease) renew(increment int) time.Duration {
	l.m.t.Helper()
	secret, err := l.m.server.Client.Sys().Renew(l.ID, increment)
	if err != nil {
		l.m.t.Fatal(err)
	}
	return time.Duration(secret.LeaseDuration) * time.Second
}

func (l *lease) revoke() {
	l.m.t.Helper()
	if err := l.tryRevoke(); err != nil {
		l.m.t.Fatal(err)
	}
}

func (l *lease) tryRevoke() error { return l.m.server.Client.Sys().RevokeWithOptions(revokeNow(l.ID)) }

// call signs a call with the leased key, as an application does with the vendor's SDK.
func (l *lease) call() error {
	config := osc.NewConfiguration()
	config.Servers = osc.ServerConfigurations{{URL: l.m.url}}
	ctx := context.WithValue(l.m.t.Context(), osc.ContextAWSv4, osc.AWSv4{AccessKey: l.AccessKey, SecretKey: l.SecretKey})
	_, _, err := osc.NewAPIClient(config).VmApi.ReadVms(ctx).ReadVmsRequest(osc.ReadVmsRequest{}).Execute()
	return err
}

func TestLeaseOfItsWholeLife(t *testing.T) {
	m := newMount(t)
	m.configure("ttl=15m", "max_ttl=2h")
	l := m.lease("")

	t.Run("the leased key works", func(t *testing.T) {
		if err := l.call(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the key's date follows from the lease", func(t *testing.T) {
		l.mustFit(time.Minute)
		if l.Duration != 15*time.Minute {
			t.Errorf("a lease of %s", l.Duration)
		}
		if got, want := l.Data["expiration"], l.key().Expires.UTC().Format(time.RFC3339); got != want {
			t.Errorf("expiration %v, want %s", got, want)
		}
	})
	t.Run("a renewal moves it", func(t *testing.T) {
		before := l.key().Expires
		if got := l.renew(3600); got != time.Hour {
			t.Errorf("renewed for %s", got)
		}
		if !l.key().Expires.After(before) {
			t.Errorf("still %s", before)
		}
		l.mustFit(time.Minute)
	})
	t.Run("one renewal with a tiny increment moves nothing back, and the next default one is whole", func(t *testing.T) {
		before := l.key().Expires
		l.renew(5)
		if got := l.key().Expires; got.Before(before) {
			t.Errorf("moved back to %s", got)
		}
		if got := l.renew(0); got != 15*time.Minute {
			t.Errorf("the default renewal gave %s", got)
		}
	})
	t.Run("an increment beyond the maximum is cut to it", func(t *testing.T) {
		if got := l.renew(9000); got > 2*time.Hour || got < 2*time.Hour-2*time.Minute {
			t.Errorf("renewed for %s", got)
		}
		l.mustFit(time.Minute)
	})
	t.Run("a revocation deletes it, and the cloud refuses its calls", func(t *testing.T) {
		l.revoke()
		if _, there := m.account.Key(l.AccessKey); there {
			t.Error("the key is still in the cloud")
		}
		if err := l.call(); err == nil {
			t.Error("the key still works")
		}
	})
}

func TestLeaseEndsByItself(t *testing.T) {
	m := newMount(t)
	m.configure()
	l := m.lease("10s") // the machine may be busy: it must live while it is looked at
	l.mustFit(time.Minute)
	until(t, time.Minute, "Vault has revoked the lease at its end", func() bool {
		_, there := m.account.Key(l.AccessKey)
		return !there
	})
}

func TestKeyDiesEvenIfVaultDoes(t *testing.T) {
	t.Parallel()
	server, err := startServer(t.Context(), t.TempDir(), logLevel)
	if err != nil {
		t.Fatal(err)
	}
	m := newMountOn(t, server)
	m.configure()
	m.write("config/default", "expiry_grace=10s")
	l := m.lease("30s") // the machine may be busy: it must live until the server is dead
	if err := l.call(); err != nil {
		t.Fatal(err)
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, 90*time.Second, "the key is dead", func() bool { return !l.key().Live(time.Now()) })
	if err := l.call(); err == nil {
		t.Error("the key still works")
	}
}

// leaseFor expects a lease of a duration, less the time that the request takes, and less two parts
// of a second: the key's date is a whole one, and so is the duration.
func (m *mount) leaseFor(want time.Duration) *lease {
	m.t.Helper()
	began := time.Now()
	l := m.lease("")
	if lost := want - l.Duration; lost < 0 || lost > time.Since(began)+2*time.Second {
		m.t.Errorf("a lease of %s, want %s", l.Duration, want)
	}
	return l
}

func TestPolicies(t *testing.T) {
	tests := map[string]struct {
		policy    int64
		lease     time.Duration
		limitedBy string
	}{
		"0 is no bound":            {0, 768 * time.Hour, "mount"},
		"120 s gives 55 s":         {120, 55 * time.Second, "policy"},
		"900 s gives 835 s":        {900, 835 * time.Second, "policy"},
		"a year gives the mount's": {31536000, 768 * time.Hour, "mount"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := newMount(t)
			m.setPolicy(test.policy)
			m.configure()
			m.leaseFor(test.lease).mustFit(time.Minute)
			role := m.read("roles/app")
			if got := number(t, role["effective_max_ttl"]); got != int64(test.lease/time.Second) || role["limited_by"] != test.limitedBy {
				t.Errorf("effective_max_ttl %v, limited_by %v", role["effective_max_ttl"], role["limited_by"])
			}
		})
	}
	t.Run("90 s is refused with the arithmetic", func(t *testing.T) {
		m := newMount(t)
		m.setPolicy(90)
		m.configure()
		_, err := m.tryLease("")
		m.mustRefuse(err, "no useful lease is possible", "1m30s", "25s")
	})
	t.Run("lowering it in the cloud and writing policy/default changes the next lease", func(t *testing.T) {
		m := newMount(t)
		m.setPolicy(900)
		m.configure()
		m.lease("")
		m.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 300})
		m.write("policy/default")
		m.leaseFor(235 * time.Second)
		if role := m.read("roles/app"); role["limited_by"] != "policy" {
			t.Errorf("%v", role)
		}
	})
}
