// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

const instance = "INSTANCEAAAAAAAA"

// world is an account without Vault, with a key that the engine should have removed.
type world struct {
	t       *testing.T
	account *cloudsim.Account
	env     map[string]string
	expired string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	sim := cloudsim.New()
	w := &world{t: t, account: sim.AddAccount("123456789012")}
	root := w.account.RootKey()
	w.env = map[string]string{
		"OSC_ACCESS_KEY": root.AccessKey, "OSC_SECRET_KEY": root.SecretKey, "OSC_REGION": "eu-west-2", "OSC_ENDPOINT_API": sim.Start(t),
		"ENGINE_INSTANCE": instance,
	}
	w.expired = w.add()
	return w
}

// add makes a key of the engine that has expired.
func (w *world) add() string {
	return w.account.AddKey(cloudsim.KeySpec{
		User: "app", Tag: keylabel.New(instance, keylabel.KindLease).String(),
		Created: time.Now().Add(-72 * time.Hour), Expires: time.Now().Add(-24 * time.Hour).UTC().Truncate(time.Second),
	}).AccessKey
}

func (w *world) mustExit(want int, args ...string) (stdout, stderr string) {
	w.t.Helper()
	var out, log bytes.Buffer
	if got := cloudkeys(w.t.Context(), args, func(name string) string { return w.env[name] }, &out, &log); got != want {
		w.t.Fatalf("%v exits with %d, want %d:\n%s\n%s", args, got, want, out.String(), log.String())
	}
	return out.String(), log.String()
}

func (w *world) mustHave(id string, want bool) {
	w.t.Helper()
	if _, has := w.account.Key(id); has != want {
		w.t.Errorf("the key is there: %v, want %v", has, want)
	}
}

func TestTheExitStatusSaysWhatCame(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want int
		says string
	}{
		"nothing at all":                     {nil, exitRefused, "usage"},
		"a job that nobody knows":            {[]string{"sweep"}, exitRefused, "revoke-expired-keys"},
		"a flag that nobody knows":           {[]string{"revoke-expired-keys", "-max", "1"}, exitRefused, "-max"},
		"a setting that does not fit":        {[]string{"revoke-expired-keys", "-max-percent", "101"}, exitRefused, "MAX_PERCENT"},
		"a plan to write and to apply":       {[]string{"revoke-expired-keys", "-plan", "a", "-apply", "a"}, exitRefused, "exclude"},
		"a report":                           {[]string{"revoke-expired-keys"}, exitDone, ""},
		"a report with something to look at": {[]string{"revoke-expired-keys", "-fail-on-findings"}, exitFindings, ""},
		"a sync without a wanted policy":     {[]string{"sync-policy"}, exitDone, ""},
		"both":                               {[]string{"report", "-format", "json"}, exitDone, ""},
		"a quarantine that nobody remembers": {[]string{"revoke-expired-keys", "-mode", "enforce"}, exitRefused, "-dir"},
		"a plan that is not there": {
			[]string{"revoke-expired-keys", "-mode", "enforce", "-quarantine", "0", "-apply", "/nonexistent"}, exitRefused, "cannot be read",
		},
		"an account that does not exist":      {[]string{"revoke-expired-keys", "-accounts", "prod"}, exitFailed, "prod"},
		"a format that nobody knows":          {[]string{"report", "-format", "xml"}, exitRefused, "text or json"},
		"something that is neither":           {[]string{"report", "now"}, exitRefused, "now"},
		"a bound on the life, without unit":   {[]string{"sync-policy", "-policy-floor", "7"}, exitRefused, "POLICY_FLOOR"},
		"enforcing without a wanted policy":   {[]string{"sync-policy", "-mode", "enforce"}, exitFailed, "WANTED_MAX"},
		"a policy that is wanted, a report":   {[]string{"sync-policy", "-wanted-max", "30d"}, exitDone, ""},
		"a policy that is wanted, to look at": {[]string{"sync-policy", "-wanted-max", "30d", "-fail-on-findings"}, exitFindings, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, stderr := w.mustExit(test.want, test.args...)
			if !strings.Contains(stderr, test.says) {
				t.Errorf("%q does not say %q", stderr, test.says)
			}
			w.mustHave(w.expired, true)
		})
	}
}

