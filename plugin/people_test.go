// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/faulttest"
)

// peopleVariable chooses what TestPeople and TestSequences play: empty, a sample that is the same each time; a duration, as much as
// there is time for; "all"; or the text of one, as a failure prints it.
const peopleVariable = "CLOUDKEYS_PEOPLE"

// sampledDeeds is how many schedules there are for each that the sample plays.
const sampledDeeds = 397

// single is an operation during which somebody does one thing, at one call.
type single struct {
	work    work
	account int // of the tenants
	hits    []hit
}

// String is what peopleVariable takes.
func (s single) String() string {
	texts := []string{}
	for _, hit := range s.hits {
		texts = append(texts, hit.String())
	}
	return fmt.Sprintf("%s in %s: %s", s.work.name, []string{accountOutscale, accountHuawei}[s.account], strings.Join(texts, " + "))
}

// TestPeople runs every operation of the engine in both clouds, and has others do everything that they can do at every one of its
// cloud and storage calls in turn. Whatever they do, the invariants of people_invariants_test.go hold.
func TestPeople(t *testing.T) {
	t.Parallel()
	wanted := os.Getenv(peopleVariable)
	contract.New(t) // loads the description: nothing outside may be waited for in a bubble
	length, timed := time.ParseDuration(wanted)
	if wanted != "" && wanted != "all" && timed != nil {
		if strings.Contains(wanted, " @ ") {
			return // a sequence's
		}
		if s, found := singleOf(wanted); found {
			s.play(t, nil)
		}
		return
	}
	matrix, began := newMatrix(), time.Now()
	var played atomic.Int64
	t.Run("every", func(t *testing.T) {
		for i, work := range works() {
			for account := range 2 {
				t.Run(single{work, account, nil}.String(), func(t *testing.T) {
					t.Parallel()
					n := 0
					for _, point := range (single{work, account, nil}).scout(t) {
						for _, d := range deeds() {
							n++
							if wanted == "all" || (i+n)%sampledDeeds == 0 || timed == nil && time.Since(began) < length/2 {
								single{work, account, []hit{{point, d.name}}}.play(t, matrix)
								played.Add(1)
							}
						}
					}
				})
			}
		}
	})
	if whole := matrix.print("acted one at a time"); wanted == "all" && !whole {
		t.Error("somebody has acted nowhere in an operation: the table shows who and where")
	}
	if err := faulttest.Figures(fmt.Sprintf("deeds=%d", played.Load())); err != nil {
		t.Error(err)
	}
}

func singleOf(text string) (single, bool) {
	for _, work := range works() {
		for account := range 2 {
			rest, found := strings.CutPrefix(text, single{work, account, nil}.String())
			if point, name, whole := strings.Cut(rest, " = "); found && whole {
				return single{work, account, []hit{{point, name}}}, true
			}
		}
	}
	return single{}, false
}

// scout runs the operation undisturbed and returns the points that it passes.
func (s single) scout(t *testing.T) (points []string) {
	t.Helper()
	t.Run("undisturbed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			points = w.single(s)
			w.report()
		})
	})
	return points
}

func (s single) play(t *testing.T, counted *matrix) {
	t.Helper()
	t.Run(s.hits[0].String(), func(t *testing.T) {
		defer func() {
			if t.Failed() {
				t.Logf("replay it: %s='%s' go test ./plugin -run '^TestPeople$' -count=1", peopleVariable, s)
			}
		}()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			if counted != nil {
				w.acted = counted.count
			}
			w.single(s)
			w.report()
		})
	})
}

// single plays one operation, with what acts it.
func (w *world) single(s single) (points []string) {
	w.t.Helper()
	p := place{w, w.mounts[0], w.tenants[s.account], 0, ""}
	w.do(s.work, p, s.hits)
	points = p.m.saboteur.trail
	w.everybodyIsServed()
	w.advance(3 * time.Minute)
	w.everybodyIsServed()
	w.peace()
	return points
}

// do runs an operation and has others act at its calls.
func (w *world) do(work work, at place, hits []hit) {
	w.t.Helper()
	if work.prepare != nil {
		work.prepare(at)
	}
	w.tell("%s in %s of %s", work.name, at.t.name, at.m.name)
	saboteur := newSaboteur(hits)
	at.m.saboteur, w.aim, w.protocol = saboteur, at, work.protocol
	saboteur.arm(true)
	at.m.asked(work.name, func(ctx context.Context) {
		work.run(ctx, at)
		saboteur.arm(false)
	})
	saboteur.arm(false)
	w.protocol = ""
	w.check("after " + work.name)
}

// report fails the test where an invariant does not hold, and says what has happened.
func (w *world) report() {
	w.t.Helper()
	if w.failed() {
		w.t.Errorf("%s\n%s", strings.Join(w.problems, "\n"), strings.Join(w.lines, "\n"))
	}
}

// matrix counts who has acted inside which protocol.
type matrix struct {
	lock   sync.Mutex
	counts map[string]map[string]int
}

func newMatrix() *matrix { return &matrix{counts: map[string]map[string]int{}} }

func (m *matrix) count(deed, protocol string) {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.counts[deed] == nil {
		m.counts[deed] = map[string]int{}
	}
	m.counts[deed][protocol]++
}

// print writes the table, and tells whether every deed has acted inside every protocol.
func (m *matrix) print(title string) (whole bool) {
	m.lock.Lock()
	defer m.lock.Unlock()
	whole = true
	fmt.Printf("\n%-50s", title)
	for _, protocol := range protocols {
		fmt.Printf(" %13s", protocol)
	}
	for _, d := range deeds() {
		fmt.Printf("\n%-50s", d.name)
		for _, protocol := range protocols {
			n := m.counts[d.name][protocol]
			whole = whole && n > 0
			fmt.Printf(" %13d", n)
		}
	}
	fmt.Println()
	return whole
}
