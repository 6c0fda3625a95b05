// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	walk "github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/emulator"
)

// The command's exit statuses.
const (
	exitDone     = 0
	exitFailed   = 1
	exitRefused  = 2
	exitFindings = 3
)

// command is one call of the binary cloudkeys, with nothing in its environment but what it is given.
type command struct {
	t              testing.TB
	process        *emulator.Process
	stdout, stderr emulator.Output
}

func startCommand(t testing.TB, env map[string]string, args ...string) *command {
	t.Helper()
	c := &command{t: t}
	cmd := exec.Command(filepath.Join(os.Getenv("FUNCTIONS_BIN"), "cloudkeys", "cloudkeys"), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = t.TempDir(), &c.stdout, &c.stderr, []string{"TMPDIR=" + t.TempDir()}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		cmd.Env = append(cmd.Env, name+"="+env[name])
	}
	var err error
	if c.process, err = emulator.Start(cmd, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.process.Stop(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	})
	return c
}

// wait returns the exit status.
func (c *command) wait() int {
	<-c.process.Done
	return c.process.Cmd.ProcessState.ExitCode()
}

// mustExit runs the command to its end, and returns what it printed.
func mustExit(t testing.TB, want int, env map[string]string, args ...string) (stdout, stderr string) {
	t.Helper()
	c := startCommand(t, env, args...)
	if got := c.wait(); got != want {
		t.Fatalf("%v exits with %d, want %d:\n%s\n%s", args, got, want, &c.stdout, &c.stderr)
	}
	return c.stdout.String(), c.stderr.String()
}

// TestTheCommandFromItsFirstReportToTheLastKey walks through what a reader of docs/functions.md does on Kubernetes: the pod logs in
// with its service account, and the account demands a client certificate.
func TestTheCommandFromItsFirstReportToTheLastKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withKubernetes()
	w.withClientCertificate()
	dir := t.TempDir()
	plan, metrics := filepath.Join(dir, "plan.json"), filepath.Join(dir, "cloudkeys.prom")
	var said []string
	run := func(want int, args ...string) {
		t.Helper()
		stdout, stderr := mustExit(t, want, w.env, append([]string{"revoke-expired-keys"}, args...)...)
		said = append(said, stdout, stderr)
		w.mustHaveGivenBack()
	}
	last := func() string { return said[len(said)-2] + said[len(said)-1] }
	w.env["QUARANTINE"] = "1s"

	before := w.keys()
	run(exitDone, "-dir", dir, "-metrics-file", metrics)
	run(exitFindings, "-dir", dir, "-fail-on-findings")
	run(exitRefused, "-mode", "enforce")
	if !strings.Contains(last(), "nothing else remembers since when a key has been switched off") {
		t.Errorf("without a durable place it says %s", last())
	}
	run(exitDone, "-dir", dir, "-plan", plan)
	w.mustBeUnchanged(before)

	delete(w.env, "CLIENT_CERT_FILE")
	run(exitFailed, "-dir", dir)
	if !strings.Contains(last(), "CLIENT_CERT_FILE") {
		t.Errorf("without its certificate it says %s", last())
	}
	w.env["CLIENT_CERT_FILE"] = w.certificate

	mine := w.env["VAULT_JWT_FILE"]
	w.env["VAULT_JWT_FILE"] = filepath.Join(dir, "token")
	if err := os.WriteFile(w.env["VAULT_JWT_FILE"], []byte(mustToken(t, "somebody")), 0o600); err != nil {
		t.Fatal(err)
	}
	run(exitFailed, "-dir", dir)
	if !strings.Contains(last(), "Vault refuses it") {
		t.Errorf("with the token of another service account it says %s", last())
	}
	w.env["VAULT_JWT_FILE"] = mine

	later := w.account.AddKey(cloudsim.KeySpec{
		User: "app", Tag: w.keys()[w.orphan].Tag, Created: time.Now().Add(-3 * time.Hour),
		Expires: time.Now().Add(48 * time.Hour),
	}).AccessKey
	run(exitDone, "-dir", dir, "-mode", "enforce", "-apply", plan)
	if keys := w.keys(); keys[w.orphan].State != cloudsim.Inactive || keys[later].State != cloudsim.Active {
		t.Errorf("after the plan the orphan is %s, and a later one %s", keys[w.orphan].State, keys[later].State)
	}
	// How many runs fit into a quarantine of a second depends on the machine, so only the clock ends this.
	for began := time.Now(); w.keys()[w.orphan].ID != "" || w.keys()[later].ID != ""; {
		if time.Since(began) > time.Minute {
			t.Fatalf("the orphans are not deleted: %s", last())
		}
		run(exitDone, "-dir", dir, "-mode", "enforce")
	}
	w.mustHave("leased", "foreign")
	text, err := os.ReadFile(metrics)
	if err != nil || !strings.Contains(string(text), `cloudkeys_sweep_keys_planned{provider="outscale"} 2`) {
		t.Errorf("the metrics are %s (%v)", text, err)
	}
	w.mustHideSecrets(said...)
}

