// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const policyFiles = root + "/docs/examples/policies/"

// statement is what of a policy both clouds have.
type statement struct {
	Effect   string
	Action   []string
	Resource []string
}

// TestPoliciesOfThePagesAreTheFiles: what a page shows is what the files say, which the other
// tests try.
func TestPoliciesOfThePagesAreTheFiles(t *testing.T) {
	filesOf := map[string][]string{ // files by the note of a page's block
		"engine":           {"outscale-engine.json"},
		"builder":          {"outscale-engine.json", "outscale-engine-users.json"},
		"functions":        {"outscale-functions.json"},
		"huawei":           {"huawei-engine.json"},
		"huawei-functions": {"huawei-functions.json"},

		"huawei-identity":           {"huawei-engine-identity.json"},
		"huawei-functions-identity": {"huawei-functions-identity.json"},
	}
	var used []string
	for _, page := range pages(t) {
		for _, block := range page.Blocks {
			name, is := strings.CutPrefix(block.Note, "policy ")
			if !is {
				continue
			}
			var files []string
			for _, file := range filesOf[name] {
				used = append(used, file)
				files = append(files, rightsIn(t, policyFile(t, file))...)
			}
			if got := rightsIn(t, block.Text); !slices.Equal(got, files) {
				t.Errorf("%s:%d shows %v, and the files %v say %v", page.Name, block.Line, got, filesOf[name], files)
			}
		}
		for file, text := range vaultPolicies(page.Text) {
			used = append(used, file)
			if want := policyFile(t, file); text != want {
				t.Errorf("%s shows as %s:\n%s\nwhich says:\n%s", page.Name, file, text, want)
			}
		}
	}
	files, err := filepath.Glob(policyFiles + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.Contains(used, filepath.Base(file)) {
			t.Errorf("no page shows %s", file)
		}
	}
}

// TestIdentityPoliciesHoldWhatTheClassicOnesDo: the same calls, under each name that they may have.
func TestIdentityPoliciesHoldWhatTheClassicOnesDo(t *testing.T) {
	for _, name := range []string{"huawei-engine", "huawei-functions"} {
		classic := rightsIn(t, policyFile(t, name+".json"))
		identity := slices.DeleteFunc(rightsIn(t, policyFile(t, name+"-identity.json")), func(right string) bool {
			return strings.HasSuffix(right, "V5") || strings.HasPrefix(right, "sts:")
		})
		if !slices.Equal(classic, identity) {
			t.Errorf("%s-identity.json has %v, want %v", name, identity, classic)
		}
	}
}

// vaultPolicies are the policies that a page writes into Vault after it has linked to their
// files, by file.
func vaultPolicies(page string) map[string]string {
	policies := map[string]string{}
	linked := regexp.MustCompile(`(?s)\(examples/policies/(vault-\w+\.hcl)\).*?<<'(\w+)'\n(.*?)\n *(END|POLICY)\n`)
	for _, match := range linked.FindAllStringSubmatch(page, -1) {
		var lines []string
		for line := range strings.Lines(match[3] + "\n") {
			lines = append(lines, strings.TrimLeft(line, " "))
		}
		policies[match[1]] = strings.Join(lines, "")
	}
	return policies
}

func policyFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(policyFiles + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rightsIn are the actions of a policy's statements, each of which allows them everywhere.
func rightsIn(t *testing.T, text string) []string {
	t.Helper()
	var policy struct{ Statement []statement }
	if err := json.Unmarshal([]byte(text), &policy); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var rights []string
	for _, s := range policy.Statement {
		if s.Effect != "Allow" || len(s.Resource) > 0 && !slices.Equal(s.Resource, []string{"*"}) {
			t.Errorf("a statement of another kind: %+v", s)
		}
		rights = append(rights, s.Action...)
	}
	return rights
}
