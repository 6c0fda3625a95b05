// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package integrations

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// soon is a role whose leases are renewed after about 13 seconds, and end within a minute. A busy machine may take seconds to renew one.
var soon = map[string]any{"ttl": "20s", "max_ttl": "1m"}

// What agent.hcl writes, below the directory where it is started.
const (
	oscProfiles = "cloudkeys/.osc/config.json"
	envFile     = "cloudkeys/outscale.env"
	awsProfiles = "cloudkeys/aws-credentials"
)

// agent is a Vault Agent that runs.
type agent struct {
	desk *desk
	log  string // file
}

// startAgent starts Vault Agent with a configuration in the home directory. It ends with the test.
func (d *desk) startAgent(config string) *agent {
	d.t.Helper()
	a := &agent{desk: d, log: filepath.Join(d.t.TempDir(), "agent.log")}
	log, err := os.Create(a.log)
	if err != nil {
		d.t.Fatal(err)
	}
	command := d.command([]string{d.bin, "agent", "-config=" + config})
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		d.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = command.Wait() // it is told to end by a signal
		log.Close()
	}()
	d.t.Cleanup(func() {
		<-ended // the test's context, which ends it, is done by now
		if d.t.Failed() {
			d.t.Logf("the agent's log:\n%s", a.logged())
		}
	})
	return a
}

func (a *agent) logged() string {
	text, err := os.ReadFile(a.log)
	if err != nil {
		a.desk.t.Fatal(err)
	}
	return string(text)
}

// profiles is cloudkeys/.osc/config.json.
type profiles struct {
	Default struct {
		AccessKey string `json:"access_key"`
		SecretKey string `json:"secret_key"`
		Region    string `json:"region"`
	} `json:"default"`
}

// profile waits until the agent has written a profile whose key is another one, and returns it.
func (d *desk) profile(other string) profiles {
	d.t.Helper()
	d.until(2*time.Minute, "there is a new profile in "+oscProfiles, func() bool {
		text := d.file(oscProfiles)
		return text != "" && mustDecode[profiles](d.t, text).Default.AccessKey != other
	})
	return mustDecode[profiles](d.t, d.file(oscProfiles))
}

// deployKeys are the keys of the user whose keys are leased.
func (d *desk) deployKeys() []cloudsim.Key {
	var keys []cloudsim.Key
	for _, key := range d.account.Keys() {
		if key.User == "deploy" {
			keys = append(keys, key)
		}
	}
	return keys
}

func TestVaultAgentWritesFilesAndRenewsTheLease(t *testing.T) {
	t.Parallel()
	d := newDesk(t, soon)
	d.example("agent")
	d.page("docs/agent.md")
	own := map[string]string{
		".osc/config.json": `{"default": {"access_key": "mine"}}`,
		".aws/credentials": "[default]\naws_access_key_id = mine\n",
	}
	for name, text := range own {
		d.writeFile(name, text)
	}
	agent := d.startAgent("agent.hcl")

	first := d.profile("").Default
	d.until(10*time.Second, "all files are there", func() bool { return d.file(envFile) != "" && d.file(awsProfiles) != "" })
	keys := d.deployKeys()
	if len(keys) != 1 || keys[0].ID != first.AccessKey || first.SecretKey == "" || first.Region != "eu-west-2" {
		t.Fatalf("keys %+v, in the profile %s of %s: one lease is enough for all files", keys, first.AccessKey, first.Region)
	}
	t.Run("environment and AWS profile hold the same key", func(t *testing.T) {
		want := "OSC_ACCESS_KEY=" + first.AccessKey + "\nOSC_SECRET_KEY=" + first.SecretKey + "\nOSC_REGION=eu-west-2\n"
		if d.file(envFile) != want {
			t.Errorf("outscale.env differs from the profile")
		}
		want = "[outscale]\naws_access_key_id = " + first.AccessKey + "\naws_secret_access_key = " + first.SecretKey + "\nregion = eu-west-2\n"
		if d.file(awsProfiles) != want {
			t.Errorf("the AWS profile differs from the profile")
		}
	})
	t.Run("the reader's own profiles stay as they are", func(t *testing.T) {
		for name, text := range own {
			if got := d.file(name); got != text {
				t.Errorf("%s is now %q", name, got)
			}
		}
	})
	t.Run("nobody else may read the files", func(t *testing.T) {
		for _, name := range []string{oscProfiles, envFile, awsProfiles} {
			if info, err := os.Stat(filepath.Join(d.home, name)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
	})
	t.Run("the key's date follows the renewals, and the files stay", func(t *testing.T) {
		d.until(time.Minute, "the key's date has moved twice", func() bool {
			key, there := d.account.Key(first.AccessKey)
			return there && key.Expires.Sub(keys[0].Expires) > 20*time.Second
		})
		if now := d.profile("").Default; now != first {
			t.Errorf("the profile has key %s, before the end of the lease of %s", now.AccessKey, first.AccessKey)
		}
	})
	t.Run("a new key replaces the one whose lease can be renewed no more", func(t *testing.T) {
		second := d.profile(first.AccessKey).Default
		d.until(90*time.Second, "the first key is gone and the new one there", func() bool {
			keys := d.deployKeys()
			return len(keys) == 1 && keys[0].ID == second.AccessKey
		})
	})
	t.Run("a new key replaces one that was deleted in the cloud", func(t *testing.T) {
		deleted := d.profile("").Default.AccessKey
		d.account.DeleteKey(deleted)
		third := d.profile(deleted).Default.AccessKey
		if _, there := d.account.Key(third); !there {
			t.Errorf("the profile has key %s, which the cloud does not have", third)
		}
	})
	t.Run("no secret is in the agent's log", func(t *testing.T) {
		for _, secret := range d.sim.Secrets() {
			if strings.Contains(agent.logged(), secret) {
				t.Error("the log has a secret key")
			}
		}
	})
}

// job stands for what an operator runs. It notes its environment and waits to be ended.
const job = `#!/bin/sh
echo "$HUAWEICLOUD_SDK_AK $HUAWEICLOUD_SDK_SK" >> started
trap 'echo ended >> started; exit 0' TERM
while :; do sleep 0.1; done
`

func TestVaultAgentStartsACommandAgainWithEachNewKey(t *testing.T) {
	t.Parallel()
	d := newDesk(t, soon)
	d.example("agent")
	d.page("docs/agent.md")
	if err := os.WriteFile(filepath.Join(d.home, "job"), []byte(job), 0o700); err != nil {
		t.Fatal(err)
	}
	d.startAgent("supervisor.hcl")

	started := func() []string { return strings.Fields(d.file("started")) }
	d.until(time.Minute, "the job was started", func() bool { return len(started()) >= 2 })
	id := started()[0]
	if _, there := d.domain.Key(id); !there {
		t.Fatalf("the job was started with the key %s, which the cloud does not have", id)
	}
	d.until(2*time.Minute, "the job was ended and started with another key", func() bool { return len(started()) >= 5 })
	if got := started(); got[2] != "ended" || got[3] == id {
		t.Errorf("the job noted %s, %s, %s", got[0], got[2], got[3])
	}
}
