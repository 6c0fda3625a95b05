// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	testVersion = "v1.2.3"
	testCommit  = "0123456789abcdef0123456789abcdef01234567"
)

// TestTwoRunsGiveTheSameSums builds the plugin for this machine in two directories, with different settings in the environment.
func TestTwoRunsGiveTheSameSums(t *testing.T) {
	only := pluginName + "_" + testVersion + "_" + runtime.GOOS + "_" + runtime.GOARCH
	var outs []string
	for _, flags := range []string{"", "-race"} { // what a user may have set
		t.Setenv("GOFLAGS", flags)
		s := source{dir: copyOfTree(t), version: testVersion, commit: testCommit, date: time.Unix(1700000000, 0).UTC()}
		out := t.TempDir()
		if err := s.release(t.Context(), out, only); err != nil {
			t.Fatal(err)
		}
		outs = append(outs, out)
	}
	first, second := read(t, outs[0], "SHA256SUMS"), read(t, outs[1], "SHA256SUMS")
	if first != second {
		t.Errorf("first\n%s\nthen\n%s", first, second)
	}
	for _, name := range []string{only + ".tar.gz", only + ".cdx.json", "PLUGIN-SHA256", pluginName + "_" + testVersion + "_image.tar"} {
		if !strings.Contains(first, "  "+name+"\n") {
			t.Errorf("SHA256SUMS has no %s:\n%s", name, first)
		}
	}
	files := untar(t, []byte(read(t, outs[0], only+".tar.gz")))
	t.Run("the image has the binary of the archive", func(t *testing.T) {
		images := imagesOf(t, []byte(read(t, outs[0], pluginName+"_"+testVersion+"_image.tar")))
		image, is := images[runtime.GOARCH]
		if !is {
			t.Fatalf("%v", images)
		}
		layers, err := image.Layers()
		if err != nil {
			t.Fatal(err)
		}
		content, err := layers[0].Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		packed, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		if plain := plainTar(t, packed); len(layers) != 1 || string(plain[pluginName]) != files[pluginName] {
			t.Errorf("%d layers, and a binary of %d bytes", len(layers), len(plain[pluginName]))
		}
	})
	t.Run("the archive has binary, licences and bill", func(t *testing.T) {
		for _, module := range []string{"std", "github.com/hashicorp/vault/sdk", "github.com/outscale/osc-sdk-go/v2"} {
			if !strings.Contains(files["THIRD-PARTY-LICENSES.txt"], "  "+module+" ") {
				t.Errorf("the licences lack %s", module)
			}
		}
		for _, own := range []string{
			"golang-lru/v2 v", "simplelru/LICENSE_list", "go-jose/go-jose/v4 v", "json/LICENSE",
			"src/vendor/golang.org/x/crypto/LICENSE",
		} {
			if !strings.Contains(files["THIRD-PARTY-LICENSES.txt"], own) {
				t.Errorf("the licences lack %s", own)
			}
		}
		var bill document
		if err := json.Unmarshal([]byte(files["SBOM.cdx.json"]), &bill); err != nil {
			t.Fatal(err)
		}
		if bill.Format != "CycloneDX" || len(bill.Components) < 20 ||
			bill.Metadata.Component.Hashes[0].Content != sha256Hex([]byte(files[pluginName])) {
			t.Errorf("%+v, and %d components", bill.Metadata, len(bill.Components))
		}
		for _, c := range bill.Components {
			if len(c.Licenses) == 0 {
				t.Errorf("the licence of %s is not known", c.Name)
			}
		}
		if want := sha256Hex([]byte(files[pluginName])) + "  "; !strings.HasPrefix(read(t, outs[0], "PLUGIN-SHA256"), want) {
			t.Error("PLUGIN-SHA256 has another sum than the binary in the archive")
		}
	})
	t.Run("the binary tells version and commit", func(t *testing.T) {
		binary := filepath.Join(t.TempDir(), pluginName)
		if err := os.WriteFile(binary, []byte(files[pluginName]), 0o755); err != nil {
			t.Fatal(err)
		}
		said, err := exec.CommandContext(t.Context(), binary, "-version").CombinedOutput()
		if err != nil || !strings.Contains(string(said), testVersion) || !strings.Contains(string(said), testCommit) {
			t.Errorf("%s, %v", said, err)
		}
	})
	t.Run("nothing tells where it was built", func(t *testing.T) {
		for name, content := range files {
			if strings.Contains(content, os.TempDir()+"/Test") {
				t.Errorf("%s does", name)
			}
		}
	})
}

// TestMakeBuildStampsWhatGitSays builds a tree without git, at a tag, after it, and with changes.
func TestMakeBuildStampsWhatGitSays(t *testing.T) {
	dir := copyOfTree(t)
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
		said, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, said)
		}
		return strings.TrimSpace(string(said))
	}
	commit := func() string {
		run("git", "-c", "user.name=Somebody", "-c", "user.email=somebody@example.com", "commit", "-q", "--allow-empty", "-m", "A commit")
		return run("git", "rev-parse", "HEAD")
	}
	mustSay := func(when, version, commit string) {
		t.Helper()
		run("make", "build")
		if said := run(filepath.Join(".cache", "bin", pluginName), "-version"); !strings.Contains(said, " "+version+" (commit "+commit+",") {
			t.Errorf("%s: %s", when, said)
		}
	}
	mustSay("without git", "dev", "unknown")
	run("git", "init", "-q")
	run("git", "add", "-A")
	head := commit()
	mustSay("without a tag", "dev", head)
	run("git", "tag", "v9.8.7")
	mustSay("at a tag", "v9.8.7", head)
	head = commit()
	if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustSay("after it, with changes", "v9.8.7-1-g"+head[:7]+"-dirty", head+"-dirty")
}

