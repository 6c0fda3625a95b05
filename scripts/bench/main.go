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
	"slices"
	"strings"
	"syscall"
	"time"
)

// Where the server keeps its data.
const (
	inMemory = "in memory"
	onRaft   = "on raft"
)

// bench collects the rows.
type bench struct {
	runs int
	only []string // groups; empty: all
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
	page := flag.String("page", "", "file for what matters of it, as Markdown; the whole table goes beside it, as CSV")
	render := flag.String("render", "", "file with the result of an earlier run: the page is made of it, and nothing is measured")
	commit := flag.String("commit", "unknown", "commit of what is measured, for the result")
	functions := flag.String("functions", "", "file with the output of the functions' benchmarks (make bench-functions)")
	runs := flag.Int("runs", 3, "runs of which the median counts")
	only := flag.String("only", "", "run only these groups of rows: names with commas between")
	profiled := flag.String("profile", "", "file for a CPU profile of the engine while it leases; nothing else is run")
	flag.Parse()
	if endpoint := os.Getenv(listEndpoint); endpoint != "" {
		return list(ctx, endpoint)
	}

	if *render != "" {
		if *page == "" {
			return errors.New("-render needs -page")
		}
		r, err := readResult(*render)
		if err != nil {
			return err
		}
		return r.write(*page)
	}
	b := &bench{runs: *runs}
	if *profiled != "" {
		return profile(ctx, *bin, *profiled)
	}
	if *only != "" {
		b.only = strings.Split(*only, ",")
	}
	if *only != "" && *page != "" {
		return errors.New("the page is made of a whole run: give -page or -only")
	}
	before := noise()
	if err := b.measure(ctx, *bin, *functions); err != nil {
		return err
	}
	return b.report(*jsonFile, *page, *commit, max(before, noise()))
}

// measure runs the groups of rows. Those that need no server come first.
func (b *bench) measure(ctx context.Context, bin, functions string) (err error) {
	dir, err := os.MkdirTemp("", "cloudkeys-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	plugin := filepath.Join(bin, pluginFile)
	alone := []group{
		{"size", func() error { return b.binarySize(plugin) }},
		{"start", func() error { return b.startRows(ctx, bin) }},
		{"storage", func() error { return b.storageRows(ctx) }},
		{"index", func() error { return b.indexRows(ctx, bin) }},
		{"accounts", func() error { return b.accountRows(ctx, bin) }},
		{"pace", func() error { return b.paceRows(ctx) }},
		{"functions", func() error { return b.functionRows(ctx, functions) }},
	}
	servers := []struct {
		name   string
		memory bool
		groups func(s *stage) []group
	}{
		{inMemory, true, func(s *stage) []group {
			return []group{
				{"latency", func() error { return b.latencies(ctx, s, inMemory) }},
				{"throughput", func() error { return b.throughput(ctx, s, inMemory) }},
			}
		}},
		{onRaft, false, func(s *stage) []group {
			return []group{
				{"calls", func() error { return b.callsPerLease(ctx, s) }},
				{"latency", func() error { return b.latencies(ctx, s, onRaft) }},
				{"throughput", func() error { return b.throughput(ctx, s, onRaft) }},
				{"memory", func() error { return b.memory(ctx, s) }},
				{"storm", func() error { return b.storm(ctx, s) }},
			}
		}},
	}
	if err := b.known(slices.Concat(alone, servers[0].groups(nil), servers[1].groups(nil))); err != nil {
		return err
	}
	if err := b.run(alone); err != nil {
		return err
	}
	plugins, err := pluginDirectory(dir, plugin, filepath.Join(bin, awsFile), filepath.Join(bin, nullFile))
	if err != nil {
		return err
	}
	for _, storage := range servers {
		if !b.wants(storage.groups(nil)) {
			continue
		}
		// One server at a time: the other's periodic work would be measured too.
		s, err := newStage(ctx, filepath.Join(dir, storage.name), filepath.Join(bin, "vault"), plugins, storage.memory)
		if err != nil {
			return err
		}
		if err := errors.Join(b.run(storage.groups(s)), s.stop()); err != nil {
			return err
		}
	}
	return nil
}

// group is rows that are measured together.
type group struct {
	name string
	run  func() error
}

// known refuses a group that does not exist.
func (b *bench) known(groups []group) error {
	var names []string
	for _, g := range groups {
		names = append(names, g.name)
	}
	slices.Sort(names)
	names = slices.Compact(names) // some are measured on both storages
	for _, name := range b.only {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no group %q: there are %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}

func (b *bench) wants(groups []group) bool {
	return len(b.only) == 0 || slices.ContainsFunc(groups, func(g group) bool { return slices.Contains(b.only, g.name) })
}

func (b *bench) run(groups []group) error {
	for _, g := range groups {
		if !b.wants([]group{g}) {
			continue
		}
		started := time.Now()
		if err := g.run(); err != nil {
			return fmt.Errorf("measuring %s: %w", g.name, err)
		}
		fmt.Printf("(%s: %s)\n", g.name, time.Since(started).Round(time.Second))
	}
	return nil
}

// add prints a row as soon as it is known: the whole takes minutes.
func (b *bench) add(r row) {
	b.rows = append(b.rows, r)
	fmt.Printf("%-78s %-28s %-14s %s\n", r.Measure, r.Figure, r.Bar, r.verdict())
}
