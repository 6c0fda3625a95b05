// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/scripts/docs/markdown"
)

const root = "../.."

// pages are README and its like, and everything in docs/.
func pages(t *testing.T) []markdown.Page {
	t.Helper()
	found, err := markdown.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCommandsAreWellFormed(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages(t) {
		for _, block := range page.Blocks {
			if block.Language != "sh" {
				continue
			}
			check := exec.CommandContext(t.Context(), shell, "-n")
			check.Stdin = strings.NewReader(block.Text)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s:%d: %v: %s", page.Name, block.Line, err, out)
			}
		}
	}
}

// A catalog with and without versions of one plugin answers otherwise on some servers (Vault 2.1).
func TestPluginsAreRegisteredWithTheirVersion(t *testing.T) {
	registers := regexp.MustCompile(`\bplugin register\s+-(?:[^\n]*\\\n)*[^\n]*`)
	found := 0
	for _, page := range pages(t) {
		for _, command := range registers.FindAllString(page.Text, -1) {
			found++
			if !strings.Contains(command, "-version=") {
				t.Errorf("%s: %s", page.Name, command)
			}
		}
	}
	if found == 0 {
		t.Error("no page registers the plugin")
	}
}

func TestDocumentsInJSONAreWellFormed(t *testing.T) {
	for _, page := range pages(t) {
		for _, block := range page.Blocks {
			if block.Language == "json" && !json.Valid([]byte(block.Text)) {
				t.Errorf("%s:%d: no JSON", page.Name, block.Line)
			}
		}
	}
}

func TestTestsThatAreNamedExist(t *testing.T) {
	tests := testFunctions(t)
	name := regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]+)`")
	for _, page := range pages(t) {
		for _, match := range name.FindAllStringSubmatch(page.Text, -1) {
			if !tests[match[1]] {
				t.Errorf("%s names %s, and there is no such test", page.Name, match[1])
			}
		}
	}
}

// testFunctions are the names of all tests of this repository.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func (Test[A-Z]\w*)\(`)
	tests := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, match := range function.FindAllSubmatch(source, -1) {
			tests[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

func TestEveryAssumptionIsListed(t *testing.T) {
	text, err := os.ReadFile(root + "/docs/verified.md")
	if err != nil {
		t.Fatal(err)
	}
	for file, structure := range map[string]string{"cloud.go": "Rules", "huawei_rules.go": "HuaweiRules"} {
		for _, field := range fieldsOf(t, root+"/test/cloudsim/"+file, structure) {
			if !strings.Contains(string(text), "`"+structure+"."+field+"`") {
				t.Errorf("verified.md does not name %s.%s", structure, field)
			}
		}
	}
	for _, match := range regexp.MustCompile("`((?:Huawei)?Rules)\\.(\\w+)`").FindAllStringSubmatch(string(text), -1) {
		file := map[string]string{"Rules": "cloud.go", "HuaweiRules": "huawei_rules.go"}[match[1]]
		if !slices.Contains(fieldsOf(t, root+"/test/cloudsim/"+file, match[1]), match[2]) {
			t.Errorf("verified.md names %s.%s, which cloudsim does not have", match[1], match[2])
		}
	}
}

// fieldsOf are the fields of a structure in a source file.
func fieldsOf(t *testing.T, file, structure string) []string {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	ast.Inspect(tree, func(n ast.Node) bool {
		spec, is := n.(*ast.TypeSpec)
		if !is || spec.Name.Name != structure {
			return true
		}
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			for _, name := range field.Names {
				names = append(names, name.Name)
			}
		}
		return false
	})
	if len(names) == 0 {
		t.Fatalf("%s has no structure %s", file, structure)
	}
	return names
}

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings := map[string]map[string]bool{}
	for _, page := range pages(t) {
		headings[filepath.Clean(page.Path)] = page.Anchors
	}
	for _, page := range pages(t) {
		for _, match := range link.FindAllStringSubmatch(page.Prose, -1) {
			target, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := filepath.Clean(page.Path)
			if target != "" {
				path = filepath.Join(filepath.Dir(page.Path), target)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s, which is not there", page.Name, target)
				continue
			}
			if anchors, known := headings[path]; anchor != "" && known && !anchors[anchor] {
				t.Errorf("%s links to %s, and the page has no such heading", page.Name, match[1])
			}
		}
	}
}

// longestReadme is what somebody reads before deciding whether to go on.
const longestReadme = 180

func TestTheReadmeStaysShort(t *testing.T) {
	for _, page := range pages(t) {
		if lines := strings.Count(page.Text, "\n"); page.Name == "README.md" && lines > longestReadme {
			t.Errorf("README.md has %d lines, and %d are the most: move something to docs/", lines, longestReadme)
		}
	}
}

