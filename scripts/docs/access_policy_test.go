// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// policyUpdate is the call that replaces an account's whole access policy, and policySwitches are what must be sent along (API 1.43.2).
const policyUpdate = "UpdateApiAccessPolicy"

var policySwitches = []string{"RequireTrustedEnv", "RequireTrustedEnvSecureMode"}

var (
	// fixedSwitch is a switch of the access policy with a value that stands there, in a command, as JSON or as Terraform has it.
	fixedSwitch = regexp.MustCompile(`(?i)require_?trusted_?env\w*["'` + "`" + `]?[\s:=]+["'` + "`" + `]?(true|false|on|off|yes|no|0|1)\b`)
	// sentSwitch is one in a command, with the beginning of its value.
	sentSwitch = regexp.MustCompile(`--(RequireTrustedEnv\w*)[= ]("\$\()?`)
)

// switchesThatWereNotRead says what is wrong with a piece of a page: pasted, it would end an account's trusted sessions, or switch its
// secure mode off.
func switchesThatWereNotRead(text string) []string {
	wrong := fixedSwitch.FindAllString(text, -1)
	before, call, named := strings.Cut(text, policyUpdate)
	if !named || !strings.HasPrefix(call, " --") {
		return wrong
	}
	if !strings.Contains(before, "ReadApiAccessPolicy") {
		wrong = append(wrong, policyUpdate+" without a ReadApiAccessPolicy before it")
	}
	var sent []string
	for _, match := range sentSwitch.FindAllStringSubmatch(call, -1) {
		if match[2] != "" {
			sent = append(sent, match[1])
		}
	}
	for _, name := range policySwitches {
		if !slices.Contains(sent, name) {
			wrong = append(wrong, policyUpdate+" without the "+name+" that was read")
		}
	}
	return wrong
}

func TestNoPageSetsASwitchOfTheAccessPolicyThatItHasNotRead(t *testing.T) {
	updates := 0
	for _, page := range pages(t) {
		for _, wrong := range fixedSwitch.FindAllString(page.Text, -1) {
			t.Errorf("%s: %q", page.Name, wrong)
		}
		for _, block := range page.Blocks {
			if strings.Contains(block.Text, policyUpdate+" --") {
				updates++
			}
			for _, wrong := range switchesThatWereNotRead(block.Text) {
				t.Errorf("%s:%d: %s", page.Name, block.Line, wrong)
			}
		}
	}
	if updates == 0 {
		t.Error("no page says how the policy is updated")
	}
	err := filepath.WalkDir(filepath.Join(root, "docs", "examples"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, wrong := range switchesThatWereNotRead(string(text)) {
			t.Errorf("%s: %s", path, wrong)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSwitchesThatWereNotReadAreFound(t *testing.T) {
	const read = "octl iaas api ReadApiAccessPolicy > policy.json\n"
	for name, test := range map[string]struct {
		text string
		want int
	}{
		"as the page had it":   {"osc-cli api UpdateApiAccessPolicy --MaxAccessKeyExpirationSeconds 86400 --RequireTrustedEnv False", 4},
		"in JSON":              {`{"RequireTrustedEnv": false}`, 1},
		"in Terraform":         {"require_trusted_env = true", 1},
		"one of two":           {read + `octl iaas api UpdateApiAccessPolicy --MaxAccessKeyExpirationSeconds 86400 --RequireTrustedEnv="$(sent x)"`, 1},
		"a value of one's own": {read + `octl iaas api UpdateApiAccessPolicy --RequireTrustedEnv="$(a)" --RequireTrustedEnvSecureMode=$off`, 1},
		"what was read":        {read + `octl iaas api UpdateApiAccessPolicy --RequireTrustedEnv="$(a)" --RequireTrustedEnvSecureMode="$(b)"`, 0},
		"its name alone":       {"`RequireTrustedEnv` where trusted sessions are used; api:UpdateApiAccessPolicy", 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := switchesThatWereNotRead(test.text); len(got) != test.want {
				t.Errorf("got %q, want %d", got, test.want)
			}
		})
	}
}
