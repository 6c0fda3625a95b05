// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	pluginName  = "vault-plugin-secrets-cloudkeys"
	commandName = "cloudkeys" // the functions' jobs without AWS
)

// semver is what Vault accepts as the version of a plugin.
var semver = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)

func (s source) checkVersion() error {
	if !semver.MatchString(s.version) {
		return fmt.Errorf("version %q is not of the form v1.2.3 or v1.2.3-rc1: Vault would not register it", s.version)
	}
	return nil
}

// release builds everything whose name has only in it into out, with a file of sums.
func (s source) release(ctx context.Context, out, only string) error {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var binaries strings.Builder
	var products []built
	for _, p := range s.products() {
		if !strings.Contains(p.base(), only) {
			continue
		}
		fmt.Println(p.base())
		files, err := s.publish(ctx, p, out)
		if err != nil {
			return fmt.Errorf("%s: %w", p.base(), err)
		}
		products = append(products, built{p, files})
		if p.name != pluginName {
			continue
		}
		fmt.Fprintf(&binaries, "%s  %s_%s/%s\n", sumOf(p, files), p.os, p.arch, p.binary())
	}
	// What vault plugin register wants is the sum of the binary, not of the archive.
	if err := os.WriteFile(filepath.Join(out, "PLUGIN-SHA256"), []byte(binaries.String()), 0o644); err != nil {
		return err
	}
	if err := s.writeStacks(products, out); err != nil {
		return err
	}
	if err := s.writeImages(products, out); err != nil {
		return err
	}
	return writeSums(out)
}

// publish builds one product and writes its archive and bill of materials. It returns the files of the archive.
func (s source) publish(ctx context.Context, p product, out string) ([]file, error) {
	work, err := os.MkdirTemp("", "cloudkeys-release")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	binary := filepath.Join(work, p.binary())
	if err := s.build(ctx, p, binary); err != nil {
		return nil, err
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	modules, err := s.linked(ctx, p, binary)
	if err != nil {
		return nil, err
	}
	own, err := os.ReadFile(filepath.Join(s.dir, "LICENSE"))
	if err != nil {
		return nil, err
	}
	bill, err := s.bill(p, sha256Hex(content), modules)
	if err != nil {
		return nil, err
	}
	files := []file{
		{name: "LICENSE", content: own},
		{name: "SBOM.cdx.json", content: bill},
		{name: "THIRD-PARTY-LICENSES.txt", content: thirdParty(modules)},
		{name: p.binary(), content: content, executable: true},
	}
	pack, suffix := packTarGz, ".tar.gz"
	if p.zipped() {
		pack, suffix = packZip, ".zip"
	}
	packed, err := pack(files, s.date)
	if err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{p.base() + suffix: packed, p.base() + ".cdx.json": bill} {
		if err := os.WriteFile(filepath.Join(out, name), content, 0o644); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// sumOf is the SHA-256 of a product's binary, empty if the files have none.
func sumOf(p product, files []file) string {
	for _, f := range files {
		if f.name == p.binary() {
			return sha256Hex(f.content)
		}
	}
	return ""
}

// writeSums lists the sums of all files of a directory, as sha256sum -c reads them.
func writeSums(dir string) error {
	names, err := fs.Glob(os.DirFS(dir), "*") // sorted
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%s  %s\n", sha256Hex(content), name)
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o644)
}

func sha256Hex(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
