// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

// disturbed is an operation that is disturbed at each of its steps in turn.
type disturbed struct {
	setUp   func(m *mount)
	run     func(m *mount) error
	works   func(m *mount) error // at once, whatever has become of the operation
	settled func(m *mount) error // within the promised time
}

func disturbedOperations() map[string]disturbed {
	return map[string]disturbed{
		"rotate-root": {
			setUp:   func(*mount) {},
			run:     func(m *mount) error { _, err := m.tryWrite("rotate-root/default"); return err },
			works:   leaseAndRevoke("app"),
			settled: (*mount).hasOneOwnKey,
		},
		"rotate-role": {
			setUp: func(m *mount) {
				m.account.AddUser("db", "api:ReadVms")
				m.write("static-roles/db", "user_name=db", "rotation_period=4h", "rotation_grace_period=10s")
			},
			run:     func(m *mount) error { _, err := m.tryWrite("rotate-role/db"); return err },
			works:   (*mount).staticKeyWorks,
			settled: func(m *mount) error { return errors.Join(m.hasOneStaticKey(), m.staticKeyWorks()) },
		},
		"static role": {
			setUp: func(m *mount) { m.account.AddUser("db", "api:ReadVms") },
			run: func(m *mount) error {
				_, err := m.tryWrite("static-roles/db", "user_name=db", "rotation_period=4h", "rotation_grace_period=10s")
				return err
			},
			works: leaseAndRevoke("app"),
			settled: func(m *mount) error {
				if role, err := m.server.Client.Logical().ReadWithContext(m.t.Context(), m.path+"/static-roles/db"); err != nil || role == nil {
					return errors.Join(err, m.hasNothingLeft("app"))
				}
				return errors.Join(m.hasOneStaticKey(), m.staticKeyWorks())
			},
		},
		"access_key lease": {
			setUp:   func(*mount) {},
			run:     leaseAndRevoke("app"),
			works:   leaseAndRevoke("app"),
			settled: func(m *mount) error { return m.hasNothingLeft("app") },
		},
		"iam_user lease": {
			setUp:   (*mount).addJobRole,
			run:     leaseAndRevoke("job"),
			works:   leaseAndRevoke("job"),
			settled: func(m *mount) error { return m.hasNothingLeft("job") },
		},
	}
}

// cloudFaults are the ways in which a call of the cloud goes wrong.
func cloudFaults() map[string]cloudsim.Fault {
	return map[string]cloudsim.Fault{
		"is refused":          {Kind: cloudsim.Refuse, Status: 409, Code: "9018"},
		"is a 500 after it":   {Kind: cloudsim.RefuseAfter, Status: 500},
		"has its answer lost": {Kind: cloudsim.DropAnswer},
	}
}

// writeFaults are the ways in which a storage write goes wrong.
func writeFaults() map[string]writeFault {
	return map[string]writeFault{
		"fails":                          {when: "before", order: "fail"},
		"is stored and reported as lost": {when: "after", order: "fail"},
		"is a death before it":           {when: "before", order: "die"},
		"is a death after it":            {when: "after", order: "die"},
	}
}

// faultParts are how many goroutines share an operation's faults: most of the time goes
// into the pauses before a client tries again.
const faultParts = 2

// TestFaultsLeaveOneWorkingState fails every call of the cloud and every storage write of
// each operation in turn, each on a mount of its own. All faults come first, so that one
// wait serves all.
func TestFaultsLeaveOneWorkingState(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	orders := newWriteOrders(t)
	var all []*disturbance
	t.Cleanup(func() {
		var mounts []*mount
		for _, d := range all {
			for _, c := range d.cases {
				mounts = append(mounts, c.mount)
			}
		}
		mustHideSecretsOf(t, []*devserver.Server{server}, mounts...)
	})
	for name, operation := range disturbedOperations() {
		for part := range faultParts {
			d := &disturbance{server: server, orders: orders, disturbed: operation}
			all = append(all, d)
			t.Run(fmt.Sprintf("%s, part %d", name, part+1), func(t *testing.T) {
				t.Parallel()
				d.t, d.plugin = t, registerFaulty(t, server, orders)
				for i, fail := range d.faults() {
					if i%faultParts == part {
						fail()
					}
				}
				d.settle()
			})
		}
	}
}

