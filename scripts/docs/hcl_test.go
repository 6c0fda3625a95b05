// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/hcl"
)

// TestHCLSetsNothingTwice reads each policy and configuration of the pages and examples as Vault 2.1 does, which refuses an attribute
// that is set twice; older servers took the last.
func TestHCLSetsNothingTwice(t *testing.T) {
	if _, err := hcl.Parse("a = 1\na = 2\n"); err == nil {
		t.Fatal("the parser takes an attribute that is set twice")
	}
	texts := map[string]string{}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".hcl" {
			return err
		}
		text, err := os.ReadFile(path)
		texts[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	written := regexp.MustCompile(`(?s)policy write \S+ - <<'(\w+)'\n(.*?)\n *(?:END|POLICY)\n`)
	for _, page := range pages(t) {
		for _, block := range page.Blocks {
			name := fmt.Sprintf("%s:%d", page.Name, block.Line)
			if block.Language == "hcl" && page.Name != "docs/terraform.md" { // which is of another HCL
				texts[name] = block.Text
			}
			for i, policy := range written.FindAllStringSubmatch(block.Text, -1) {
				texts[fmt.Sprintf("%s, policy %d", name, i+1)] = policy[2]
			}
		}
	}
	if len(texts) < 10 {
		t.Fatalf("only %d policies and configurations were found", len(texts))
	}
	for name, text := range texts {
		if _, err := hcl.Parse(strings.TrimSpace(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
