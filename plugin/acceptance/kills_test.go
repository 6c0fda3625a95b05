// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

// seedVariable replays the kills of a run that failed: it prints its seed. What runs beside
// them is the machine's choice, and no seed's.
const seedVariable = "CLOUDKEYS_KILLS_SEED"

const (
	killClients = 8
	killUsers   = 10

	// killTTL is that of the leases that nobody answers for any more, and bounds how long
	// the test waits in the end.
	killTTL = 60

	// killPause is the longest pause before the next kill.
	killPause = 6 * time.Second
)

// TestKillsUnderLoad kills plugin and server with SIGKILL at random moments, while clients
// issue, renew and revoke leases and the engine's own key and a static role's are rotated.
// Whatever was under way: every key that was handed out works until its lease ends, and in
// the end there are no keys but those that are known.
func TestKillsUnderLoad(t *testing.T) {
	t.Parallel()
	seed := uint64(7)
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	t.Logf("replay it: %s=%d", seedVariable, seed)
	random := func() *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }
	t.Run("one node", func(t *testing.T) {
		t.Parallel()
		server := newServer(t)
		k := newKills(t, []*devserver.Server{server}, random())
		victims := []func() error{
			k.killPlugins,
			func() error { return errors.Join(server.Kill(), server.Restart(t.Context())) },
		}
		k.run(atSize(3, 24), func(i int) error {
			// Each at least once, whatever the seed says.
			if i < len(victims) {
				return victims[i]()
			}
			return victims[k.random.IntN(len(victims))]()
		})
	})
	t.Run("three nodes, of which the leader is killed", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t)
		k := newKills(t, c.Nodes, random())
		k.run(atSize(2, 16), func(int) error {
			killed, err := c.KillLeader(t.Context())
			if err != nil {
				return err
			}
			k.wait(t.Context(), killPause) // two nodes are a cluster, too
			return c.Restart(t.Context(), killed)
		})
		k.server = c.leader()
	})
}

// kills are clients at work on servers that are killed.
type kills struct {
	*mount
	nodes  []*devserver.Server
	random *rand.Rand // of the killer alone
	kept   []*lease   // are there from the first to the last
	first  string     // the engine's own key at the start

	mu     sync.Mutex
	leases int
	said   []string // the errors that clients got
}

func newKills(t *testing.T, nodes []*devserver.Server, random *rand.Rand) *kills {
	t.Helper()
	k := &kills{mount: newMountOn(t, nodes[0], cloudsim.WithQuota(10_000)), nodes: nodes, random: random}
	k.first = k.root.AccessKey
	users := "user_names=app"
	for i := range killUsers {
		name := fmt.Sprintf("app-%d", i)
		k.account.AddUser(name, "api:ReadVms")
		users += "," + name
	}
	k.account.AddUser("db", "api:ReadVms")
	k.persist("config/default", append(k.accountFields(), crashGrace)...)
	k.persist("roles/app", users)
	k.persist("static-roles/db", "user_name=db", "rotation_period=4h", "rotation_grace_period=10s")
	until(t, time.Minute, "there are leases to keep", func() bool {
		l, err := k.tryLease("2h")
		if err == nil {
			k.kept = append(k.kept, l)
		}
		return len(k.kept) == 20
	})
	return k
}

// persist writes, and again where that fails: a busy machine's cluster changes its leader by
// itself.
func (k *kills) persist(path string, fields ...string) {
	k.t.Helper()
	until(k.t, time.Minute, path+" is written", func() bool {
		_, err := k.tryWrite(path, fields...)
		return err == nil
	})
}

