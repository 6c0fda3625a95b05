// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"archive/zip"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// stackOf packs the stack of functions that are no binaries, and returns its files.
func stackOf(t *testing.T, arch string) map[string]string {
	t.Helper()
	s, out := source{dir: "../..", version: testVersion, date: time.Unix(1700000000, 0).UTC()}, t.TempDir()
	var products []built
	for _, p := range s.products() {
		if p.lambda && p.arch == arch {
			products = append(products, built{p, []file{{name: "bootstrap", content: []byte(p.name), executable: true}}})
		}
	}
	if err := s.writeStacks(products, out); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil || len(names) != 1 || filepath.Base(names[0]) != "cloudkeys-stack_"+testVersion+"_linux_"+arch+".zip" {
		t.Fatalf("got %v, %v", names, err)
	}
	return unzip(t, []byte(read(t, out, filepath.Base(names[0]))))
}

// unzip returns the files of a zip.
func unzip(t *testing.T, packed []byte) map[string]string {
	t.Helper()
	archive, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range archive.File {
		content, err := fs.ReadFile(archive, f.Name)
		if err != nil {
			t.Fatal(err)
		}
		files[f.Name] = string(content)
	}
	return files
}

func TestTheReleasedStackNeedsNothingButItself(t *testing.T) {
	for arch, lambda := range map[string]string{"amd64": "x86_64", "arm64": "arm64"} {
		files := stackOf(t, arch)
		var template struct {
			Parameters map[string]struct {
				Default       string
				AllowedValues []string `yaml:"AllowedValues"`
			} `yaml:"Parameters"`
			Globals   struct{ Function map[string]yaml.Node } `yaml:"Globals"`
			Resources map[string]struct {
				Type       string               `yaml:"Type"`
				Metadata   map[string]yaml.Node `yaml:"Metadata"`
				Properties map[string]yaml.Node `yaml:"Properties"`
			} `yaml:"Resources"`
		}
		if err := yaml.Unmarshal([]byte(files["template.yaml"]), &template); err != nil {
			t.Fatal(err)
		}
		if allowed := template.Parameters["Architecture"].AllowedValues; !slices.Equal(allowed, []string{lambda}) {
			t.Errorf("it may be deployed as %v", allowed)
		}
		want := map[string]string{"RevokeExpiredKeysFunction": "cloudkeys-revoke-expired-keys", "SyncPolicyFunction": "cloudkeys-sync-policy"}
		for id, resource := range template.Resources {
			switch resource.Type {
			case "AWS::Serverless::Function":
				packed, is := files[resource.Properties["CodeUri"].Value]
				if !is || len(resource.Metadata) > 0 || unzip(t, []byte(packed))["bootstrap"] != want[id] {
					t.Errorf("the code of %s is %q, metadata %v", id, resource.Properties["CodeUri"].Value, resource.Metadata)
				}
			case "AWS::Serverless::StateMachine":
				if files[resource.Properties["DefinitionUri"].Value] == "" {
					t.Errorf("the definition of %s is not there", id)
				}
			}
		}
		if !strings.Contains(files["template.yaml"], "Release "+testVersion) {
			t.Error("the template does not tell its version")
		}
	}
}

func TestATemplateThatCannotBePackagedIsRefused(t *testing.T) {
	text, err := os.ReadFile("../../template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	moved := bytes.Replace(text, []byte("    CodeUri: .\n"), []byte("    CodeUri: src\n"), 1)
	if _, err := packagedTemplate(string(moved), testVersion, "arm64"); err == nil || !strings.Contains(err.Error(), "CodeUri") {
		t.Errorf("got %v", err)
	}
}
