// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

// settlePause is between two looks at everything that is to settle within minutes.
const settlePause = 3 * time.Second

// heldOperation is held up in the cloud while its server goes away.
type heldOperation struct {
	call    string
	when    moment // asked or worked
	setUp   func(h *held)
	run     func(h *held) error
	works   func(h *held) error // at once, on the server that takes over
	settled func(h *held) error // within the promised time
}

// held is one such operation under way, on a mount of its own.
type held struct {
	*mount
	heldOperation
	name     string
	lease    *lease               // of renew and revoke
	orphan   cloudsim.Credentials // of tidy
	foreign  cloudsim.Credentials // of tidy
	reached  chan struct{}
	released chan struct{}
	ended    chan error
	taken    atomic.Bool
}

func heldOperations() map[string]heldOperation {
	rotateRoot := func(h *held) error { _, err := h.tryWrite("rotate-root/default"); return err }
	rotateRole := func(h *held) error { _, err := h.tryWrite("rotate-role/db"); return err }
	onMount := func(f func(*mount) error) func(*held) error { return func(h *held) error { return f(h.mount) } }
	leases, ownKey := onMount(leaseAndRevoke("app")), onMount((*mount).hasOneOwnKey)
	staticKey := func(h *held) error { return errors.Join(h.hasOneStaticKey(), h.staticKeyWorks()) }
	nothing := onMount(func(m *mount) error { return m.hasNothingLeft("app") })
	noSetUp := func(*held) {}
	setUpStatic := func(h *held) { disturbedOperations()["rotate-role"].setUp(h.mount) }
	setUpLease := func(h *held) { h.lease = h.mount.lease("15m") }

	return map[string]heldOperation{
		"rotate-root before its key is made":  {"CreateAccessKey", asked, noSetUp, rotateRoot, leases, ownKey},
		"rotate-root after its key was made":  {"CreateAccessKey", worked, noSetUp, rotateRoot, leases, ownKey},
		"rotate-root before its key is tried": {"ReadAccessKeys", asked, noSetUp, rotateRoot, leases, ownKey},
		"rotate-root after its key was tried": {"ReadAccessKeys", worked, noSetUp, rotateRoot, leases, ownKey},
		"rotate-role before its key is made":  {"CreateAccessKey", asked, setUpStatic, rotateRole, onMount((*mount).staticKeyWorks), staticKey},
		"rotate-role after its key was made":  {"CreateAccessKey", worked, setUpStatic, rotateRole, onMount((*mount).staticKeyWorks), staticKey},
		"a lease":                             {"CreateAccessKey", worked, noSetUp, leases, leases, nothing},
		"a lease's user": {
			"CreateUser", worked, func(h *held) { h.addJobRole() }, onMount(leaseAndRevoke("job")), onMount(leaseAndRevoke("job")),
			onMount(func(m *mount) error { return m.hasNothingLeft("job") }),
		},
		"a renewal": {
			"UpdateAccessKey", worked, setUpLease,
			func(h *held) error { _, err := h.server.Client.Sys().Renew(h.lease.ID, 1800); return err },
			(*held).renewsAndRevokes, nothing,
		},
		"a revocation": {
			"DeleteAccessKey", asked, setUpLease,
			func(h *held) error { return h.lease.tryRevoke() }, func(h *held) error { return h.lease.tryRevoke() }, nothing,
		},
		"a tidy": {
			"ReadAccessKeys", asked, (*held).plant,
			func(h *held) error { _, err := h.tryWrite("tidy"); return err }, (*held).tidies, nothing,
		},
	}
}

// hold sets an operation up, to be begun later.
func hold(t *testing.T, leader *devserver.Server, name, suffix string, operation heldOperation) *held {
	t.Helper()
	h := &held{
		mount: mountPlugin(t, leader, pluginName, suffix), heldOperation: operation, name: name,
		reached: make(chan struct{}), released: make(chan struct{}), ended: make(chan error, 1),
	}
	h.configure("ttl=" + crashTTL)
	h.write("config/default", crashGrace)
	operation.setUp(h)
	t.Cleanup(h.release) // a cloud that holds a call up would not end
	return h
}

// holdAll sets up one mount for each operation.
func holdAll(t *testing.T, server *devserver.Server, how string) (all []*held) {
	t.Helper()
	operations := heldOperations()
	for i, name := range slices.Sorted(maps.Keys(operations)) {
		all = append(all, hold(t, server, name+", "+how, fmt.Sprintf("-%s-%d", how, i), operations[name]))
	}
	return all
}

// begin starts the operations, and returns when the cloud holds all of them up.
func begin(all []*held) []*held {
	for _, h := range all {
		h.begin()
	}
	return all
}

