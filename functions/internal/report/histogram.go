// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import "github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"

// The histogram's measures, in the units of its viewBox.
const (
	barHeight  = 170
	barBottom  = 200
	chartWidth = 720
	barWidth   = 56
)

// bar is one age group of the histogram: the keys to be changed below, the others above.
type bar struct {
	Name                    string
	Keys, Changed           int
	X, Middle, Width        int
	KeptY, KeptHeight       float64
	ChangedY, ChangedHeight float64
	LabelY                  float64
}

// bars scales the groups to the largest. A group that has keys is never too low to be
// seen: one key of a million may be the one that matters.
func bars(keys, changed [8]int) []bar {
	most := 1
	for _, n := range keys {
		most = max(most, n)
	}
	height := func(n int) float64 {
		if n == 0 {
			return 0
		}
		return max(3, float64(n)*barHeight/float64(most))
	}
	names := sweep.Ages()
	shown := names[:]
	if unknown := len(names) - 1; keys[unknown] == 0 {
		shown = names[:unknown]
	}
	spacing := chartWidth / len(shown)
	var all []bar
	for i, name := range shown {
		b := bar{Name: name, Keys: keys[i], Changed: changed[i], X: 10 + i*spacing + (spacing-barWidth)/2, Width: barWidth}
		b.Middle = b.X + barWidth/2
		b.ChangedHeight, b.KeptHeight = height(b.Changed), height(b.Keys-b.Changed)
		b.ChangedY = barBottom - b.ChangedHeight
		b.KeptY = b.ChangedY - b.KeptHeight
		b.LabelY = b.KeptY - 7
		all = append(all, b)
	}
	return all
}
