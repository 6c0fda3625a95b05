// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// job is what these tests look at of a CronJob.
type job struct {
	Kind string
	Spec struct {
		ConcurrencyPolicy string `yaml:"concurrencyPolicy"`
		JobTemplate       struct {
			Spec struct {
				BackoffLimit          *int `yaml:"backoffLimit"`
				ActiveDeadlineSeconds int  `yaml:"activeDeadlineSeconds"`
				Template              struct {
					Spec struct {
						SecurityContext struct {
							RunAsNonRoot bool `yaml:"runAsNonRoot"`
						} `yaml:"securityContext"`
						Containers []struct {
							Args []string
							Env  []struct{ Name, Value string }

							SecurityContext struct {
								ReadOnlyRootFilesystem bool `yaml:"readOnlyRootFilesystem"`
							} `yaml:"securityContext"`
						}
					}
				}
			} `yaml:"spec"`
		} `yaml:"jobTemplate"`
	}
}

// The CronJob's command and environment are run for real, but for the place of Vault and of the
// records: there is no cluster here.
func TestTheCronJobOfTheExamples(t *testing.T) {
	text, err := os.ReadFile("../../docs/examples/functions/cronjob.yaml")
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var found job
	for found.Kind != "CronJob" {
		found = job{}
		if err := decoder.Decode(&found); err != nil {
			t.Fatal(err)
		}
	}
	inner := found.Spec.JobTemplate.Spec
	pod := inner.Template.Spec
	if found.Spec.ConcurrencyPolicy != "Forbid" || inner.BackoffLimit == nil || *inner.BackoffLimit != 0 || inner.ActiveDeadlineSeconds == 0 ||
		!pod.SecurityContext.RunAsNonRoot || len(pod.Containers) != 1 || !pod.Containers[0].SecurityContext.ReadOnlyRootFilesystem {
		t.Errorf("got %+v", found)
	}
	w := newWorld(t)
	for _, variable := range pod.Containers[0].Env {
		if !strings.HasPrefix(variable.Name, "VAULT_") {
			w.env[variable.Name] = variable.Value
		}
	}
	args := slices.Clone(pod.Containers[0].Args)
	args[slices.Index(args, "/records")] = t.TempDir()
	w.mustExit(exitDone, args...)
	w.mustHave(w.expired, true)
}

func TestTheServiceOfTheExamples(t *testing.T) {
	text, err := os.ReadFile("../../docs/examples/functions/cloudkeys-revoke.service")
	if err != nil {
		t.Fatal(err)
	}
	_, line, found := strings.Cut(string(text), "ExecStart=/usr/local/bin/cloudkeys ")
	line, _, _ = strings.Cut(line, "\n")
	if !found {
		t.Fatalf("it starts nothing: %s", text)
	}
	w := newWorld(t)
	args := strings.Fields(line)
	args[slices.Index(args, "/var/lib/cloudkeys")] = t.TempDir()
	w.mustExit(exitDone, args...)
}
