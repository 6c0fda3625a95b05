// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command bench measures the engine on a real server beside Vault's own AWS engine, each on a fake cloud with the same latency,
// and prints every figure with its bar. It judges ratios of one run: what a machine takes for a second of work differs from the next.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// bench collects the rows.
type bench struct {
	runs int
	rows []row
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context) error {
	bin := flag.String("bin", ".cache/bin", "folder of the server's and the plugins' binaries")
	jsonFile := flag.String("json", "", "file for the machine-readable result")
	page := flag.String("page", "", "file for the result as Markdown")
	runs := flag.Int("runs", 3, "runs of which the median counts")
	only := flag.String("only", "", "run only the group of rows of this name")
	flag.Parse()

	b := &bench{runs: *runs}
	before := noise()
	if err := b.measure(ctx, *bin, *only); err != nil {
		return err
	}
	return b.report(*jsonFile, *page, max(before, noise()))
}

// measure runs the groups of rows. Those that need no server come first.
func (b *bench) measure(ctx context.Context, bin, only string) (err error) {
	dir, err := os.MkdirTemp("", "cloudkeys-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	plugin := filepath.Join(bin, pluginFile)
	alone := []group{
		{"size", func() error { return b.binarySize(plugin) }},
		{"start", func() error { return b.startRow(ctx, plugin, filepath.Join(bin, nullFile)) }},
		{"storage", func() error { return b.storageRows(ctx) }},
	}
	if err := runGroups(alone, only); err != nil {
		return err
	}
	plugins, err := pluginDirectory(dir, plugin, filepath.Join(bin, awsFile))
	if err != nil {
		return err
	}
	s, err := newStage(ctx, filepath.Join(dir, "raft"), filepath.Join(bin, "vault"), plugins, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	light, err := newStage(ctx, filepath.Join(dir, "memory"), filepath.Join(bin, "vault"), plugins, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, light.stop()) }()
	return runGroups([]group{
		{"calls", func() error { return b.callsPerLease(ctx, s) }},
		{"memory", func() error { return b.memory(ctx, s) }},
		{"latency", func() error { return errors.Join(b.latencies(ctx, light, "in memory"), b.latencies(ctx, s, "on raft")) }},
		{"throughput", func() error { return b.throughput(ctx, s) }},
		{"cpu", func() error { return b.processor(ctx, s) }},
		{"storm", func() error { return b.storm(ctx, s) }},
	}, only)
}

// group is rows that are measured together.
type group struct {
	name string
	run  func() error
}

func runGroups(groups []group, only string) error {
	for _, g := range groups {
		if only != "" && only != g.name {
			continue
		}
		if err := g.run(); err != nil {
			return fmt.Errorf("measuring %s: %w", g.name, err)
		}
	}
	return nil
}

// add prints a row as soon as it is known: the whole takes minutes.
func (b *bench) add(r row) {
	b.rows = append(b.rows, r)
	fmt.Printf("%-78s %-28s %-14s %s\n", r.Measure, r.Figure, r.Bar, r.verdict())
}
