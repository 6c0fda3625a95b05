// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// noisy is how far equal pieces of work may lie apart before the figures deserve a warning.
const noisy = 0.25

// noise is how far equal pieces of work lie apart on this machine now.
func noise() float64 {
	var took []float64
	for range 9 {
		started := time.Now()
		spin()
		took = append(took, milliseconds(time.Since(started)))
	}
	return spread(took)
}

// spin is some tens of milliseconds of work that no compiler saves.
func spin() {
	x := uint64(time.Now().UnixNano())
	for range 30_000_000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	runtime.KeepAlive(x)
}

// result is the machine-readable file.
type result struct {
	Machine string  `json:"machine"`
	Noise   float64 `json:"noise"`
	Rows    []row   `json:"rows"`
}

func (b *bench) report(jsonFile, page string, noise float64) error {
	machine := fmt.Sprintf("%s/%s, %d processors, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	fmt.Printf("\n%s; equal work varied by %.0f %%\n", machine, noise*100)
	if noise > noisy {
		fmt.Println("the machine was noisy: run it again before you believe a missed bar")
	}
	if jsonFile != "" {
		content, err := json.MarshalIndent(result{machine, noise, b.rows}, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(jsonFile, append(content, '\n'), 0o644); err != nil {
			return err
		}
	}
	if page == "" {
		return nil
	}
	return os.WriteFile(page, []byte(b.markdown(machine, noise)), 0o644)
}

func (b *bench) markdown(machine string, noise float64) string {
	var out strings.Builder
	out.WriteString("# Performance\n\nMade by `make bench`: one run, one Vault server, with its storage in memory and on raft, this engine beside Vault's AWS engine, " +
		"each on a fake cloud of the same latency, all on one machine. Compare ratios, not seconds.\n\n")
	fmt.Fprintf(&out, "%s; equal work varied by %.0f %% during the run; medians of %d runs.\n\n", machine, noise*100, b.runs)
	if noise > noisy {
		out.WriteString("The machine was noisy: run it again before you believe a missed bar.\n\n")
	}
	out.WriteString("| measure | figure | bar | |\n| --- | --- | --- | --- |\n")
	for _, r := range b.rows {
		fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", r.Measure, r.Figure, r.Bar, r.verdict())
	}
	out.WriteString(b.reasons())
	return out.String()
}

// reasons is why bars are missed: those that share one stand together.
func (b *bench) reasons() string {
	var order []string
	missed := map[string][]string{}
	for _, r := range b.rows {
		if r.Met == nil || *r.Met {
			continue
		}
		why := cmp.Or(r.Why, "No reason is known.")
		if missed[why] == nil {
			order = append(order, why)
		}
		missed[why] = append(missed[why], fmt.Sprintf("%s (%s)", r.Measure, r.Figure))
	}
	if len(order) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("\n## Missed bars\n")
	for _, why := range order {
		fmt.Fprintf(&out, "\n* %s.\n  %s\n", strings.Join(missed[why], "; "), why)
	}
	return out.String()
}
