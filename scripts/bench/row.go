// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"time"
)

// row is one line of the table.
type row struct {
	Measure string    `json:"measure"`
	Bar     string    `json:"bar"`
	Figure  string    `json:"figure"`
	Value   float64   `json:"value"`
	Runs    []float64 `json:"runs,omitempty"` // of which Value is the median
	Met     *bool     `json:"met,omitempty"`  // absent: there is no bar
	Why     string    `json:"why,omitempty"`  // a bar that is missed is

	Head *head `json:"head,omitempty"` // of the rows that stand on the page
}

// head is a row as the page has it. Its ratio, bar and verdict are the row's.
type head struct {
	What string  `json:"what"`
	Unit string  `json:"unit"`
	Ours float64 `json:"ours"`
	AWS  float64 `json:"aws,omitempty"` // 0: there is none
	But  string  `json:"but,omitempty"` // how it was measured otherwise than the page says of all, or what differs between both
	Over string  `json:"over"`          // what the ratio is of: the yardstick, or AWS

	// Something to compare with, measured or computed; 0: there is none.
	Yardstick   float64 `json:"yardstick,omitempty"`
	YardstickIs string  `json:"yardstick_is,omitempty"`
}

const (
	overYardstick = "the yardstick"
	overAWS       = "AWS's"
)

// onPage has the row stand on the page.
func (r row) onPage(h head) row {
	r.Head = &h
	return r
}

// atMost is a row whose value must not be above a bar.
func atMost(measure string, bar float64, unit string, runs ...float64) row {
	v := median(runs)
	met := v <= bar
	return row{Measure: measure, Bar: "at most " + number(bar) + unit, Figure: number(v) + unit, Value: v, Runs: runs, Met: &met}
}

// atLeast is a row whose value must not be below a bar.
func atLeast(measure string, bar float64, unit string, runs ...float64) row {
	r := atMost(measure, bar, unit, runs...)
	r.Bar = "at least " + number(bar) + unit
	*r.Met = r.Value >= bar
	return r
}

// reported is a row without a bar.
func reported(measure, figure string, value float64) row {
	return row{Measure: measure, Figure: figure, Value: value}
}

// toldOf is one that has several runs.
func toldOf(measure, unit string, runs ...float64) row {
	v := median(runs)
	return row{Measure: measure, Figure: number(v) + unit, Value: v, Runs: runs}
}

// because says what keeps a row from its bar, by figures of the same run. It is told where the bar is missed.
func (r row) because(format string, figures ...any) row {
	if r.Met != nil && !*r.Met {
		r.Why = fmt.Sprintf(format, figures...)
	}
	return r
}

func (r row) verdict() string {
	switch {
	case r.Met == nil:
		return ""
	case *r.Met:
		return "met"
	default:
		return missed
	}
}

const missed = "MISSED"

func number(v float64) string {
	if v == float64(int64(v)) {
		return fmt.Sprintf("%d", int64(v))
	}
	return fmt.Sprintf("%.2f", v)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
