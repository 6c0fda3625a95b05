// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command release builds what is published: archives of the plugin for each platform, the functions for Lambda, images for
// containers, with the licences of what is linked, a bill of materials, and the sums of all. Two runs on one commit with one version of
// Go give the same bytes, whatever the directory.
//
// Why not goreleaser and cyclonedx-gomod, which were tried: the archives of goreleaser 2.14 were the same twice as well, but licences,
// sums of binaries and images would be ours as before, its newer versions need another Go than we do, and `make release`, which
// everybody runs who builds from source, would begin by compiling its 345 modules. cyclonedx-gomod 1.10 writes the hash of its own binary
// into each bill, so that two people get two bills of one plugin, and it names no licence for the standard library.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	version := flags.String("version", "", "version to stamp; empty: the commit's tag, or a pseudo-version of the commit")
	out := flags.String("out", ".cache/release", "directory to write to, which is emptied first")
	only := flags.String("only", "", "build only what has this in its name, such as linux_amd64")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s, err := describe(ctx, ".")
	if err != nil {
		return err
	}
	if *version != "" {
		s.version = *version
	}
	if err := s.checkVersion(); err != nil {
		return err
	}
	return s.release(ctx, *out, *only)
}

// source is the tree that is built.
type source struct {
	dir     string
	version string
	commit  string
	date    time.Time // of the commit: all that is made bears it
}

// describe asks git. A tree with changes cannot be built a second time by anybody else, and is refused.
func describe(ctx context.Context, dir string) (source, error) {
	changes, err := git(ctx, dir, "status", "--porcelain")
	if err != nil {
		return source{}, err
	}
	if changes != "" {
		return source{}, fmt.Errorf("the working tree has changes, so that nobody could build the same: commit or remove them\n%s", changes)
	}
	s := source{dir: dir}
	if s.commit, err = git(ctx, dir, "rev-parse", "HEAD"); err != nil {
		return source{}, err
	}
	seconds, err := git(ctx, dir, "log", "-1", "--format=%ct")
	if err != nil {
		return source{}, err
	}
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return source{}, fmt.Errorf("the date of the commit is %q: %w", seconds, err)
	}
	s.date = time.Unix(unix, 0).UTC()
	// Not --always: a commit without a tag is told by the error.
	if s.version, err = git(ctx, dir, "describe", "--exact-match", "--tags", "--match", "v[0-9]*"); err != nil {
		s.version = fmt.Sprintf("v0.0.0-%s-%s", s.date.Format("20060102150405"), s.commit[:12])
	}
	return s, nil
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
