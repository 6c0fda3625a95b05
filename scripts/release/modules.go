// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// module is one module that is linked into a binary, with the texts that its licence asks to be passed on.
type module struct {
	path    string
	version string
	licence string // SPDX id, as far as the text is a known one
	texts   []text
}

type text struct {
	name    string
	content []byte
}

// licenceFile are the names of files that hold a licence or a notice.
var licenceFile = regexp.MustCompile(`(?i)^(un)?(licen[sc]e|copying|copyright|notice|patents)([._-].*)?$`)

// linked reads from a binary which modules are in it, which is less than go.mod has, and their licences from the module cache, those
// of single packages among them. The standard library comes first.
func (s source) linked(ctx context.Context, p product, binary string) ([]module, error) {
	packages, err := s.packages(ctx, p)
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("reading what is linked: %w", err)
	}
	goroot, err := s.goTool(ctx, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	standard, err := readModule("std", info.GoVersion, strings.TrimSpace(string(goroot)), packages)
	if err != nil {
		return nil, err
	}
	var wanted []string
	for _, dep := range info.Deps {
		path, version := dep.Path, dep.Version
		if dep.Replace != nil {
			path, version = dep.Replace.Path, dep.Replace.Version
		}
		wanted = append(wanted, path+"@"+version)
	}
	modules := []module{standard}
	cached, err := s.cached(ctx, wanted)
	if err != nil {
		return nil, err
	}
	for _, found := range cached {
		m, err := readModule(found.Path, found.Version, found.Dir, packages)
		if err != nil {
			return nil, err
		}
		modules = append(modules, m)
	}
	return modules, nil
}

// cachedModule is where the module cache has a module.
type cachedModule struct{ Path, Version, Dir string }

// cached asks for all modules at once, in their order: a process for each would take minutes.
func (s source) cached(ctx context.Context, modules []string) ([]cachedModule, error) {
	raw, err := s.goTool(ctx, append([]string{"mod", "download", "-json"}, modules...)...)
	if err != nil {
		return nil, err
	}
	var all []cachedModule
	for decoder := json.NewDecoder(bytes.NewReader(raw)); ; {
		var found cachedModule
		if err := decoder.Decode(&found); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("looking into the module cache: %w", err)
		}
		all = append(all, found)
	}
	slices.SortFunc(all, func(a, b cachedModule) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

func (s source) goTool(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = s.dir
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, said.Bytes())
	}
	return out, nil
}

// readModule reads the licence of a module, and those that stand beside packages of it which are linked: they were taken from
// somebody else. A module without a licence may not be published, and ends the release.
func readModule(path, version, dir string, packages []string) (module, error) {
	m := module{path: path, version: version}
	folders := []string{"."}
	for _, in := range packages {
		below, err := filepath.Rel(dir, in)
		for err == nil && filepath.IsLocal(below) && below != "." {
			folders = append(folders, below)
			below = filepath.Dir(below)
		}
	}
	slices.Sort(folders) // the module's own comes first
	for _, folder := range slices.Compact(folders) {
		entries, err := os.ReadDir(filepath.Join(dir, folder)) // sorted
		if err != nil {
			return module{}, err
		}
		for _, entry := range entries {
			if entry.IsDir() || !licenceFile.MatchString(entry.Name()) || filepath.Ext(entry.Name()) == ".go" {
				continue
			}
			content, err := os.ReadFile(filepath.Join(dir, folder, entry.Name()))
			if err != nil {
				return module{}, err
			}
			m.texts = append(m.texts, text{filepath.ToSlash(filepath.Join(folder, entry.Name())), content})
			m.licence = cmp.Or(m.licence, spdx(string(content)))
		}
	}
	if len(m.texts) == 0 {
		return module{}, fmt.Errorf("module %s@%s has no licence file in %s: find out under which terms it may be passed on", path, version, dir)
	}
	return m, nil
}

// spdx recognises the texts of the usual licences. Empty: none of them.
func spdx(content string) string {
	words := strings.Join(strings.Fields(content), " ")
	has := func(parts ...string) bool {
		return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(words, part) })
	}
	switch {
	case has("Mozilla Public License", "2.0"):
		return "MPL-2.0"
	case has("Apache License", "Version 2.0"):
		return "Apache-2.0"
	case has("Permission is hereby granted, free of charge"):
		return "MIT"
	case has("Redistribution and use in source and binary forms", "Neither the name"),
		has("Redistribution and use in source and binary forms", "name of the"):
		return "BSD-3-Clause"
	case has("Redistribution and use in source and binary forms"):
		return "BSD-2-Clause"
	case has("Permission to use, copy, modify, and/or distribute this software"),
		has("Permission to use, copy, modify, and distribute this software"):
		return "ISC"
	default:
		return ""
	}
}

// thirdParty is the file that passes the licences on.
func thirdParty(modules []module) []byte {
	var all bytes.Buffer
	all.WriteString("The binary beside this file has these modules linked into it, under these licences.\n\n")
	for _, m := range modules {
		fmt.Fprintf(&all, "  %s %s  %s\n", m.path, m.version, m.licence)
	}
	for _, m := range modules {
		for _, t := range m.texts {
			fmt.Fprintf(&all, "\n%s\n%s %s, %s\n%s\n\n", strings.Repeat("=", 80), m.path, m.version, t.name, strings.Repeat("=", 80))
			all.Write(bytes.TrimRight(bytes.ReplaceAll(t.content, []byte("\r\n"), []byte("\n")), "\n"))
			all.WriteString("\n")
		}
	}
	return all.Bytes()
}
