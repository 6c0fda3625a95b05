// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package faulttest

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// Schedules are the runs of one operation, with every fault at every one of its calls.
type Schedules struct {
	Variable string // of the environment: empty runs a sample, "all" all, and a failure's line that one
	Sampled  int    // one schedule in so many is in the sample
	Package  string // to replay a failure in

	// Play runs the operation with a fault at a point, or with none where both are empty. It
	// returns the points passed, and how many faults were injected.
	Play func(t *testing.T, point, fault string) (trail []string, injected int)
}

// Run runs the sample, all of them, or the one that Variable names.
func (s Schedules) Run(t *testing.T) {
	t.Helper()
	wanted := os.Getenv(s.Variable)
	if wanted != "" && wanted != "all" {
		point, fault, _ := strings.Cut(wanted, " = ")
		s.Play(t, point, fault)
		return
	}
	trail, _ := s.Play(t, "", "")
	var played, injected atomic.Int64
	i := 0
	for _, point := range trail {
		for _, fault := range FaultsAt(point) {
			if i++; wanted == "" && i%s.Sampled != 0 {
				continue
			}
			t.Run(point+" = "+fault, func(t *testing.T) {
				_, n := s.Play(t, point, fault)
				played.Add(1)
				injected.Add(int64(n))
				if t.Failed() {
					t.Logf("replay it: %s='%s = %s' go test %s -run '^%s$' -count=1", s.Variable, point, fault, s.Package, strings.Split(t.Name(), "/")[0])
				}
			})
		}
	}
	fmt.Printf("fault schedules of %s: %d, %d faults injected\n", s.Package, played.Load(), injected.Load())
	if err := Total(int(played.Load()), int(injected.Load())); err != nil {
		t.Error(err)
	}
}