// holdFrom leaves the n-th call of a kind, and all of its kind after it, without an answer until they are released: however fast the
// machine is, whoever makes them is in the middle of its work when reached is closed.
func holdFrom(t *testing.T, sim *cloudsim.Cloud, n int64, is func(cloudsim.Call) bool) (reached <-chan struct{}, release func()) {
	t.Helper()
	hit, released := make(chan struct{}), make(chan struct{})
	release = sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	var calls atomic.Int64
	sim.OnCall(func(call cloudsim.Call) {
		if !is(call) {
			return
		}
		count := calls.Add(1)
		if count == n {
			close(hit)
		}
		if count >= n {
			<-released
		}
	})
	return hit, release
}

// TestTheCommandSweeps2000Accounts kills the command in the middle of planning, and in the middle of its changes.
func TestTheCommandSweeps2000Accounts(t *testing.T) {
	t.Parallel()
	const accounts, orphans = 2000, 500
	f := newFleetWith(t, accounts, accounts/orphans)
	env := f.environment()
	env["RUN_MAX_PERCENT"] = "50"
	dir := t.TempDir()
	began := time.Now()
	for _, after := range []struct {
		op string
		n  int64
	}{{"ReadUsers", 800}, {"DeleteAccessKey", 200}} {
		reached, release := holdFrom(t, f.sim, after.n, func(call cloudsim.Call) bool { return call.Op == after.op })
		c := startCommand(t, env, "revoke-expired-keys", "-dir", dir)
		select {
		case <-reached:
		case <-c.process.Done:
			t.Fatalf("it has ended before %d of %s:\n%s", after.n, after.op, &c.stderr)
		}
		if err := c.process.Stop(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		release()
	}
	stdout, stderr := mustExit(t, exitDone, env, "revoke-expired-keys", "-dir", dir)
	t.Logf("%d accounts, with two kills, in %s", accounts, time.Since(began).Round(time.Second))
	f.mustBeSwept(every)
	if !strings.Contains(stdout, "2000 accounts") || !strings.Contains(stderr, "going on with a run that was cut off") {
		t.Errorf("it says %s\n%s", stdout, stderr)
	}
	// Each account is opened to be planned, and a fourth to be changed; again only what a kill has cut.
	opened := 0
	for _, n := range f.leases {
		opened += n
	}
	if most := accounts + orphans + 2*10 + orphans; opened > most {
		t.Errorf("accounts were opened %d times, want %d at most", opened, most)
	}
	if deletions := f.sim.CountCalls("DeleteAccessKey"); deletions > orphans+20 {
		t.Errorf("%d keys were deleted by %d calls", orphans, deletions)
	}
	runs, err := filepath.Glob(filepath.Join(dir, "reports", "*", "index.html"))
	if err != nil || len(runs) != 1 {
		t.Errorf("one run has the pages %q (%v)", runs, err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "runs")); err != nil || len(left) > 0 {
		t.Errorf("plans with whole ids are left: %v (%v)", left, err)
	}
}

func TestTheCommandsBreakerOverAllAccountsChangesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 40)
	env := f.environment()
	for setting, value := range map[string]string{"RUN_MAX_KEYS": "39", "RUN_MAX_PERCENT": "16"} {
		bounded := maps.Clone(env)
		bounded["RUN_MAX_PERCENT"] = "50"
		bounded[setting] = value
		_, stderr := mustExit(t, exitFailed, bounded, "revoke-expired-keys", "-dir", t.TempDir())
		if !strings.Contains(stderr, "nothing was changed in any account") || !strings.Contains(stderr, setting) {
			t.Errorf("it says %s", stderr)
		}
	}
	f.mustBeSwept(none)
}

// TestACommandThatIsTerminatedGivesBackWhatItHas: systemd and Kubernetes send SIGTERM where the time is up.
func TestACommandThatIsTerminatedGivesBackWhatItHas(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 30)
	env := f.environment()
	env["RUN_MAX_PERCENT"], env["CONCURRENCY"] = "50", "3"
	dir := t.TempDir()
	reached, release := holdFrom(t, f.sim, 5, func(call cloudsim.Call) bool { return call.Op == "DeleteAccessKey" })
	c := startCommand(t, env, "revoke-expired-keys", "-dir", dir)
	<-reached
	if err := syscall.Kill(c.process.Cmd.Process.Pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
	if got := c.wait(); got != exitFailed || !strings.Contains(c.stderr.String(), "goes on with it") {
		t.Errorf("it exits with %d, and says %s", got, &c.stderr)
	}
	release()
	f.mustHaveGivenBack()
	mustExit(t, exitDone, env, "revoke-expired-keys", "-dir", dir)
	f.mustBeSwept(every)
}