// interrupt takes the server away while the operations are held up, lets them go on, and
// sees that everything works at once.
func interrupt(t *testing.T, what string, all []*held, takeAway func() error) {
	t.Helper()
	started := time.Now()
	if err := takeAway(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s with %d operations under way took %s", what, len(all), time.Since(started).Round(time.Millisecond))
	for _, h := range all {
		h.release()
		var err error
		if h.run != nil {
			err = <-h.ended
		}
		if now := h.works(h); now != nil {
			t.Errorf("%s: the operation ended with %v, and then: %v", h.name, err, now)
		}
	}
}

// settle waits for the promise.
func settle(t *testing.T, all []*held) {
	t.Helper()
	left, started := slices.Clone(all), time.Now()
	defer func() {
		t.Logf("%d operations settled after %s", len(all)-len(left), time.Since(started).Round(time.Second))
		for _, h := range left {
			t.Errorf("%s: %v", h.name, h.settled(h))
		}
	}()
	untilEvery(t, settlePause, settling, "every operation has settled", func() bool {
		left = slices.DeleteFunc(left, func(h *held) bool { return h.settled(h) == nil })
		return len(left) == 0
	})
}

// TestServerRestartsInTheMiddle kills a server alone with every operation under way, and
// starts it again on its data.
func TestServerRestartsInTheMiddle(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	all := begin(holdAll(t, server, "restarted"))
	interrupt(t, "a restart", all, func() error {
		if err := server.Kill(); err != nil {
			return err
		}
		return server.Restart(t.Context())
	})
	settle(t, all)
}

// begin starts the operation and returns when the cloud holds it up.
func (h *held) begin() {
	h.t.Helper()
	h.arm()
	go func() { h.ended <- h.run(h) }()
	h.untilReached(time.Minute)
}

// arm has the cloud hold up the next call.
func (h *held) arm() {
	observe := func(when moment) func(call cloudsim.Call) {
		return func(call cloudsim.Call) {
			if call.Op != h.call || when != h.when || h.taken.Swap(true) {
				return
			}
			close(h.reached)
			<-h.released
		}
	}
	h.sim.OnCall(observe(asked))
	h.sim.OnAnswer(observe(worked))
}

func (h *held) untilReached(limit time.Duration) {
	h.t.Helper()
	select {
	case <-h.reached:
	case <-time.After(limit):
		h.t.Fatalf("%s: %s was never called", h.name, h.call)
	}
}

func (h *held) release() {
	select {
	case <-h.released:
	default:
		close(h.released)
	}
}

// renewsAndRevokes is what the holder of a lease does next.
func (h *held) renewsAndRevokes() error {
	if _, err := h.server.Client.Sys().Renew(h.lease.ID, 0); err != nil {
		return err
	}
	// The renewal that was interrupted may have moved the date further.
	if end, expires := h.lease.end(), h.lease.key().Expires; expires.Before(end) {
		return fmt.Errorf("the lease ends at %s, and its key before that, at %s", end, expires)
	}
	return errors.Join(h.lease.call(), h.lease.tryRevoke())
}

// plant makes an orphan of this mount, and a key that is none.
func (h *held) plant() {
	h.t.Helper()
	h.mount.lease("15m").revoke() // makes the instance id
	h.orphan = h.account.AddKey(cloudsim.KeySpec{
		User: "app", Tag: keylabel.New(h.instance(), keylabel.KindLease).String(), Expires: time.Now().Add(time.Hour),
	})
	h.foreign = h.account.AddKey(cloudsim.KeySpec{
		User: "app", Tag: keylabel.New(keylabel.NewID(), keylabel.KindLease).String(), Expires: time.Now().Add(time.Hour),
	})
}

// tidies finds the orphan that the interrupted tidy has not, and leaves the foreign key.
func (h *held) tidies() error {
	if status := h.tidy(); status["state"] != "done" {
		return fmt.Errorf("tidy-status %v", status)
	}
	if _, there := h.account.Key(h.orphan.AccessKey); there {
		return errors.New("the orphan is still there")
	}
	if _, there := h.account.Key(h.foreign.AccessKey); !there {
		return errors.New("a key of another mount is gone")
	}
	return nil
}

// tidy compares the cloud with the ledger, and returns what came of it.
func (m *mount) tidy(fields ...string) (status map[string]any) {
	m.t.Helper()
	m.write("tidy", fields...)
	until(m.t, time.Minute, "the tidy has ended", func() bool {
		var err error
		status, err = m.tryRead("tidy-status")
		return err == nil && status["state"] != "running"
	})
	return status
}

// made counts the keys of one kind that the cloud was asked for.
func (m *mount) made(kind keylabel.Kind) int {
	n := 0
	for _, call := range m.sim.Calls() {
		if call.Op == "CreateAccessKey" && strings.Contains(string(call.Body), "-"+string(kind)+"-") {
			n++
		}
	}
	return n
}
