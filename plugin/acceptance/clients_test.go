// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

// TestClientsThatMisbehave plays what servers see of clients and operators every day. In the
// end, within the promised time, there is no key but those of the leases that are kept.
func TestClientsThatMisbehave(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	tests := map[string]func(t *testing.T, m *mount) (kept []*lease){
		"one hangs up while its key is made":            hangUp,
		"one repeats each 5xx three times":              repeatFailures,
		"many ask in a loop and never revoke":           askInALoop,
		"leases are revoked by force in an outage":      revokeByForce,
		"a token ends and takes its leases along":       endToken,
		"leases are revoked by their prefix, and again": revokeByPrefix,
	}
	for name, act := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMountOn(t, server)
			m.configure("ttl=" + crashTTL)
			m.write("config/default", crashGrace)
			kept := act(t, m)
			m.untilOnly(kept)
			m.mustHold(kept)
			m.mustHideSecrets()
		})
	}
}

// untilOnly waits until cloud, ledger and Vault know no keys but those of the given leases.
func (m *mount) untilOnly(kept []*lease) {
	m.t.Helper()
	instance := m.instance()
	var problem error
	defer func() {
		if problem != nil {
			m.t.Error(problem)
		}
	}()
	// Vault tries a revocation that failed again after pauses of its own, up to minutes long.
	untilEvery(m.t, settlePause, 2*settling, "no key is left but those of leases", func() bool {
		own := m.ownKeys(instance)
		ids, err := m.leaseIDs()
		if len(own) != len(kept) || len(ids) != len(kept) {
			err = errors.Join(err, fmt.Errorf("%d keys and %d leases, want %d", len(own), len(ids), len(kept)))
		}
		problem = errors.Join(err, m.ledgerIsTrue())
		return problem == nil
	})
}

func hangUp(t *testing.T, m *mount) []*lease {
	kept := []*lease{m.lease("15m")} // also makes the instance id
	defer m.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DelayAnswer, Delay: 400 * time.Millisecond})()
	for i := range 12 {
		ctx, stop := context.WithTimeout(t.Context(), time.Duration(i)*50*time.Millisecond)
		_, err := m.server.Client.Logical().ReadWithContext(ctx, m.path+"/creds/app")
		stop()
		if err == nil {
			t.Log("one was answered in time")
		}
	}
	untilEvery(t, settlePause, settling, "no key is left but that of the lease",
		func() bool { return len(m.ownKeys(m.instance())) == len(kept) })
	m.revokeWithoutKey(kept)
	return kept
}

// revokeWithoutKey revokes the leases that Vault still lists when the keys of all but the kept
// ones are gone. Who hangs up while Vault registers a lease has it revoke the key, and fail to
// delete what it has stored of the lease: it does so in the context of the request, which has
// ended (vault/expiration.go, Register). No timer is set for such a lease. It stays until
// somebody revokes it, or a new active node loads it.
func (m *mount) revokeWithoutKey(kept []*lease) {
	m.t.Helper()
	ids, err := m.leaseIDs()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, id := range ids {
		if slices.ContainsFunc(kept, func(l *lease) bool { return l.ID == id }) {
			continue
		}
		if err := m.server.Client.Sys().RevokeWithContext(m.t.Context(), id); err != nil {
			m.t.Errorf("a lease whose key is gone cannot be revoked: %v", err)
		}
	}
}

func repeatFailures(t *testing.T, m *mount) []*lease {
	const repeats = 3
	kept := []*lease{m.lease("15m")}
	client, err := m.server.Client.CloneWithHeaders()
	if err != nil {
		t.Fatal(err)
	}
	client.SetToken(m.server.Token())
	client.SetMaxRetries(repeats)
	client.SetMinRetryWait(10 * time.Millisecond)
	for _, kind := range []cloudsim.FaultKind{cloudsim.DropAnswer, cloudsim.RefuseAfter, cloudsim.RubbishAnswer} {
		m.sim.ResetCalls()
		cancel := m.sim.Order(cloudsim.Fault{Op: "CreateAccessKey", Kind: kind})
		if _, err := client.Logical().ReadWithContext(t.Context(), m.path+"/creds/app"); err == nil {
			t.Errorf("%s: leased", kind)
		}
		cancel()
		// At most one new attempt for each request of the client's.
		if n := m.sim.CountCalls("CreateAccessKey"); n > 2*(1+repeats) {
			t.Errorf("%s: %d creates", kind, n)
		}
		if own := m.ownKeys(m.instance()); len(own) != len(kept) {
			t.Errorf("%s: the keys %v are left", kind, own)
		}
		kept = append(kept, m.lease("15m"))
	}
	return kept
}

