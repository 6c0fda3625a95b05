// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/faulttest"
)

const (
	leastMoves = 40 // moves, until one has failed and is being shrunk
	mostMoves  = 63

	sequencesSample = 6     // without peopleVariable
	sequencesAll    = 10000 // with "all"

	sequenceSeed = 11
)

// A move is one step of a sequence: an operation that something acts at one of its calls, something that somebody does between
// operations, or time that passes.
type move struct {
	what   string // the name of a work, of a deed, or of passages
	mount  int
	tenant int
	pick   int
	call   int    // the number of the call that is acted
	act    string // a deed's name, or "a fault" and a number; empty: nothing acts
}

// String is a move as peopleVariable takes it, such as
//
//	revoke @ m1 osc 0 | 7 = a user is renamed
func (m move) String() string {
	text := fmt.Sprintf("%s @ m%d %s %d", m.what, m.mount+1, []string{accountOutscale, accountHuawei}[m.tenant], m.pick)
	if m.act != "" {
		text += fmt.Sprintf(" | %d = %s", m.call, m.act)
	}
	return text
}

func parseMove(text string) (m move, err error) {
	at, act, acted := strings.Cut(text, " | ")
	if acted {
		call, name, _ := strings.Cut(act, " = ")
		if m.call, err = strconv.Atoi(call); err != nil {
			return move{}, fmt.Errorf("%q: %w", text, err)
		}
		m.act = name
	}
	name, where, _ := strings.Cut(at, " @ ")
	m.what = name
	var account string
	if _, err = fmt.Sscanf(where, "m%d %s %d", &m.mount, &account, &m.pick); err != nil {
		return move{}, fmt.Errorf("%q: %w", text, err)
	}
	m.mount--
	if account == accountHuawei {
		m.tenant = 1
	}
	return m, nil
}

const separator = " ; "

func sequenceText(moves []move) string {
	texts := make([]string, len(moves))
	for i, m := range moves {
		texts[i] = m.String()
	}
	return strings.Join(texts, separator)
}

// passages are moves in which nobody does anything.
var passages = []struct {
	name string
	do   func(w *world, p place)
}{
	{"a minute passes", func(w *world, _ place) { w.advance(time.Minute) }},
	{"ten minutes pass", func(w *world, _ place) { w.advance(10 * time.Minute) }},
	{"an hour passes", func(w *world, _ place) { w.advance(65 * time.Minute) }},
	{"the day's comparison is due", func(w *world, p place) {
		p.m.compareNow(p.t)
		w.advance(3 * time.Minute)
	}},
	{"the server is backed up", func(_ *world, p place) { p.m.takeSnapshot() }},
	{"operators set right what they can", func(w *world, _ place) { w.amend() }},
}

// draw chooses the moves. Zero is "nothing" everywhere, so that what a failure does not need shrinks away; places turn the choices, so
// that small numbers, which rapid prefers, mean another thing at each.
func draw(t *rapid.T, least int) (moves []move) {
	n := rapid.IntRange(0, mostMoves).Filter(func(n int) bool { return n >= least }).Draw(t, "moves")
	works, deeds := works(), deeds()
	turned := func(value, place, n int) int { return (value - 1 + 17*place) % n }
	for i := range n {
		kind := rapid.IntRange(0, 20).Draw(t, "kind")
		which := rapid.IntRange(1, 256).Draw(t, "which")
		where := rapid.IntRange(0, 15).Draw(t, "where")
		act := rapid.IntRange(0, 256).Draw(t, "act")
		call := rapid.IntRange(1, 40).Draw(t, "call")
		if kind == 0 {
			continue
		}
		m := move{mount: where & 1 & (where >> 3), tenant: where >> 1 & 1, pick: where >> 2}
		switch class := turned(kind, i, 20); {
		case class < 10:
			m.what = works[turned(which, i, len(works))].name
			if act > 0 {
				m.call, m.act = call, actNamed(turned(act, i, 256), deeds)
			}
		case class < 16:
			m.what = deeds[turned(which, i, len(deeds))].name
		default:
			m.what = passages[turned(which, i, len(passages))].name
		}
		moves = append(moves, m)
	}
	return moves
}

// actNamed is a deed in four cases of five, and else a fault.
func actNamed(n int, deeds []deed) string {
	if n%5 == 4 {
		return fmt.Sprintf("%s %d", aFault, n)
	}
	return deeds[n%len(deeds)].name
}

// make makes a move, and holds the invariants after it.
func (w *world) make(i int, m move) {
	w.t.Helper()
	p := place{w, w.mounts[m.mount], w.tenants[m.tenant], m.pick, ""}
	w.tell("%d: %s", i+1, m)
	if d, is := deedNamed(m.what); is && d.name != aPanic {
		p.m.asked(m.what, func(context.Context) { w.doDeed(d, p) })
		w.check(m.what)
	}
	for _, work := range works() {
		if work.name == m.what {
			var hits []hit
			if m.act != "" {
				hits = []hit{{nthCall(m.call), m.act}}
			}
			w.do(work, p, hits)
		}
	}
	for _, passage := range passages {
		if passage.name == m.what {
			passage.do(w, p)
			w.check(m.what)
		}
	}
	w.serves(w.mounts[i&1], w.tenants[i>>1&1])
}

