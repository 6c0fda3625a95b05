// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
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
	Commit  string  `json:"commit"` // that was measured, and -dirty where it was changed
	Noise   float64 `json:"noise"`
	Runs    int     `json:"runs"`
	Rows    []row   `json:"rows"`
}

// readResult reads the machine-readable file of a run.
func readResult(file string) (r result, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	err = json.Unmarshal(content, &r)
	return r, err
}

// report writes the files.
func (b *bench) report(jsonFile, page, commit string, noise float64) error {
	machine := fmt.Sprintf("%s/%s, %d processors, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	r := result{Machine: machine, Commit: commit, Noise: noise, Runs: b.runs, Rows: b.rows}
	fmt.Printf("\n%s; equal work varied by %.0f %%\n", machine, noise*100)
	if noise > noisy {
		fmt.Println("the machine was noisy: run it again before you believe a missed bar")
	}
	if jsonFile != "" {
		content, err := json.MarshalIndent(r, "", "  ")
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
	return r.write(page)
}
