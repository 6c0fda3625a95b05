// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/faulttest"
)

// schedulesVariable chooses the schedules that TestSchedules runs: empty, a sample that
// is the same each time; "all"; or the text of one, as a failure prints it.
const schedulesVariable = "CLOUDKEYS_SCHEDULES"

const (
	pairSeed = 7 // of the sampled pairs: the same each time

	pairsOfAll = 60 // an operation

	// The sample: of each operation every n-th schedule of one fault, and a pair of every
	// n-th operation.
	sampledSchedules = 29
	sampledPairs     = 3
)

// A hit lets one fault happen at one point.
type hit struct{ point, fault string }

func (s hit) String() string { return s.point + " = " + s.fault }

// A schedule is an operation with the faults that hit it: at most one of them in its
// own calls, and a second one there or in the minutes of clean-up that follow.
type schedule struct {
	cloud     *faultyCloud
	operation operation
	hits      []hit
}

// String is what schedulesVariable takes.
func (s schedule) String() string {
	texts := make([]string, len(s.hits))
	for i, hit := range s.hits {
		texts[i] = hit.String()
	}
	return s.cloud.name + ": " + s.operation.name + ": " + strings.Join(texts, " + ")
}

// TestSchedules runs every operation of the engine and lets every fault hit at every
// one of its cloud and storage calls in turn. Whatever happens, every live key in the
// cloud is accounted for, every secret handed out works until its lease ends, and the
// configuration works. The points are found by a run without faults that counts them.
func TestSchedules(t *testing.T) {
	t.Parallel()
	wanted := os.Getenv(schedulesVariable)
	contract.New(t) // loads the description: nothing outside may be waited for in a bubble
	if wanted != "" && wanted != "all" {
		replay(t, wanted)
		return
	}
	var singles, pairs, faults atomic.Int64
	t.Run("every", func(t *testing.T) {
		for _, cloud := range faultyClouds() {
			for i, operation := range cloud.operations {
				t.Run(cloud.name+": "+operation.name, func(t *testing.T) {
					t.Parallel()
					all := singleSchedules(t, cloud, operation)
					for j, s := range all {
						if wanted == "all" || (i+j)%sampledSchedules == 0 {
							faults.Add(int64(s.run(t)))
							singles.Add(1)
						}
					}
					random := rand.New(rand.NewPCG(pairSeed, uint64(i)))
					for range pairsOf(i, wanted == "all") {
						if s, found := pairFrom(t, all[random.IntN(len(all))], random); found {
							faults.Add(int64(s.run(t)))
							pairs.Add(1)
						}
					}
				})
			}
		}
	})
	fmt.Printf("fault schedules: %d of one fault, %d of two (seed %d), %d faults injected\n", singles.Load(), pairs.Load(), pairSeed,
		faults.Load())
	if err := faulttest.Total(int(singles.Load()+pairs.Load()), int(faults.Load())); err != nil {
		t.Error(err)
	}
}

// pairsOf is how many pairs of faults hit an operation.
func pairsOf(operation int, all bool) int {
	switch {
	case all:
		return pairsOfAll
	case operation%sampledPairs == 0:
		return 1
	default:
		return 0
	}
}

// replay runs the one schedule that a failure has printed.
func replay(t *testing.T, text string) {
	for _, cloud := range faultyClouds() {
		for _, operation := range cloud.operations {
			rest, found := strings.CutPrefix(text, cloud.name+": "+operation.name+": ")
			if !found {
				continue
			}
			s := schedule{cloud: cloud, operation: operation}
			for _, part := range strings.Split(rest, " + ") {
				point, fault, _ := strings.Cut(part, " = ")
				s.hits = append(s.hits, hit{point, fault})
			}
			s.run(t)
			return
		}
	}
	t.Fatalf("%s: no operation of that name: %q", schedulesVariable, text)
}

// run plays a schedule as a test of its own, and returns how many faults hit.
func (s schedule) run(t *testing.T) (faults int) {
	t.Helper()
	t.Run(s.hitsText(), func(t *testing.T) {
		defer func() {
			if t.Failed() {
				t.Logf("replay it: %s='%s' go test ./plugin -run '^TestSchedules$' -count=1", schedulesVariable, s)
			}
		}()
		synctest.Test(t, func(t *testing.T) { _, faults = s.play(t) })
	})
	return faults
}

func (s schedule) hitsText() string {
	_, text, _ := strings.Cut(s.String(), s.operation.name+": ")
	return cmp.Or(text, "no fault")
}

// singleSchedules are all schedules of one fault.
func singleSchedules(t *testing.T, cloud *faultyCloud, operation operation) []schedule {
	t.Helper()
	var all []schedule
	for _, point := range (schedule{cloud: cloud, operation: operation}).scout(t) {
		for _, fault := range cloud.faultsAt(point) {
			all = append(all, schedule{cloud, operation, []hit{{point, fault}}})
		}
	}
	if len(all) == 0 {
		t.Fatal("the operation makes no call at all")
	}
	return all
}

// pairFrom adds a second fault to a schedule, somewhere after the first: in the rest of the
// request, its clean-up, or the ticks of the minutes after it.
func pairFrom(t *testing.T, first schedule, random *rand.Rand) (schedule, bool) {
	t.Helper()
	points := first.scout(t)
	if len(points) == 0 {
		return schedule{}, false
	}
	point := points[random.IntN(len(points))]
	faults := first.cloud.faultsAt(point)
	second := hit{point, faults[random.IntN(len(faults))]}
	return schedule{first.cloud, first.operation, []hit{first.hits[0], second}}, true
}

// scout runs a schedule and returns the points that it passes: without faults, those of the
// operation; else those after the first fault.
func (s schedule) scout(t *testing.T) (points []string) {
	t.Helper()
	t.Run("scout "+s.hitsText(), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { points, _ = s.play(t) })
	})
	return points
}