// run lets clients work until all kills are over, and waits until what they left is cleared.
func (k *kills) run(kills int, kill func(i int) error) {
	k.t.Helper()
	ctx, stop := context.WithCancel(k.t.Context())
	var clients sync.WaitGroup
	for i := range killClients {
		// A standby forwards what it is asked.
		own := *k.mount
		own.server = k.nodes[i%len(k.nodes)]
		c := &killClient{kills: k, own: &own, random: rand.New(rand.NewPCG(uint64(i), 0))}
		clients.Go(func() { c.work(ctx) })
	}
	rotator := *k.mount
	clients.Go(func() { k.rotate(ctx, &rotator) })
	for i := range kills {
		k.wait(ctx, time.Second+time.Duration(k.random.Int64N(int64(killPause))))
		if err := kill(i); err != nil {
			k.t.Errorf("kill %d: %v", i+1, err)
			break
		}
		k.keptWork(fmt.Sprintf("after kill %d", i+1))
	}
	k.wait(ctx, time.Second) // of peace
	stop()
	clients.Wait()
	k.t.Logf("%d kills, %d leases, %d requests that failed", kills, k.leases, len(k.said))
	figure(k.t, figureKills, kills)
	figure(k.t, figureLeases, k.leases)
	k.settle()
}

// wait pauses until the context ends.
func (k *kills) wait(ctx context.Context, pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
}

func (k *kills) keptWork(when string) {
	k.t.Helper()
	for _, l := range k.kept {
		if err := l.call(); err != nil {
			k.t.Errorf("%s: the key of a lease of two hours does not work: %v", when, err)
		}
	}
}

// killPlugins kills all plugins of the server; Vault starts one with the next request.
func (k *kills) killPlugins() error {
	pids, err := k.server.PluginPIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		process, err := os.FindProcess(pid)
		if err == nil {
			err = process.Kill()
		}
		if err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	return nil
}

// rotate replaces the engine's own key and the static role's all the time.
func (k *kills) rotate(ctx context.Context, own *mount) {
	for i := 0; ctx.Err() == nil; i++ {
		_, err := own.tryWrite([]string{"rotate-root/default", "rotate-role/db"}[i%2])
		k.note(err)
		own.server = k.nodes[i%len(k.nodes)]
		k.wait(ctx, 3*time.Second)
	}
}

// note keeps what a client was said.
func (k *kills) note(err error) {
	if err == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.said = append(k.said, err.Error())
}

// settle waits for the promise: no key is left but those that are known, whatever was under
// way when something was killed.
func (k *kills) settle() {
	k.t.Helper()
	var ids, keys []string
	for _, l := range k.kept {
		ids, keys = append(ids, l.ID), append(keys, l.AccessKey)
	}
	started := time.Now()
	var problem error
	defer func() {
		k.t.Logf("settled after %s: %v", time.Since(started).Round(time.Second), problem)
		k.check(keys)
	}()
	untilEvery(k.t, settlePause, killTTL*time.Second+settling+time.Minute, "no key and no lease is left but those that are known",
		func() bool {
			problem = k.settled(ids, keys)
			return problem == nil
		})
}

func (k *kills) settled(ids, keys []string) error {
	known, err := k.known(keys)
	if err != nil {
		return err
	}
	own := k.ownKeys(k.instance())
	if !sameElements(own, known) {
		return fmt.Errorf("%d keys in the cloud, of which %d are known", len(own), len(known))
	}
	leases, err := k.leaseIDs()
	if err == nil && !sameElements(leases, ids) {
		err = fmt.Errorf("%d leases, want %d", len(leases), len(ids))
	}
	return errors.Join(err, k.ledgerIsTrue())
}

// known are the keys of kept leases, static role and configuration.
func (k *kills) known(keys []string) ([]string, error) {
	config, err := k.tryRead("config/default")
	if err != nil {
		return nil, err
	}
	creds, err := k.tryRead("static-creds/db")
	if err != nil {
		return nil, err
	}
	known := append(slices.Clone(keys), creds["access_key"].(string))
	if own := config["access_key"].(string); own != k.first { // that one carries no label
		known = append(known, own)
	}
	return known, nil
}