func askInALoop(t *testing.T, m *mount) []*lease {
	const most = 4
	m.account.AddUser("greedy", "api:ReadVms")
	m.write("config/default", "max_requests_per_second=5")
	m.write("roles/greedy", "user_names=greedy", "ttl=30s", fmt.Sprintf("max_active_keys=%d", most))
	ctx, stop := context.WithTimeout(t.Context(), 25*time.Second)
	defer stop()
	var loops sync.WaitGroup
	for range 20 {
		loops.Go(func() {
			for ctx.Err() == nil {
				_, _ = m.tryLeaseOf("greedy", "") // whatever it gets, it asks again
			}
		})
	}
	var kept []*lease
	for ctx.Err() == nil {
		started := time.Now()
		l := m.lease("15m")
		l.renew(1200)
		if took := time.Since(started); took > freshLease {
			t.Errorf("a lease and its renewal took %s beside the loops", took)
		}
		kept = append(kept, l)
		keys := 0
		for _, key := range m.account.Keys() {
			if key.User == "greedy" {
				keys++
			}
		}
		if keys > most {
			t.Errorf("the loops have %d keys, of %d that the role allows", keys, most)
		}
		select {
		case <-time.After(4 * time.Second):
		case <-ctx.Done():
		}
	}
	loops.Wait()
	return kept
}

func revokeByForce(t *testing.T, m *mount) []*lease {
	for range 5 {
		m.lease("")
	}
	end := m.sim.Order(cloudsim.Fault{Kind: cloudsim.Outage})
	if err := m.server.Client.Sys().RevokeForceWithContext(t.Context(), m.path+"/creds/app"); err != nil {
		t.Fatal(err)
	}
	if ids, err := m.leaseIDs(); err != nil || len(ids) > 0 {
		t.Errorf("Vault still knows %v (%v)", ids, err)
	}
	end()
	if n := len(m.ownKeys(m.instance())); n != 5 {
		t.Errorf("%d keys are left: nothing was revoked by force", n)
	}
	return nil
}

func endToken(t *testing.T, m *mount) []*lease {
	kept := []*lease{m.lease("15m")}
	token, err := m.server.Client.Auth().Token().CreateWithContext(t.Context(), &api.TokenCreateRequest{TTL: "1h"})
	if err != nil {
		t.Fatal(err)
	}
	client, err := m.server.Client.CloneWithHeaders()
	if err != nil {
		t.Fatal(err)
	}
	client.SetToken(token.Auth.ClientToken)
	own := *m
	own.server = &devserver.Server{Client: client}
	for range 9 {
		own.lease("1h") // long past the end of the test
	}
	if err := client.Auth().Token().RevokeSelfWithContext(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	return kept
}

func revokeByPrefix(t *testing.T, m *mount) []*lease {
	for range 9 {
		m.lease("1h")
	}
	// Twice: the second comes while the first is under way.
	for range 2 {
		if err := m.server.Client.Sys().RevokePrefixWithContext(t.Context(), m.path+"/creds/app"); err != nil {
			t.Fatal(err)
		}
	}
	return []*lease{m.lease("15m")}
}

// TestLeasesEndWithoutVault lets leases end while Vault is sealed, and while it is down.
// Their keys die by themselves, and Vault clears up as soon as it is back.
func TestLeasesEndWithoutVault(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	m := newMountOn(t, server)
	m.configure()
	m.write("config/default", crashGrace)
	kept := m.lease("15m")
	for how, absence := range map[string]struct{ begin, end func() error }{
		"sealed": {func() error { return server.Seal(t.Context()) }, func() error { return server.Unseal(t.Context()) }},
		"down":   {server.Kill, func() error { return server.Restart(t.Context()) }},
	} {
		t.Run(how, func(t *testing.T) {
			var leases []*lease
			for range 5 {
				leases = append(leases, m.lease("5s"))
			}
			if err := absence.begin(); err != nil {
				t.Fatal(err)
			}
			until(t, time.Minute, "the keys are dead", func() bool {
				for _, l := range leases {
					if l.key().Live(time.Now()) {
						return false
					}
				}
				return true
			})
			if err := absence.end(); err != nil {
				t.Fatal(err)
			}
			m.untilOnly([]*lease{kept})
			m.mustHold([]*lease{kept})
		})
	}
	m.mustHideSecrets()
}
