// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
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
	Runs    int     `json:"runs"`
	Parts   bool    `json:"parts,omitempty"` // the rows are of several runs of this program
	Rows    []row   `json:"rows"`
}

// report writes the files. What was measured before and not now is kept where only some of the groups were run.
func (b *bench) report(jsonFile, page string, noise float64) error {
	machine := fmt.Sprintf("%s/%s, %d processors, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	now := result{Machine: machine, Noise: noise, Runs: b.runs, Rows: b.rows}
	fmt.Printf("\n%s; equal work varied by %.0f %%\n", machine, noise*100)
	if noise > noisy {
		fmt.Println("the machine was noisy: run it again before you believe a missed bar")
	}
	if jsonFile != "" {
		if err := b.keep(&now, jsonFile); err != nil {
			return err
		}
	}
	if page == "" || len(b.only) > 0 && !slices.Contains(b.only, pageGroup) {
		return nil
	}
	return now.write(page)
}

// pageGroup is no group of rows: it has the page be made of what was measured before.
const pageGroup = "page"

func (b *bench) keep(now *result, file string) error {
	before, err := os.ReadFile(file)
	switch {
	case len(b.only) == 0 || errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		var former result
		if err := json.Unmarshal(before, &former); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		now.after(former)
	}
	content, err := json.MarshalIndent(now, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(content, '\n'), 0o644)
}

// after takes over the rows of a former run that this one has not measured, in their order.
func (r *result) after(former result) {
	measured := r.Rows
	r.Rows, r.Parts, r.Noise = former.Rows, true, max(r.Noise, former.Noise)
	for _, one := range measured {
		if i := slices.IndexFunc(r.Rows, func(old row) bool { return old.Measure == one.Measure }); i >= 0 {
			r.Rows[i] = one
		} else {
			r.Rows = append(r.Rows, one)
		}
	}
}
