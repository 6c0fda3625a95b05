// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package kubernetes

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// job is what a node would read of the Job that the CronJob makes.
type job struct {
	Spec struct {
		Template struct {
			Spec struct {
				ServiceAccountName string `json:"serviceAccountName"`
				Containers         []struct {
					Args []string `json:"args"`
					Env  []struct {
						Name  string `json:"name"`
						Value string `json:"value"`
					} `json:"env"`
				} `json:"containers"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

func TestTheCronJobSweeps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.reviewedLogin()
	w.account.AddUser("functions", "api:*", "iam:*")
	w.role("outscale", "1h", "2h")
	w.shell(`vault write outscale/roles/functions-default account=default user_names=functions ttl=15m max_ttl=30m
vault policy write cloudkeys-functions docs/examples/policies/vault-functions.hcl`)
	w.page("docs/functions.md", "run kubernetes")
	w.page("docs/functions.md", "run kubernetes kubectl")
	var made job
	if err := w.find("/apis/batch/v1/namespaces/operations/jobs/first-report", &made); err != nil {
		t.Fatal(err)
	}
	leased, orphan := w.plantOrphan()

	w.run("with its service account it logs in, reports, and changes nothing", func(t *testing.T) {
		if out, err := w.node(&made); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if !w.works(leased) || !w.works(orphan) {
			t.Errorf("the leased key works: %v, the one without a lease: %v", w.works(leased), w.works(orphan))
		}
	})
	w.run("in enforce mode it switches off what has no lease", func(t *testing.T) {
		if out, err := w.node(&made, "-mode", "enforce"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if !w.works(leased) || w.works(orphan) {
			t.Errorf("the leased key works: %v, the one without a lease: %v", w.works(leased), w.works(orphan))
		}
	})
	w.run("another service account of the namespace is refused", func(t *testing.T) {
		w.kubectl("-n", "operations", "create", "serviceaccount", "another")
		made.Spec.Template.Spec.ServiceAccountName = "another"
		if out, err := w.node(&made); err == nil || !strings.Contains(out, "403") && !strings.Contains(out, "not authorized") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// plantOrphan leases a key, and adds one that carries the mount's label and is in no ledger.
func (w *world) plantOrphan() (leased, orphan string) {
	w.t.Helper()
	secret, err := w.server.Client.Logical().ReadWithContext(w.t.Context(), "outscale/creds/deploy")
	if err != nil {
		w.t.Fatal(err)
	}
	leased = secret.Data["access_key"].(string)
	label, err := keylabel.Parse(w.mustKey(leased).Tag)
	if err != nil {
		w.t.Fatal(err)
	}
	now := time.Now()
	return leased, w.account.AddKey(cloudsim.KeySpec{
		User: "deploy", Tag: keylabel.New(label.Instance, keylabel.KindLease).String(),
		Created: now.Add(-3 * time.Hour), Expires: now.Add(48 * time.Hour),
	}).AccessKey
}

// node runs a job's command as a node runs its container: with the environment of the manifest, and the token of the service account.
func (w *world) node(j *job, more ...string) (string, error) {
	w.t.Helper()
	pod := j.Spec.Template.Spec
	if len(pod.Containers) != 1 {
		w.t.Fatalf("the job has %d containers", len(pod.Containers))
	}
	dir := w.t.TempDir()
	w.writeFile("token", strings.TrimSpace(w.kubectl("-n", "operations", "create", "token", pod.ServiceAccountName)))
	args := append(slices.Clone(pod.Containers[0].Args), more...)
	volume := slices.Index(args, "/records")
	if volume < 0 {
		w.t.Fatalf("the volume of the records is not in %q", args)
	}
	args[volume] = dir
	command := exec.CommandContext(w.t.Context(), filepath.Join(needed(w.t, "FUNCTIONS_BIN"), "cloudkeys", "cloudkeys"), args...)
	for _, variable := range pod.Containers[0].Env {
		command.Env = append(command.Env, variable.Name+"="+variable.Value)
	}
	command.Env = append(command.Env, "TMPDIR="+dir, "HOME="+dir, "VAULT_JWT_FILE="+filepath.Join(w.dir, "token"))
	command.Env = append(command.Env, w.outside...)
	out, err := command.CombinedOutput()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		w.t.Fatal(err)
	}
	return string(out), err
}