// TestTwoCommandsExcludeEachOther in a directory, while the first is at work.
func TestTwoCommandsExcludeEachOther(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	dir := t.TempDir()
	working, release := holdFrom(t, f.sim, 1, func(call cloudsim.Call) bool { return call.Op == "ReadUsers" })
	first := startCommand(t, f.environment(), "revoke-expired-keys", "-dir", dir)
	<-working
	_, stderr := mustExit(t, exitFailed, f.environment(), "revoke-expired-keys", "-dir", dir)
	if !strings.Contains(stderr, "another run is at work in "+dir) {
		t.Errorf("it says %s", stderr)
	}
	if err := first.process.Stop(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	release()
	mustExit(t, exitDone, f.environment(), "revoke-expired-keys", "-dir", dir, "-run-max-percent", "50")
	f.mustBeSwept(every)
}

// TestTheCommandOnARealServerOf2000Accounts leases a key of each account from the real engine, and is killed in the middle of its
// changes. Every tenth account has a key to remove.
func TestTheCommandOnARealServerOf2000Accounts(t *testing.T) {
	t.Parallel()
	const accounts, orphans = 2000, 200
	w := newWorld(t)
	w.withAppRole()
	w.env["RUN_MAX_PERCENT"] = "50"
	endpoint, instance := w.read(w.name + "/config/default")["endpoint"].(string), w.read(w.name + "/info")["instance_id"].(string)
	began := time.Now()
	made, problems := make([]*cloudsim.Account, accounts), make([]error, accounts)
	walk.Each(8, accounts, func(i int) {
		made[i] = w.sim.AddAccount(fmt.Sprintf("%012d", 200_000_000_000+i))
		problems[i] = w.configure(fmt.Sprintf("account-%04d", i), made[i], endpoint)
	})
	if err := errors.Join(problems...); err != nil {
		t.Fatal(err)
	}
	doomed := map[string]*cloudsim.Account{}
	for i, a := range made {
		foreign := cloudsim.KeySpec{User: "app", Created: time.Now().AddDate(0, 0, -10)}
		a.AddKey(foreign)
		if i%(accounts/orphans) == 0 {
			orphan := cloudsim.KeySpec{
				User: "app", Tag: keylabel.New(instance, keylabel.KindLease).String(), Created: time.Now().Add(-3 * time.Hour),
				Expires: time.Now().Add(48 * time.Hour),
			}
			doomed[a.AddKey(orphan).AccessKey] = a
		}
	}
	t.Logf("%d accounts were configured in %s", accounts, time.Since(began).Round(time.Second))

	dir := t.TempDir()
	reached, release := holdFrom(t, w.sim, orphans/2, func(call cloudsim.Call) bool {
		return call.Op == "UpdateAccessKey" && call.User == "functions"
	})
	began = time.Now()
	c := startCommand(t, w.env, "revoke-expired-keys", "-mode", "enforce", "-dir", dir)
	select {
	case <-reached:
	case <-c.process.Done:
		t.Fatalf("it has ended before it was killed:\n%s", &c.stderr)
	}
	if err := c.process.Stop(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	release()
	stdout, _ := mustExit(t, exitDone, w.env, "revoke-expired-keys", "-mode", "enforce", "-dir", dir)
	t.Logf("and swept, with a kill, in %s", time.Since(began).Round(time.Second))
	if !strings.Contains(stdout, "2001 accounts") {
		t.Errorf("it says %s", stdout)
	}
	for id, a := range doomed {
		if key, there := a.Key(id); there {
			t.Fatalf("an orphan of %s is %s", a.ID(), key.State)
		}
	}
	w.mustHave("leased", "foreign")
}

// configure makes an account of the cloud one of the mount, with a role for the command.
func (w *world) configure(name string, a *cloudsim.Account, endpoint string) error {
	a.AddUser("functions", "api:ReadUsers", "api:ReadAccounts", "api:ReadAccessKeys", "api:UpdateAccessKey", "api:DeleteAccessKey",
		"api:ReadApiAccessPolicy")
	root := a.RootKey()
	_, err := w.server.Client.Logical().WriteWithContext(w.t.Context(), w.name+"/config/"+name, map[string]any{
		"provider": "outscale", "region": cloudRegion, "endpoint": endpoint, "max_requests_per_second": 500,
		"access_key": root.AccessKey, "secret_key": root.SecretKey,
	})
	if err != nil {
		return fmt.Errorf("writing the account %s: %w", name, err)
	}
	_, err = w.server.Client.Logical().WriteWithContext(w.t.Context(), w.name+"/roles/functions-"+name, map[string]any{
		"account": name, "user_names": "functions", "ttl": "15m", "max_ttl": "30m",
	})
	if err != nil {
		return fmt.Errorf("writing the role of %s: %w", name, err)
	}
	return nil
}
