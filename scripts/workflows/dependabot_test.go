// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package workflows

import (
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// Dependabot looks nowhere else: a directory that it does not watch grows old, and one without such a file fails it.
func TestDependabotKnowsEveryDirectoryThatNamesDependencies(t *testing.T) {
	var config struct {
		Updates []struct {
			Ecosystem   string `yaml:"package-ecosystem"`
			Directories []string
		}
	}
	if err := yaml.Unmarshal(read(t, root+"/.github/dependabot.yml"), &config); err != nil {
		t.Fatal(err)
	}
	watched := map[string][]string{}
	for _, update := range config.Updates {
		watched[update.Ecosystem] = slices.Sorted(slices.Values(update.Directories))
	}
	for ecosystem, file := range map[string]string{"gomod": "go.mod", "pip": "requirements.txt"} {
		list := exec.CommandContext(t.Context(), "git", "ls-files", file, "*/"+file)
		list.Dir = root
		out, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		var there []string
		for name := range strings.FieldsSeq(string(out)) {
			there = append(there, path.Dir("/"+name))
		}
		slices.Sort(there)
		if len(there) == 0 || !slices.Equal(watched[ecosystem], there) {
			t.Errorf("%s: Dependabot watches %q, and %s stands in %q", ecosystem, watched[ecosystem], file, there)
		}
	}
}

// With the version of go.mod, which is the oldest that will do, a release would have vulnerabilities that are known and fixed.
func TestWorkflowsBuildWithTheNewestGoOfTheModules(t *testing.T) {
	minor := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(read(t, root+"/go.mod"))
	for file, w := range workflows(t) {
		for name, job := range w.Jobs {
			for _, step := range job.Steps {
				if strings.HasPrefix(step.Uses, "actions/setup-go@") && (step.With["go-version"] != string(minor[1])+".x" || step.With["check-latest"] != true) {
					t.Errorf("%s, %s: builds with %v", file, name, step.With)
				}
			}
		}
	}
}
