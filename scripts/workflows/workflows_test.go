// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package workflows holds what runs on GitHub, and the pages for contributors, to the Makefile: whatever a workflow does, anybody
// can do on a machine of their own.
package workflows

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const root = "../.."

// workflow is what of a workflow these tests look at.
type workflow struct {
	Permissions *map[string]string
	Jobs        map[string]job
}

type job struct {
	Permissions map[string]string
	Timeout     int `yaml:"timeout-minutes"`
	Strategy    struct{ Matrix map[string][]string }
	Steps       []step
}

type step struct {
	Run, Uses string
	Env       map[string]string
	With      map[string]any
}

// workflows are those of the repository, by file.
func workflows(t *testing.T) map[string]workflow {
	t.Helper()
	files, err := filepath.Glob(root + "/.github/workflows/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	all := map[string]workflow{}
	for _, file := range files {
		var w workflow
		if err := yaml.Unmarshal(read(t, file), &w); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[filepath.Base(file)] = w
	}
	return all
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// targets maps each target of the Makefile to the sign before its comment: ## in make help, #: in CONTRIBUTING.md.
func targets(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, match := range regexp.MustCompile(`(?m)^([a-z-]+):[^=\n]*? (##|#:) `).FindAllSubmatch(read(t, root+"/Makefile"), -1) {
		found[string(match[1])] = string(match[2])
	}
	return found
}

func TestEachStepRunsATargetOfTheMakefile(t *testing.T) {
	known := targets(t)
	for file, w := range workflows(t) {
		for name, job := range w.Jobs {
			for _, step := range job.Steps {
				for _, target := range runs(t, job, step) {
					if known[target] == "" {
						t.Errorf("%s, %s: %q: the Makefile has no target %q with a comment", file, name, step.Run, target)
					}
				}
			}
		}
	}
}

// runs are the targets that a step makes, those of a matrix one by one.
func runs(t *testing.T, j job, s step) []string {
	t.Helper()
	if s.Run == "" {
		return nil
	}
	words := strings.Fields(s.Run)
	if words[0] != "make" || len(words) < 2 {
		t.Errorf("%q is not make and a target", s.Run)
		return nil
	}
	variable := regexp.MustCompile(`^"\$([A-Z]+)"$`)
	matrix := regexp.MustCompile(`^\$\{\{ matrix\.(\w+) \}\}$`)
	var made []string
	for _, word := range words[1:] {
		match := variable.FindStringSubmatch(word)
		if match == nil {
			made = append(made, word)
			continue
		}
		of := matrix.FindStringSubmatch(s.Env[match[1]])
		if of == nil || len(j.Strategy.Matrix[of[1]]) == 0 {
			t.Errorf("%q: %s is not set from a matrix of the job", s.Run, word)
			continue
		}
		made = append(made, j.Strategy.Matrix[of[1]]...)
	}
	return made
}

func TestWhatAStepMayRun(t *testing.T) {
	matrix := job{}
	matrix.Strategy.Matrix = map[string][]string{"target": {"torture", "bench"}}
	for name, test := range map[string]struct {
		step step
		want []string
	}{
		"a target":          {step{Run: "make check"}, []string{"check"}},
		"several":           {step{Run: "make build test-race"}, []string{"build", "test-race"}},
		"those of a matrix": {step{Run: `make "$TARGET"`, Env: map[string]string{"TARGET": "${{ matrix.target }}"}}, []string{"torture", "bench"}},
		"an action":         {step{Uses: "actions/checkout@0"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := runs(t, matrix, test.step); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// An action is somebody else's program: a tag can be moved to another one, the digest of a commit cannot.
func TestActionsArePinnedByDigestAndSayTheirVersion(t *testing.T) {
	files, err := filepath.Glob(root + "/.github/workflows/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	pinned := regexp.MustCompile(`uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	digests := map[string]string{}
	for _, file := range files {
		for line := range strings.Lines(string(read(t, file))) {
			line = strings.TrimSpace(line)
			if !strings.Contains(line, "uses:") {
				continue
			}
			if !pinned.MatchString(line) {
				t.Errorf("%s: %q has no digest, or does not say of which version it is", file, line)
			}
			action, digest, _ := strings.Cut(line, "@")
			if before := digests[action]; before != "" && before != digest {
				t.Errorf("%s is %s in one place and %s in another", action, before, digest)
			}
			digests[action] = digest
		}
	}
}

func TestWorkflowsHaveNoRightsButThoseThatAJobNames(t *testing.T) {
	for file, w := range workflows(t) {
		if w.Permissions == nil || len(*w.Permissions) > 0 {
			t.Errorf("%s does not begin with `permissions: {}`", file)
		}
		for name, job := range w.Jobs {
			if job.Permissions["contents"] == "write" && file != "release.yml" {
				t.Errorf("%s, %s: only a release may write", file, name)
			}
			if job.Timeout == 0 {
				t.Errorf("%s, %s: has no timeout-minutes, and would run for six hours", file, name)
			}
		}
	}
}

func TestHelpShowsTenTargets(t *testing.T) {
	help := exec.CommandContext(t.Context(), "make", "--no-print-directory", "-s", "help")
	help.Dir = root
	help.Env = append(os.Environ(), "MAKEFLAGS=", "VAULT_BIN=")
	out, err := help.CombinedOutput()
	if err != nil {
		t.Fatalf("make help: %v\n%s", err, out)
	}
	if lines := strings.Count(string(out), "\n"); lines != 10 {
		t.Errorf("%d lines, want 10:\n%s", lines, out)
	}
}

func TestEachTargetIsInHelpOrInTheGuideForContributors(t *testing.T) {
	guide := string(read(t, root+"/CONTRIBUTING.md"))
	for target, sign := range targets(t) {
		if listed := strings.Contains(guide, "| `make "+target+"`"); sign == "#:" && !listed {
			t.Errorf("CONTRIBUTING.md has no row for make %s", target)
		} else if sign == "##" && listed {
			t.Errorf("make %s stands in make help, and in CONTRIBUTING.md's table of the others", target)
		}
	}
	for _, match := range regexp.MustCompile("\\| `make ([a-z-]+)`").FindAllStringSubmatch(guide, -1) {
		if targets(t)[match[1]] == "" {
			t.Errorf("CONTRIBUTING.md names make %s, which the Makefile does not have", match[1])
		}
	}
}