// disturbance is one operation, disturbed on many mounts.
type disturbance struct {
	disturbed
	t      *testing.T
	server *devserver.Server
	orders *writeOrders
	plugin string // the faulty one, in a process of its own: a death ends no other operation
	cases  []*faultCase
}

type faultCase struct {
	*mount
	name string
}

func (d *disturbance) begin(plugin, name string) *faultCase {
	d.t.Helper()
	c := &faultCase{mount: mountPlugin(d.t, d.server, plugin, fmt.Sprintf("-%d", len(d.cases))), name: name}
	d.cases = append(d.cases, c)
	c.configure("ttl=" + crashTTL)
	c.write("config/default", crashGrace)
	d.setUp(c.mount)
	return c
}

// numbered is the n-th of several equal calls.
type numbered struct {
	op string
	n  int
}

// measure runs the operation undisturbed, to know its steps.
func (d *disturbance) measure() (calls []numbered, writes []string) {
	d.t.Helper()
	c := d.begin(d.plugin, "undisturbed")
	c.sim.ResetCalls()
	d.orders.arm(c.path, writeFault{})
	if err := d.run(c.mount); err != nil {
		d.t.Fatal(err)
	}
	seen := map[string]int{}
	for _, call := range c.sim.Calls() {
		if call.Account == "" || call.User != "" {
			continue // a leased key that was tried
		}
		calls = append(calls, numbered{call.Op, seen[call.Op]})
		seen[call.Op]++
	}
	writes = d.orders.disarm(c.path).writes
	d.t.Logf("%d calls %v, %d writes %v", len(calls), calls, len(writes), writes)
	return calls, writes
}

// faults are those of each step.
func (d *disturbance) faults() (all []func()) {
	d.t.Helper()
	calls, writes := d.measure()
	for _, call := range calls {
		for _, how := range slices.Sorted(maps.Keys(cloudFaults())) {
			all = append(all, func() { d.failCall(call, how) })
		}
	}
	for write, key := range writes {
		for _, how := range slices.Sorted(maps.Keys(writeFaults())) {
			all = append(all, func() { d.failWrite(write, key, how) })
		}
	}
	return all
}

func (d *disturbance) failCall(call numbered, how string) {
	d.t.Helper()
	c := d.begin(pluginName, fmt.Sprintf("%s, number %d, %s", call.op, call.n+1, how))
	fault := cloudFaults()[how]
	fault.Op, fault.Skip, fault.Times = call.op, call.n, 1
	c.sim.ResetCalls()
	defer c.sim.Order(fault)()
	err := d.run(c.mount)
	if !slices.ContainsFunc(c.sim.Calls(), func(call cloudsim.Call) bool { return call.Fault == fault.Kind }) {
		d.t.Errorf("%s: the fault never hit", c.name)
	}
	d.check(c, err)
}

func (d *disturbance) failWrite(write int, key, how string) {
	d.t.Helper()
	c := d.begin(d.plugin, fmt.Sprintf("%s, write %d, %s", key, write+1, how))
	fault := writeFaults()[how]
	fault.skip = write
	d.orders.arm(c.path, fault)
	err := d.run(c.mount)
	if !d.orders.disarm(c.path).hit {
		d.t.Errorf("%s: the fault never hit", c.name)
	}
	d.check(c, err)
}

// check asks at once for what must work in spite of the fault. A plugin that has died is
// started with the next request, which itself may fail.
func (d *disturbance) check(c *faultCase, err error) {
	d.t.Helper()
	until(d.t, time.Minute, c.name+": the plugin answers", func() bool {
		_, err := c.tryRead("info")
		return err == nil
	})
	if now := d.works(c.mount); now != nil {
		d.t.Errorf("%s: the operation ended with %v, and then: %v", c.name, err, now)
	}
}

