// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

const (
	// crashTTL, with crashGrace, has the keys that only the ledger knows reaped in the
	// time that an unfinished request takes anyway: 40 s + 10 s + two ticks.
	crashTTL   = "40s"
	crashGrace = "expiry_grace=10s"

	// settling is the promise: the age at which a label that nothing carries is dropped, and two ticks of Vault's rollback.
	settling = 90*time.Second + 2*time.Minute
)

// operation is what a crash interrupts.
type operation struct {
	calls []string // of the cloud, in order
	needs bool     // a lease that is there before
	run   func(c *crashes, l *lease) (*lease, error)
}

func operations() map[string]operation {
	return map[string]operation{
		"issue": {
			calls: []string{"CreateAccessKey"},
			run:   func(c *crashes, _ *lease) (*lease, error) { return c.tryLease(crashTTL) },
		},
		"renew": {
			calls: []string{"UpdateAccessKey"},
			needs: true,
			run: func(c *crashes, l *lease) (*lease, error) {
				_, err := c.server.Client.Sys().Renew(l.ID, 60)
				return l, err
			},
		},
		"revoke": {
			calls: []string{"UpdateAccessKey", "DeleteAccessKey"},
			needs: true,
			run: func(c *crashes, l *lease) (*lease, error) {
				return nil, c.server.Client.Sys().RevokeWithOptions(revokeNow(l.ID))
			},
		},
	}
}

// victim is what is killed, with SIGKILL.
type victim struct {
	name  string
	tries int // after the cloud's answer, spread over the storage steps that follow
	aim   func(c *crashes) (kill func() error)
	heal  func(c *crashes) error
}

func victims() []victim {
	return []victim{
		{"the plugin", 12, (*crashes).aimAtPlugin, func(*crashes) error { return nil }},
		{"the server with its plugins", 14, (*crashes).aimAtMachine, (*crashes).restart},
		{"the server alone", 6, (*crashes).aimAtServer, (*crashes).restart},
	}
}

// moment is when the kill comes, seen from the cloud.
type moment int

const (
	asked    moment = iota // the call is there, and its work is never done
	worked                 // the work is done, and the answer never arrives
	answered               // the answer has left
)

// hit is one kill at one moment of one cloud call.
type hit struct {
	call  string
	when  moment
	after time.Duration // with answered
}

func (s hit) String() string {
	return fmt.Sprintf("%s %s+%s", s.call, [...]string{"asked", "worked", "answered"}[s.when], s.after.Round(time.Millisecond/10))
}

// order is a hit that waits for its call.
type order struct {
	hit
	key   string // the call is about this access key; empty: about any
	kill  func() error
	given atomic.Bool
	done  chan error
}

// crashes is a server that is killed again and again in one operation of the lease.
type crashes struct {
	*mount
	operation
	orders   atomic.Pointer[order]
	span     time.Duration // from the cloud's last answer to Vault's
	orphaned func() error  // kills the plugins of a server that was killed alone
	handed   int           // requests that were answered in spite of the crash
	issued   int           // leases that were asked for
}

// TestCrashesLeaveNoOrphan kills the plugin and the server at every cloud call of issue,
// renew and revoke, and between the storage steps that follow. Each operation has a
// server of its own, whose account it shares with another mount of that server and with
// another server. All kills come first, so that one wait serves all.
func TestCrashesLeaveNoOrphan(t *testing.T) {
	t.Parallel()
	for name, op := range operations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCrashes(t, op)
			twin, foreign := c.beside(c.server, "twin"), c.beside(shared, "foreign")
			twin.configure()
			foreign.configure()
			kept, of, others := c.lease("15m"), twin.lease("15m"), foreign.lease("15m")
			byHand := c.account.AddKey(cloudsim.KeySpec{User: "app", Tag: "made by hand"})
			c.measure()

			kills := 0
			for _, v := range victims() {
				for _, s := range c.hits(v) {
					c.hit(v, s)
					kills++
				}
			}
			figure(t, figureKills, kills)
			figure(t, figureLeases, c.issued)
			c.untilSettled(kept)
			c.mustHold([]*lease{kept})
			twin.mustHold([]*lease{of})
			foreign.mustHold([]*lease{others})
			if _, there := c.account.Key(byHand.AccessKey); !there {
				t.Error("a key that was made by hand is gone")
			}
			kept.revoke()
			c.mustHold(nil)
			c.mustHideSecrets()
		})
	}
}

// untilSettled waits for the promise, and tells what breaks it.
func (c *crashes) untilSettled(kept *lease) {
	c.t.Helper()
	instance, started := c.instance(), time.Now()
	var own, ledger, leases []string
	c.t.Logf("%d requests were answered in spite of a crash; %d keys to clean up", c.handed, len(c.ownKeys(instance))-1)
	defer func() {
		c.t.Logf("after %s: %d keys removed by the rollback, %d at their date; now %v in the cloud, %v in the ledger, %v leased",
			time.Since(started).Round(time.Second), c.logged("removed the access key of an unfinished request"),
			c.logged("removed an expired access key"), own, ledger, leases)
	}()
	until(c.t, settling, "all keys but one are gone, with their leases", func() bool {
		var ledgerErr, leasesErr error
		own = c.ownKeys(instance)
		ledger, ledgerErr = c.ledger()
		leases, leasesErr = c.leaseIDs()
		return ledgerErr == nil && leasesErr == nil && slices.Equal(own, []string{kept.AccessKey}) &&
			slices.Equal(ledger, own) && slices.Equal(leases, []string{kept.ID})
	})
}

