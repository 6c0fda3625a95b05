// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// functionRows takes up what the functions' own benchmarks have measured: they need Lambda's emulator, and run before.
func (b *bench) functionRows(ctx context.Context, file string) error {
	if file == "" {
		return errors.New("give -functions the output of make bench-functions")
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	measured := benchmarks(string(content))
	var missing []error
	figure := func(benchmark, unit string) float64 {
		value, found := measured[benchmark][unit]
		if !found {
			missing = append(missing, fmt.Errorf("%s has no %s of %s", file, unit, benchmark))
		}
		return value
	}
	for _, function := range []string{"revoke-expired-keys", "sync-policy"} {
		b.add(atMost(function+": binary", 20, " MB", figure("BenchmarkStart/"+function, "MB")))
		b.add(atMost(function+": cold start", 100, " ms", figure("BenchmarkStart/"+function, "ms/start")))
	}
	const largest = 1_000_000
	peaks, each := map[int]float64{}, map[int]float64{}
	for _, keys := range []int{1000, 100_000, largest} {
		sweep := fmt.Sprintf("BenchmarkSweep/%d", keys)
		peaks[keys], each[keys] = figure(sweep, "MB-peak"), figure(sweep, "CPU-µs/key")
		what := fmt.Sprintf("sweep of %d keys: ", keys)
		b.add(toldOf(what+"keys/s", "", figure(sweep, "keys/s")))
		b.add(toldOf(what+"CPU time of the function, for 1,000 keys", " ms", each[keys]))
		b.add(atMost(what+"peak memory", 128, " MB", peaks[keys]))
		// Some are the function's own, whose part of a small account is larger.
		if calls := what + "cloud calls an identity, besides those that list the identities"; keys == 1000 {
			b.add(toldOf(calls, "", figure(sweep, "calls/identity")))
		} else {
			b.add(atMost(calls, 1.01, "", figure(sweep, "calls/identity")))
		}
	}
	b.add(atMost("sweep: peak memory at 1,000,000 keys over 100,000", 1.1, " x", peaks[largest]/peaks[100_000]).because(
		"It grows by %.0f MB. The users of the page stay in memory, whose keys are counted for its table: 125,000 of them, each with an orphan. "+
			"How much they are, no figure tells. The function has 256 MB.", peaks[largest]-peaks[100_000]))
	listing, err := plainListing(ctx)
	if err != nil {
		return err
	}
	b.add(toldOf("CPU time of a program that lists keys and does nothing else, for 1,000 keys", " ms", listing))
	b.add(atMost(fmt.Sprintf("sweep of %d keys: CPU time a key over such a listing", largest), 1.5, " x", each[largest]/listing).because(
		"Of %.0f ms for 1,000 keys the listing is %.0f. In the other %.0f ms the sweep asks Vault for the keys that it knows of each user who "+
			"has a key to remove, and writes the report, a page, a table and JSON of every key: no figure tells how much is which.",
		each[largest], listing, each[largest]-listing))
	const perDeletion = "calls/deletion"
	b.add(toldOf("sweep: cloud calls a deletion, of one key of each user: two change the key, one reads the user's keys right before", "",
		figure("BenchmarkSweepThatDeletes/1", perDeletion)))
	b.add(toldOf("sweep: cloud calls a deletion, of four keys of each user", "",
		figure("BenchmarkSweepThatDeletes/4", perDeletion)))
	return errors.Join(missing...)
}

// benchmarks reads what go test prints of benchmarks: by name, the value of each unit.
func benchmarks(output string) map[string]map[string]float64 {
	all := map[string]map[string]float64{}
	for line := range strings.Lines(output) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := strings.TrimSuffix(fields[0], "-"+strconv.Itoa(runtime.GOMAXPROCS(0)))
		units := map[string]float64{}
		for i := 2; i+1 < len(fields); i += 2 {
			if value, err := strconv.ParseFloat(fields[i], 64); err == nil {
				units[fields[i+1]] = value
			}
		}
		all[name] = units
	}
	return all
}