func TestTheIndexNamesEveryPage(t *testing.T) {
	var index string
	for _, page := range pages(t) {
		if page.Name == filepath.Join("docs", "README.md") {
			index = page.Text
		}
	}
	for _, page := range pages(t) {
		dir, name := filepath.Split(page.Name)
		if dir == "docs/" && name != "README.md" && !strings.Contains(index, "("+name+")") {
			t.Errorf("docs/README.md does not name %s", page.Name)
		}
	}
}

// TestEveryPageShowsTheShelves: a reader may enter docs/ by any page, such as from a search engine.
func TestEveryPageShowsTheShelves(t *testing.T) {
	const shelves = "\n\n[Use](README.md#use-it) · [Operate](README.md#operate-it) · [Develop](README.md#develop-it)\n\n"
	found := 0
	for _, page := range pages(t) {
		dir, name := filepath.Split(page.Name)
		if dir != "docs/" || name == "README.md" {
			continue
		}
		found++
		if title, _, _ := strings.Cut(page.Text, "\n"); !strings.HasPrefix(page.Text, title+shelves) {
			t.Errorf("%s does not show the shelves below its title:%s", page.Name, shelves)
		}
	}
	if found == 0 {
		t.Error("docs/ has no pages")
	}
}

// TestTheReadmeShowsTheDemoAsItIs holds the steps in README's output of make demo to those that the demo prints.
func TestTheReadmeShowsTheDemoAsItIs(t *testing.T) {
	var source strings.Builder
	files, err := filepath.Glob(filepath.Join(root, "scripts", "demo", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	steps := regexp.MustCompile(`(?m)^    # (.+)$`).FindAllStringSubmatch(string(readme), -1)
	if len(steps) == 0 {
		t.Error("README.md shows no step of the demo")
	}
	for _, step := range steps {
		if !strings.Contains(source.String(), step[1]) {
			t.Errorf("the demo does not print %q", step[1])
		}
	}
}

// TestTheQuestionsOfUsersAreAnswered: what people look for before they try the engine has a question of its own in faq.md.
func TestTheQuestionsOfUsersAreAnswered(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "faq.md"))
	if err != nil {
		t.Fatal(err)
	}
	questions := regexp.MustCompile(`(?m)^\*\*(.+\?)\*\* .{8,}$`).FindAllStringSubmatch(string(page), -1)
	for _, about := range []string{
		"vault image, or with Helm", "Which versions of", "GitHub Actions, GitLab, Jenkins", "keys made by hand", "get rid of it", "proxy",
		"Several cloud accounts", "`ttl` for CI", "before its lease ended", "Cockpit, OOS, ICU", "user interface", "at the cloud's API", "Namespaces", "Terraform",
		"from a laptop", "client counts", "Windows and macOS", "functions without AWS",
	} {
		if !slices.ContainsFunc(questions, func(question []string) bool { return strings.Contains(question[1], about) }) {
			t.Errorf("faq.md has no question with %q, or no answer to it", about)
		}
	}
}

// TestTheKubernetesPageNamesWhatIsPinned holds the versions under "What was run" to the modules that make test-kubernetes builds.
func TestTheKubernetesPageNamesWhatIsPinned(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs/kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, run, found := strings.Cut(string(page), "\n## What was run\n")
	if !found {
		t.Fatal("the page does not say what was run")
	}
	for _, pinned := range []struct{ pin, module, says string }{
		{"vault", "github.com/hashicorp/vault", "on Vault %s and OpenBao"},
		{"kubernetes", "k8s.io/kubernetes", "| kube-apiserver, kubectl | %s,"},
		{"kubernetes", "go.etcd.io/etcd/server/v3", "with etcd %s;"},
		{"vault-secrets-operator", "github.com/hashicorp/vault-secrets-operator", "| Vault Secrets Operator | %s,"},
		{"external-secrets", "github.com/external-secrets/external-secrets", "| External Secrets | %s,"},
		{"vault", "github.com/hashicorp/vault-plugin-auth-kubernetes", "| vault-plugin-auth-kubernetes %s on"},
	} {
		pins, err := os.ReadFile(filepath.Join(root, "scripts/pins", pinned.pin, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		version := regexp.MustCompile(`(?m)(?:^|\s)` + regexp.QuoteMeta(pinned.module) + ` v(\S+)`).FindSubmatch(pins)
		if version == nil {
			t.Fatalf("%s is not pinned by scripts/pins/%s", pinned.module, pinned.pin)
		}
		if want := strings.ReplaceAll(pinned.says, "%s", string(version[1])); !strings.Contains(run, want) {
			t.Errorf("the page does not say %q, which is what runs", want)
		}
	}
}