// What a release has for other systems is made nowhere else: here one that locks files in its own way.
func TestTheCommandCompilesForWindows(t *testing.T) {
	s := source{dir: "../..", version: testVersion, commit: testCommit}
	for _, p := range s.products() {
		if p.name != commandName || p.os != "windows" || p.arch != "amd64" {
			continue
		}
		if err := s.build(t.Context(), p, filepath.Join(t.TempDir(), "cloudkeys.exe")); err != nil {
			t.Error(err)
		}
		return
	}
	t.Error("a release has no command for Windows")
}

func TestArchives(t *testing.T) {
	date := time.Date(2026, 3, 4, 5, 6, 8, 0, time.UTC)
	files := []file{{name: "b", content: []byte("two"), executable: true}, {name: "a", content: []byte("one")}}
	other := slices.Clone(files)
	slices.Reverse(other)
	for name, pack := range map[string]func([]file, time.Time) ([]byte, error){"tar.gz": packTarGz, "zip": packZip} {
		t.Run(name+" is the same in any order", func(t *testing.T) {
			first, err := pack(files, date)
			if err != nil {
				t.Fatal(err)
			}
			second, err := pack(other, date.In(time.FixedZone("elsewhere", 3600)))
			if err != nil || !bytes.Equal(first, second) {
				t.Errorf("it is not (%v)", err)
			}
		})
	}
	t.Run("a zip starts its binary", func(t *testing.T) {
		packed, err := packZip(files, date)
		if err != nil {
			t.Fatal(err)
		}
		archive, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
		if err != nil {
			t.Fatal(err)
		}
		if b := archive.File[1]; b.Name != "b" || b.Mode() != 0o755 || !b.Modified.Equal(date) {
			t.Errorf("%s, %s, %s", b.Name, b.Mode(), b.Modified)
		}
	})
}

func TestProducts(t *testing.T) {
	var names []string
	for _, p := range (source{version: testVersion}).products() {
		names = append(names, p.base())
	}
	if len(names) != 16 || len(slices.Compact(slices.Sorted(slices.Values(names)))) != 16 {
		t.Errorf("%v", names)
	}
}

func TestVersionsThatVaultRefusesAreRefused(t *testing.T) {
	for version, good := range map[string]bool{
		"v1.2.3": true, "v1.2.3-rc1": true, "v0.0.0-20260102030405-0123456789ab": true, "1.2.3": false, "v1.2": false, "v01.2.3": false,
		"main": false,
	} {
		if err := (source{version: version}).checkVersion(); (err == nil) != good {
			t.Errorf("%s: %v", version, err)
		}
	}
}

// Packages that a module has taken from elsewhere keep the licence that they came with.
func TestALicenceOfALinkedPackageIsPassedOn(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"LICENSE": "Apache License, Version 2.0", "json/LICENSE": "of json", "third/LICENSE_list": "of list", "third/party/a.go": "package party",
		"unlinked/LICENSE": "of nobody", "json/license.go": "package json",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := readModule("example.com/m", "v1.0.0", dir, []string{
		dir, filepath.Join(dir, "json"), filepath.Join(dir, "third/party"),
		"/elsewhere/unlinked",
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, text := range m.texts {
		names = append(names, text.name)
	}
	if want := []string{"LICENSE", "json/LICENSE", "third/LICENSE_list"}; !slices.Equal(names, want) || m.licence != "Apache-2.0" {
		t.Errorf("got %q and %s, want %q", names, m.licence, want)
	}
}

func TestAModuleWithoutLicenceEndsTheRelease(t *testing.T) {
	if _, err := readModule("example.com/m", "v1.0.0", t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "example.com/m") {
		t.Errorf("%v", err)
	}
}

// copyOfTree is this repository in another directory, as it stands, without what git ignores.
func copyOfTree(t *testing.T) string {
	t.Helper()
	root, to := "../..", t.TempDir()
	listed, err := exec.CommandContext(context.WithoutCancel(t.Context()), "git", "-C", root, "ls-files", "-z", "--cached", "--others",
		"--exclude-standard").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(listed), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not committed
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), content, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// untar returns the files of an archive, after looking at their owners, dates and order.
func untar(t *testing.T, packed []byte) map[string]string {
	t.Helper()
	plain, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	files, last := map[string]string{}, ""
	for archive := tar.NewReader(plain); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Gid != 0 || header.Uname != "" || header.ModTime.Unix() != 1700000000 || header.Name <= last {
			t.Errorf("%+v", header)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name], last = string(content), header.Name
	}
}