func newCrashes(t *testing.T, op operation) *crashes {
	t.Helper()
	c := &crashes{mount: newMountOn(t, newServer(t), cloudsim.WithQuota(1000)), operation: op}
	c.configure()
	c.write("config/default", crashGrace)
	c.sim.OnCall(func(call cloudsim.Call) { c.observe(call, asked) })
	c.sim.OnAnswer(func(call cloudsim.Call) { c.observe(call, worked, answered) })
	return c
}

// observe runs in the cloud, and holds up the call while it kills.
func (c *crashes) observe(call cloudsim.Call, moments ...moment) {
	o := c.orders.Load()
	if o == nil || call.Op != o.call || !slices.Contains(moments, o.when) || !o.isAbout(call) || o.given.Swap(true) {
		return
	}
	if o.when == answered {
		time.AfterFunc(o.after, func() { o.done <- o.kill() })
		return
	}
	o.done <- o.kill()
}

// isAbout tells the call that was ordered from those of leases that end meanwhile.
func (o *order) isAbout(call cloudsim.Call) bool {
	var body struct{ AccessKeyId string }
	return o.key == "" || json.Unmarshal(call.Body, &body) == nil && body.AccessKeyId == o.key
}

// measure runs the operation undisturbed, to know for how long after the cloud's answer
// there are storage steps. The median, since one slow fsync would have most kills come
// too late.
func (c *crashes) measure() {
	c.t.Helper()
	var last atomic.Int64
	c.sim.OnAnswer(func(cloudsim.Call) { last.Store(time.Now().UnixNano()) })
	var spans []time.Duration
	for range 5 {
		if _, err := c.run(c, c.prepare()); err != nil {
			c.t.Fatal(err)
		}
		spans = append(spans, time.Since(time.Unix(0, last.Load())))
	}
	slices.Sort(spans)
	c.span = spans[len(spans)/2]
	c.t.Logf("%s from the cloud's answer to Vault's", c.span)
}

// prepare issues the lease that the operation needs.
func (c *crashes) prepare() *lease {
	c.t.Helper()
	if !c.needs {
		return nil
	}
	return c.lease(crashTTL)
}

// hits are the kills of one victim: at each cloud call, and in steps through what
// follows the last one.
func (c *crashes) hits(v victim) []hit {
	var all []hit
	for _, call := range c.calls {
		all = append(all, hit{call: call, when: asked}, hit{call: call, when: worked})
	}
	for i := range v.tries {
		after := c.span * time.Duration(i) / time.Duration(v.tries-1)
		all = append(all, hit{call: c.calls[len(c.calls)-1], when: answered, after: after})
	}
	return all
}

// hit runs the operation, kills the victim in it, brings it back, and sees that what
// was answered is true.
func (c *crashes) hit(v victim, s hit) {
	c.t.Helper()
	l := c.prepare()
	c.issued++ // before the kill, or by what it interrupts
	o := &order{hit: s, kill: v.aim(c), done: make(chan error, 1)}
	if l != nil {
		o.key = l.AccessKey
	}
	cancel := func() {}
	if s.when == asked {
		cancel = c.sim.Order(cloudsim.Fault{Op: s.call, Kind: cloudsim.DropRequest, Times: 1})
	}
	c.orders.Store(o)
	got, err := c.run(c, l)
	select {
	case killErr := <-o.done:
		if killErr != nil {
			c.t.Fatal(killErr)
		}
	case <-time.After(time.Minute):
		c.t.Fatalf("%s, %s: the call never came (%v)", v.name, s, err)
	}
	cancel()
	if err := v.heal(c); err != nil {
		c.t.Fatal(err)
	}
	c.untilAnswers()
	c.check(v, s, l, got, err)
}

// check holds Vault to its answer: a lease that was given or renewed works, a key whose
// revocation succeeded is gone.
func (c *crashes) check(v victim, s hit, before, got *lease, err error) {
	c.t.Helper()
	if err == nil {
		c.handed++
	}
	if err == nil && got == nil {
		if _, there := c.account.Key(before.AccessKey); there {
			c.t.Errorf("%s, %s: the revocation succeeded, but the key is still there", v.name, s)
		}
		return
	}
	if got == nil {
		return
	}
	end := got.end()
	if err := got.call(); err != nil && time.Now().Before(end) {
		c.t.Errorf("%s, %s: the key of a lease that runs until %s does not work: %v", v.name, s, end, err)
	}
}

// untilAnswers asks the plugin until it answers: Vault starts one that was killed with
// the next request, which itself may fail.
func (c *crashes) untilAnswers() {
	c.t.Helper()
	until(c.t, time.Minute, "the plugin answers again", func() bool {
		_, err := c.server.Client.Logical().ReadWithContext(c.t.Context(), c.path+"/info")
		return err == nil
	})
}

func (c *crashes) aimAtPlugin() func() error {
	c.t.Helper()
	var pids []int
	until(c.t, 10*time.Second, "the plugin runs", func() bool {
		var err error
		pids, err = c.server.PluginPIDs()
		return err == nil && len(pids) > 0
	})
	return func() error {
		var failures []error
		for _, pid := range pids {
			process, err := os.FindProcess(pid)
			if err == nil {
				err = process.Kill()
			}
			failures = append(failures, err)
		}
		return errors.Join(failures...)
	}
}

func (c *crashes) aimAtMachine() func() error { return c.server.Kill }

func (c *crashes) aimAtServer() func() error {
	return func() (err error) {
		c.orphaned, err = c.server.KillAlone()
		return err
	}
}

// restart starts the server on its data. Plugins that outlived the last one have ended
// their work beside it, and are killed.
func (c *crashes) restart() error {
	if err := c.server.Restart(c.t.Context()); err != nil {
		return err
	}
	if c.orphaned == nil {
		return nil
	}
	defer func() { c.orphaned = nil }()
	return c.orphaned()
}