// A policy that an armed run would set is something to look at, also where no key stands in its way.
func TestAPolicyThatDriftsIsAFinding(t *testing.T) {
	w := newWorld(t)
	w.account.DeleteKey(w.env["OSC_ACCESS_KEY"])
	key := w.account.AddKey(cloudsim.KeySpec{Expires: time.Now().Add(2 * time.Hour)})
	w.env["OSC_ACCESS_KEY"], w.env["OSC_SECRET_KEY"] = key.AccessKey, key.SecretKey
	args := []string{"sync-policy", "-wanted-max", "30d", "-fail-on-findings"}
	stdout, _ := w.mustExit(exitFindings, args...)
	if !strings.Contains(stdout, "tighten") {
		t.Errorf("got %q", stdout)
	}
	w.mustExit(exitDone, append(args, "-mode", "enforce")...)
	w.mustExit(exitDone, args...)
}

// What a run that is cut off leaves for the one that goes on with it has whole ids of keys: where none does, it is removed.
func TestNothingIsLeftOfARunThatNobodyGoesOnWith(t *testing.T) {
	w := newWorld(t)
	dir, plan := t.TempDir(), filepath.Join(t.TempDir(), "plan.json")
	cutOff, cancel := context.WithCancel(t.Context())
	cancel()
	mustLeave := func(after string, want int) {
		t.Helper()
		if left, err := filepath.Glob(filepath.Join(dir, "runs", "*")); err != nil || len(left) != want {
			t.Errorf("after %s there are %q (%v), want %d", after, left, err, want)
		}
	}
	cut := func(args ...string) {
		t.Helper()
		getenv := func(name string) string { return w.env[name] }
		args = append([]string{"revoke-expired-keys", "-dir", dir}, args...)
		if got := cloudkeys(cutOff, args, getenv, io.Discard, io.Discard); got != exitFailed {
			t.Errorf("%v exits with %d", args, got)
		}
	}
	w.mustExit(exitDone, "revoke-expired-keys", "-dir", dir, "-plan", plan)
	cut("-plan", filepath.Join(t.TempDir(), "other.json"))
	mustLeave("a plan that was cut off", 0)
	cut("-mode", "enforce", "-apply", plan)
	mustLeave("the applying of one", 0)
	cut()
	mustLeave("a run that was cut off", 1)
	w.mustExit(exitDone, "revoke-expired-keys", "-dir", dir, "-min-age", "2h") // with other settings, it begins anew
	mustLeave("a run that did not go on with it", 0)
}

func TestEnforcingRemovesAndKeepsRecords(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	stdout, _ := w.mustExit(exitDone, "revoke-expired-keys", "-mode", "enforce", "-dir", dir)
	w.mustHave(w.expired, false)
	for _, part := range []string{"1 deleted", filepath.ToSlash(dir) + "/reports/", "-revoke-expired-keys-local/index.html"} {
		if !strings.Contains(stdout, part) {
			t.Errorf("%q does not say %q", stdout, part)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "state", "environment.json")); err != nil {
		t.Error(err)
	}
}

func TestTwoRunsInOnePlaceExcludeEachOther(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	release, err := archive.Directory(dir).Lock(t.Context(), "revoke-expired-keys")
	if err != nil {
		t.Fatal(err)
	}
	_, stderr := w.mustExit(exitFailed, "revoke-expired-keys", "-mode", "enforce", "-dir", dir)
	if !strings.Contains(stderr, "another run") {
		t.Errorf("got %q", stderr)
	}
	w.mustHave(w.expired, true)
	release()
	w.mustExit(exitDone, "revoke-expired-keys", "-mode", "enforce", "-dir", dir)
	w.mustHave(w.expired, false)
}

func TestExactlyThePlanIsApplied(t *testing.T) {
	w := newWorld(t)
	w.env["APPROVAL"] = "true" // giving the file is the approval
	dir, plan := t.TempDir(), filepath.Join(t.TempDir(), "plan.json")
	w.mustExit(exitDone, "revoke-expired-keys", "-mode", "enforce", "-dir", dir)
	w.mustHave(w.expired, true) // nobody has approved anything
	w.mustExit(exitDone, "revoke-expired-keys", "-dir", dir, "-plan", plan)
	w.mustHave(w.expired, true)
	later := w.add()
	stdout, _ := w.mustExit(exitDone, "revoke-expired-keys", "-mode", "enforce", "-dir", dir, "-apply", plan)
	if !strings.Contains(stdout, "1 deleted") {
		t.Errorf("got %q", stdout)
	}
	w.mustHave(w.expired, false)
	w.mustHave(later, true)
}

