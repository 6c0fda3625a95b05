// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// product is one binary for one platform.
type product struct {
	name     string // of the archive
	version  string
	pkg      string
	os, arch string
	lambda   bool
	image    bool // it is published as an image for containers, too
}

// products are all that a release has.
func (s source) products() []product {
	var all []product
	for _, system := range []string{"darwin", "linux", "windows"} {
		for _, arch := range []string{"amd64", "arm64"} {
			all = append(
				all,
				product{name: pluginName, version: s.version, pkg: "./plugin/cmd/" + pluginName, os: system, arch: arch, image: system == "linux"},
			)
		}
	}
	for _, system := range []string{"darwin", "linux", "windows"} {
		for _, arch := range []string{"amd64", "arm64"} {
			all = append(
				all,
				product{name: commandName, version: s.version, pkg: "./functions/" + commandName, os: system, arch: arch, image: system == "linux"},
			)
		}
	}
	for _, name := range []string{"revoke-expired-keys", "sync-policy"} {
		for _, arch := range []string{"amd64", "arm64"} {
			all = append(
				all,
				product{name: "cloudkeys-" + name, version: s.version, pkg: "./functions/" + name, os: "linux", arch: arch, lambda: true},
			)
		}
	}
	return all
}

func (p product) base() string { return fmt.Sprintf("%s_%s_%s_%s", p.name, p.version, p.os, p.arch) }

// zipped: Lambda takes nothing else, and Windows unpacks it without further tools.
func (p product) zipped() bool { return p.lambda || p.os == "windows" }

// binary is the file's name in the archive. Lambda's provided.al2023 starts "bootstrap".
func (p product) binary() string {
	switch {
	case p.lambda:
		return "bootstrap"
	case p.os == "windows":
		return p.name + ".exe"
	default:
		return p.name
	}
}

// runPackage has the version that the functions' reports show.
const runPackage = "github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"

// build compiles a product. What would depend on the machine, the directory or the user's settings is switched off.
func (s source) build(ctx context.Context, p product, to string) error {
	stamp := "-s -w -buildid="
	if !p.lambda {
		stamp += " -X main.version=" + s.version + " -X main.commit=" + s.commit
	}
	if strings.HasPrefix(p.pkg, "./functions/") { // what their reports and user agents say
		stamp += " -X " + runPackage + ".released=" + s.version
	}
	if _, err := s.goFor(ctx, p, "build", "-trimpath", "-buildvcs=false", "-o", to, "-ldflags", stamp); err != nil {
		return err
	}
	return os.Chmod(filepath.Clean(to), 0o755)
}

// packages are the directories of all packages that a product links.
func (s source) packages(ctx context.Context, p product) ([]string, error) {
	out, err := s.goFor(ctx, p, "list", "-deps", "-f", "{{.Dir}}")
	return strings.Fields(string(out)), err
}

// goFor runs a command of the Go toolchain for a product, for its platform and with its tags alone.
func (s source) goFor(ctx context.Context, p product, args ...string) ([]byte, error) {
	if p.lambda {
		args = append(args, "-tags", "lambda.norpc")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, p.pkg)...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOAMD64=v1", "GOARM64=v8.0",
		"GOFLAGS=-mod=readonly", "GOEXPERIMENT=", "GOWORK=off", "GOTOOLCHAIN=local")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s %s: %w\n%s", args[0], p.pkg, err, said.Bytes())
	}
	return out, nil
}