// settle waits for the promise, for all faults at once.
func (d *disturbance) settle() {
	d.t.Helper()
	started := time.Now()
	left := slices.Clone(d.cases)
	defer func() {
		d.t.Logf("%d faults settled after %s", len(d.cases)-len(left), time.Since(started).Round(time.Second))
		for _, c := range left {
			d.t.Errorf("%s: %v", c.name, d.settled(c.mount))
		}
	}()
	untilEvery(d.t, settlePause, settling, "every fault has settled", func() bool {
		left = slices.DeleteFunc(left, func(c *faultCase) bool { return d.settled(c.mount) == nil })
		return len(left) == 0
	})
	lost := 0
	for _, c := range d.cases {
		if err := d.works(c.mount); err != nil {
			d.t.Errorf("%s: %v", c.name, err)
			lost++
		}
	}
	figure(d.t, figureFaults, len(d.cases)-1) // one is undisturbed
	figure(d.t, figureConfigs, lost)
}

// leaseAndRevoke uses a role as an application does.
func leaseAndRevoke(role string) func(m *mount) error {
	return func(m *mount) error {
		l, err := m.tryLeaseOf(role, "")
		if err != nil {
			return err
		}
		return errors.Join(l.call(), l.tryRevoke())
	}
}

// addJobRole writes a role that gives each lease a user of its own, with all that a user
// can get.
func (m *mount) addJobRole() {
	m.t.Helper()
	m.account.AddGroup("/", "readers")
	m.write("roles/job", "credential_type=iam_user", "ttl="+crashTTL, "groups=readers",
		"policy_orns="+m.account.AddPolicy("reader", "api:ReadVms"),
		`policy_document={"Statement": [{"Effect": "Allow", "Action": ["api:ReadVms"], "Resource": ["*"]}]}`)
}

// hasOneOwnKey wants the engine's identity to have one key, which the account names, and
// the ledger to know our keys and no others.
func (m *mount) hasOneOwnKey() error {
	config, err := m.tryRead("config/default")
	if err != nil {
		return err
	}
	return errors.Join(m.hasOneKey("", config["access_key"]), m.ledgerIsTrue())
}

// hasOneStaticKey does so for the user of the static role "db".
func (m *mount) hasOneStaticKey() error {
	creds, err := m.tryRead("static-creds/db")
	if err != nil {
		return err
	}
	return errors.Join(m.hasOneKey("db", creds["access_key"]), m.ledgerIsTrue())
}

func (m *mount) hasOneKey(user string, id any) error {
	var keys []string
	for _, key := range m.account.Keys() {
		if key.User == user {
			keys = append(keys, key.ID)
		}
	}
	if len(keys) != 1 || keys[0] != id {
		return fmt.Errorf("user %q has the keys %v, want %v alone", user, keys, id)
	}
	return nil
}

// staticKeyWorks uses the key of the static role "db".
func (m *mount) staticKeyWorks() error {
	creds, err := m.tryRead("static-creds/db")
	if err != nil {
		return err
	}
	key := &lease{m: m, AccessKey: creds["access_key"].(string), SecretKey: creds["secret_key"].(string)}
	return key.call()
}

// hasNothingLeft wants no key, no user and no lease of ours.
func (m *mount) hasNothingLeft(role string) error {
	if err := m.ledgerIsTrue(); err != nil {
		return err
	}
	info, err := m.tryRead("info")
	if err != nil {
		return err
	}
	if own := m.ownKeys(info["instance_id"].(string)); len(own) > 0 {
		return fmt.Errorf("the keys %v are left", own)
	}
	for _, user := range m.account.Users() {
		if user != "app" && user != "db" {
			return fmt.Errorf("user %s is left", user)
		}
	}
	if ids, err := m.leaseIDsOf(role); err != nil || len(ids) > 0 {
		return errors.Join(err, fmt.Errorf("the leases %v are left", ids))
	}
	return nil
}

// ledgerIsTrue wants the ledger to hold the keys with our label, and no others.
func (m *mount) ledgerIsTrue() error {
	info, err := m.tryRead("info")
	if err != nil {
		return err
	}
	ledger, err := m.ledger()
	if err != nil {
		return err
	}
	if own := m.ownKeys(info["instance_id"].(string)); !sameElements(own, ledger) {
		return fmt.Errorf("the cloud has the keys %v of ours, and the ledger %v", own, ledger)
	}
	return nil
}