func TestAPlanThatDoesNotFitIsRefused(t *testing.T) {
	change := func(change func(plan map[string]any)) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			t.Helper()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			plan := map[string]any{}
			if err := json.Unmarshal(text, &plan); err != nil {
				t.Fatal(err)
			}
			change(plan)
			if text, err = json.Marshal(plan); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		change func(t *testing.T, path string)
		args   []string
		says   string
	}{
		"one that is too old": {
			change(func(p map[string]any) { p["made"] = time.Now().Add(-73 * time.Hour) }), []string{"-mode", "enforce"}, "72h",
		},
		"one of tomorrow": {
			change(func(p map[string]any) { p["made"] = time.Now().Add(25 * time.Hour) }),
			[]string{"-mode", "enforce"},
			"ahead of this machine's clock",
		},
		"one of another version": {
			change(func(p map[string]any) { p["version"] = 2 }), []string{"-mode", "enforce"}, "version 1, and not 2",
		},
		"one made with other settings": {nil, []string{"-mode", "enforce", "-min-age", "2h"}, "other settings"},
		"one where the mode is report": {nil, nil, "-mode enforce"},
		"one of other accounts":        {nil, []string{"-mode", "enforce", "-accounts", "prdo"}, `no plan of the accounts ["prdo"]`},
		"what is no plan": {
			func(_ *testing.T, path string) { _ = os.WriteFile(path, []byte("[]"), 0o600) }, []string{"-mode", "enforce"}, "no plan",
		},
		"one that was made larger by hand": {
			change(func(p map[string]any) { p["accounts"].([]any)[0].(map[string]any)["planned"] = 5000 }),
			[]string{"-mode", "enforce"},
			"RUN_MAX_KEYS",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			dir, plan := t.TempDir(), filepath.Join(t.TempDir(), "100%d.json")
			w.mustExit(exitDone, "revoke-expired-keys", "-dir", dir, "-plan", plan)
			if test.change != nil {
				test.change(t, plan)
			}
			_, stderr := w.mustExit(exitRefused, append([]string{"revoke-expired-keys", "-dir", dir, "-apply", plan}, test.args...)...)
			if !strings.Contains(stderr, test.says) || !strings.Contains(stderr, "100%d.json: ") {
				t.Errorf("%q does not say %q of the file", stderr, test.says)
			}
			w.mustHave(w.expired, true)
		})
	}
}

func TestTheCommandTellsItsVersion(t *testing.T) {
	var out bytes.Buffer
	if code := cloudkeys(t.Context(), []string{"-version"}, func(string) string { return "" }, &out, io.Discard); code != exitDone {
		t.Errorf("exit status %d", code)
	}
	if !strings.HasPrefix(out.String(), "cloudkeys ") || !strings.Contains(out.String(), "go1.") {
		t.Errorf("it says %q", out.String())
	}
}

// withoutRoots makes a test be a process on a machine that has no certificate authorities, as an image from scratch has none.
const withoutRoots = "CLOUDKEYS_TEST_WITHOUT_ROOTS"

func TestAMachineWithoutCertificateAuthoritiesGetsThoseOfMozilla(t *testing.T) {
	if os.Getenv(withoutRoots) == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		child.Env = append(os.Environ(), withoutRoots+"=1", "SSL_CERT_FILE="+os.DevNull, "SSL_CERT_DIR="+t.TempDir())
		if out, err := child.CombinedOutput(); err != nil || !strings.Contains(string(out), "accepted") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue // this one is taken only for older certificates
		}
		certificate, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		when := certificate.NotBefore.AddDate(0, 0, 1)
		if _, err := certificate.Verify(x509.VerifyOptions{CurrentTime: when, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Fatalf("%s: %v", certificate.Subject, err)
		}
		t.Logf("%s is accepted", certificate.Subject)
		return
	}
	t.Fatal("Mozilla's list is empty")
}