// check is the invariant at the end.
func (k *kills) check(keys []string) {
	k.t.Helper()
	known, err := k.known(keys)
	if err != nil {
		k.t.Fatal(err)
	}
	orphans := 0
	for _, id := range k.ownKeys(k.instance()) {
		if !slices.Contains(known, id) {
			orphans++
		}
	}
	lost := 0
	if err := errors.Join(leaseAndRevoke("app")(k.mount), k.staticKeyWorks()); err != nil {
		k.t.Errorf("the configuration does not work: %v", err)
		lost++
	}
	irrevocable := int(k.irrevocable())
	figure(k.t, figureOrphans, orphans)
	figure(k.t, figureConfigs, lost)
	figure(k.t, figureIrrevocable, irrevocable)
	if orphans+irrevocable > 0 {
		k.t.Errorf("%d orphans, %d irrevocable leases", orphans, irrevocable)
	}
	k.keptWork("in the end")
	mustHideSecretsOf(k.t, k.nodes, k.mount)
	leaked := secretsIn(k.sim.Secrets(), k.said...)
	figure(k.t, figureSecrets, leaked)
	if leaked > 0 {
		k.t.Error("a secret key shows in an error")
	}
}

// killClient issues, renews and revokes leases, and bears errors.
type killClient struct {
	*kills
	own    *mount // on the client's node
	random *rand.Rand
	held   []*heldLease
}

// heldLease is a lease of which the client knows the least time that it lasts.
type heldLease struct {
	*lease
	until time.Time
}

func (c *killClient) work(ctx context.Context) {
	for ctx.Err() == nil {
		switch n := c.random.IntN(10); {
		case n < 5 || len(c.held) == 0:
			c.issue()
		case n < 7:
			c.renew(c.held[c.random.IntN(len(c.held))])
		default:
			i := c.random.IntN(len(c.held))
			l := c.held[i]
			c.held = slices.Delete(c.held, i, i+1)
			c.revoke(l)
		}
		c.use()
		c.wait(ctx, time.Duration(c.random.Int64N(int64(100*time.Millisecond))))
	}
	for _, l := range c.held {
		c.mustWork(l)
	}
}

func (c *killClient) issue() {
	started := time.Now()
	l, err := c.own.tryLease(strconv.Itoa(killTTL/2+c.random.IntN(killTTL/2)) + "s")
	if err != nil {
		c.note(err)
		return
	}
	c.mu.Lock()
	c.leases++
	c.mu.Unlock()
	c.held = append(c.held, &heldLease{l, started.Add(l.Duration)})
}

func (c *killClient) renew(l *heldLease) {
	started := time.Now()
	secret, err := c.own.server.Client.Sys().Renew(l.ID, killTTL)
	if err != nil {
		c.note(err) // it lasts as long as it did
		return
	}
	if secret == nil { // see tryLeaseOf
		return
	}
	l.until = started.Add(time.Duration(secret.LeaseDuration) * time.Second)
}

// revoke expects a key to be gone where Vault says so; otherwise Vault has yet to revoke it.
func (c *killClient) revoke(l *heldLease) {
	if err := c.own.server.Client.Sys().RevokeWithOptions(revokeNow(l.ID)); err != nil {
		c.note(err)
		return
	}
	if _, there := c.account.Key(l.AccessKey); there {
		c.t.Errorf("the revocation of %s succeeded, and its key is still there", l.ID)
	}
}

// use tries the key that ends first, and lets go of those whose leases are over.
func (c *killClient) use() {
	soon := time.Now().Add(time.Second)
	c.held = slices.DeleteFunc(c.held, func(l *heldLease) bool { return l.until.Before(soon) })
	if len(c.held) > 0 {
		c.mustWork(slices.MinFunc(c.held, func(a, b *heldLease) int { return cmp.Compare(a.until.UnixNano(), b.until.UnixNano()) }))
	}
}

func (c *killClient) mustWork(l *heldLease) {
	if err := l.call(); err != nil && time.Now().Before(l.until) {
		c.t.Errorf("the key of %s does not work, %s before the end of its lease: %v", l.ID, time.Until(l.until), err)
	}
}