// playSequence plays a sequence as a test of its own, which only fails where it says so itself. It returns what does not hold, and
// then what has happened.
func playSequence(t *testing.T, name string, moves []move, loud bool, acted func(deed, protocol string)) (problems []string) {
	t.Helper()
	good := t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			if acted != nil {
				w.acted = acted
			}
			for i, m := range moves {
				if w.make(i, m); w.failed() {
					break
				}
			}
			w.peace()
			problems = append(slices.Clone(w.problems), w.lines...)
			if !w.failed() {
				problems = nil
			}
			if loud {
				w.report()
			}
		})
	})
	if !good && len(problems) == 0 {
		problems = []string{"the harness has failed"}
	}
	return problems
}

// TestSequences has the engine and other people make moves at random: at least 40, on two mounts with an account in each cloud. One
// that fails is shrunk, and played again for whoever reads it.
func TestSequences(t *testing.T) {
	contract.New(t)
	wanted := os.Getenv(peopleVariable)
	length, err := time.ParseDuration(wanted)
	checks := sequencesSample
	switch {
	case wanted == "all" || wanted != "" && err == nil:
		checks = cmp.Or(atoi(os.Getenv(sequencesVariable)), sequencesAll)
	case strings.Contains(wanted, " @ "):
		replaySequence(t, wanted)
		return
	case wanted != "":
		return
	}
	setRapid(t, "checks", strconv.Itoa(checks))
	setRapid(t, "seed", cmp.Or(os.Getenv(seedVariable), strconv.Itoa(sequenceSeed)))
	setRapid(t, "nofailfile", "true")
	setRapid(t, "shrinktime", "8m")
	var played, made atomic.Int64
	var failing []move
	var failingStory []string
	matrix, began, least := newMatrix(), time.Now(), leastMoves
	var failedAfter time.Duration
	failures, verdicts := 0, map[string]string{}
	defer func() {
		if whole := matrix.print("acted in sequences"); wanted == "all" && checks >= sequencesAll && !whole && failing == nil {
			t.Error("somebody has acted nowhere in an operation: the table shows who and where")
		}
		fmt.Printf("sequences: %d, moves: %d, seed %s\n", played.Load(), made.Load(), flag.Lookup("rapid.seed").Value)
		if failing != nil {
			shrinking := time.Since(began) - failedAfter
			fmt.Printf("found after %s, shrunk to %d moves in %s\n", failedAfter.Round(time.Second), len(failing), shrinking.Round(time.Second))
			t.Errorf("%s", strings.Join(failingStory, "\n"))
			t.Error(replayLine(sequenceText(failing)))
		}
		if err := faulttest.Figures(fmt.Sprintf("sequences=%d", played.Load())); err != nil {
			t.Error(err)
		}
	}()
	rapid.Check(t, func(rt *rapid.T) {
		if err == nil && length > 0 && least > 0 && time.Since(began) > length/2 {
			return // what there was time for
		}
		moves := draw(rt, least)
		var story []string
		text := sequenceText(moves)
		invariant, known := verdicts[text] // rapid plays what fails twice, and wants the same words
		if !known {
			n := played.Add(1)
			made.Add(int64(len(moves)))
			if story = playSequence(t, fmt.Sprint(n), moves, false, matrix.count); len(story) > 0 {
				invariant, _, _ = strings.Cut(story[0], ":")
			}
			if failures > 0 || invariant != "" {
				verdicts[text] = invariant
			}
		}
		if invariant != "" {
			switch failures++; failures {
			case 1:
				failedAfter = time.Since(began)
			case 2: // rapid has played it once more from its seed; what comes now is shrunk
				least = 0
			}
			failing = moves
			if story != nil {
				failingStory = story
			}
			rt.Fatalf("invariant %s does not hold", invariant)
		}
	})
}

// replaySequence plays one sequence, and says what happens.
func replaySequence(t *testing.T, text string) {
	t.Helper()
	var moves []move
	for _, part := range strings.Split(text, separator) {
		m, err := parseMove(part)
		if err != nil {
			t.Fatal(err)
		}
		moves = append(moves, m)
	}
	if problems := playSequence(t, "replay", moves, true, nil); len(problems) > 0 {
		t.Error(replayLine(text))
	}
}

func replayLine(text string) string {
	quoted := strings.ReplaceAll(text, "'", `'\''`)
	return fmt.Sprintf("replay it: %s='%s' go test ./plugin -run '^TestSequences$' -count=1", peopleVariable, quoted)
}

// setRapid sets one of rapid's flags for this test. They are the process's: tests beside it would have them, too.
func setRapid(t *testing.T, name, value string) {
	t.Helper()
	before := flag.Lookup("rapid." + name).Value.String()
	t.Cleanup(func() { _ = flag.Set("rapid."+name, before) })
	if err := flag.Set("rapid."+name, value); err != nil {
		t.Fatal(err)
	}
}

const (
	// sequencesVariable is how many sequences "all" are, or at most are played in a time, and seedVariable where their random numbers
	// begin.
	sequencesVariable = "CLOUDKEYS_SEQUENCES"
	seedVariable      = "CLOUDKEYS_SEED"
)

func atoi(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}
