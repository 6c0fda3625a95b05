// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// turns records who got a turn, and when.
type turns struct {
	start time.Time
	group sync.WaitGroup

	mu    sync.Mutex
	names []string
	after []time.Duration
}

// wait queues a call, and returns once it stands in its queue.
func (r *turns) wait(t *testing.T, ctx context.Context, p *Pacer, class Class, name string) {
	t.Helper()
	r.group.Go(func() {
		if err := p.Wait(WithClass(ctx, class)); err != nil {
			name += " gave up"
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.names = append(r.names, name)
		r.after = append(r.after, time.Since(r.start))
	})
	synctest.Wait()
}

func mustPass(t *testing.T, p *Pacer) {
	t.Helper()
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTheRateHoldsOverManyCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, start := NewPacer(5), time.Now()
		var times []time.Duration
		for range 200 {
			mustPass(t, p)
			times = append(times, time.Since(start))
		}
		// A full bucket of five, then one every 200 ms.
		if want := 39 * time.Second; times[199] < want-time.Millisecond || times[199] > want+time.Millisecond {
			t.Errorf("200 calls took %s, want %s", times[199], want)
		}
		for i, at := range times {
			inSecond := 0
			for _, other := range times[i:] {
				if other < at+time.Second {
					inSecond++
				}
			}
			if inSecond > 10 {
				t.Fatalf("%d calls in the second after %s", inSecond, at)
			}
		}
	})
}

func TestARateBelowOneASecondIsPossible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, start := NewPacer(0.5), time.Now()
		for range 3 {
			mustPass(t, p)
		}
		if time.Since(start) != 4*time.Second {
			t.Errorf("three calls took %s, want 4s", time.Since(start))
		}
	})
}

func TestClassesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(1)
		mustPass(t, p)
		r := &turns{start: time.Now()}
		r.wait(t, t.Context(), p, ClassIssue, "first")
		for i := range 2 {
			r.wait(t, t.Context(), p, ClassBackground, fmt.Sprint("background ", i))
		}
		for i := range 4 {
			r.wait(t, t.Context(), p, ClassRevoke, fmt.Sprint("revoke ", i))
		}
		for i := range 2 {
			r.wait(t, t.Context(), p, ClassIssue, fmt.Sprint("issue ", i))
		}
		r.group.Wait()
		want := []string{
			"first", "revoke 0", "issue 0", "revoke 1", "issue 1", "revoke 2", "revoke 3", "background 0", "background 1",
		}
		if !slices.Equal(r.names, want) {
			t.Errorf("got %q, want %q", r.names, want)
		}
	})
}

func TestAnIssueDoesNotWaitForAStormOfRevokes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(5)
		r := &turns{start: time.Now()}
		for range 1000 {
			r.group.Go(func() { _ = p.Wait(WithClass(t.Context(), ClassRevoke)) })
		}
		synctest.Wait()
		r.wait(t, t.Context(), p, ClassIssue, "issue")
		r.group.Wait()
		if r.after[0] > time.Second {
			t.Errorf("the issue waited %s", r.after[0])
		}
		if total := time.Since(r.start); total > maxRevokeQueue+time.Second {
			t.Errorf("the last revoke waited %s, want to hear of it after 50s", total)
		}
	})
}

func TestARenewalDoesNotWaitForThoseWhoAskInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(5)
		loop := WithFlow(t.Context(), "app")
		for range 1000 {
			go func() { _ = p.Wait(loop) }()
		}
		synctest.Wait()
		r := &turns{start: time.Now()}
		r.wait(t, loop, p, ClassRenew, "renewal of the same role")
		r.group.Wait()
		if r.after[0] > time.Second {
			t.Errorf("the renewal waited %s", r.after[0])
		}
		<-time.After(10 * time.Minute) // until nobody waits
	})
}

func TestBackgroundWorkGoesOnInAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(5)
		var group sync.WaitGroup
		end := time.Now().Add(10 * time.Minute)
		var storm atomic.Int64
		for range 50 {
			group.Go(func() { // comes back at once, as Vault's workers do
				for time.Now().Before(end) {
					if p.Wait(WithClass(t.Context(), ClassRevoke)) == nil {
						storm.Add(1)
					}
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		calls := 0
		for ctx.Err() == nil {
			if p.Wait(WithClass(ctx, ClassBackground)) == nil {
				calls++
			}
		}
		if calls < 5 || calls > 8 {
			t.Errorf("a tick of 10 s had %d calls of 50", calls)
		}
		group.Wait()
		if total := int(storm.Load()) + calls; total < 5*600 {
			t.Errorf("%d calls in ten minutes", total)
		}
	})
}

func TestTheDefaultClassIsIssue(t *testing.T) {
	if got := classOf(t.Context()); got != ClassIssue {
		t.Errorf("got %v", got)
	}
}

func TestARevokeEndsAfterFiftySecondsInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(1.0 / 60) // a call a minute
		mustPass(t, p)
		r := &turns{start: time.Now()}
		r.wait(t, t.Context(), p, ClassIssue, "issue")
		r.wait(t, t.Context(), p, ClassRevoke, "revoke")
		r.group.Wait()
		if !slices.Equal(r.names, []string{"revoke gave up", "issue"}) ||
			!slices.Equal(r.after, []time.Duration{50 * time.Second, time.Minute}) {
			t.Errorf("got %q after %v", r.names, r.after)
		}
	})
}

func TestARevokeThatWasHandedBackGoesBeforeTheOthersOfItsFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, r := NewPacer(1), &turns{start: time.Now()}
		mustPass(t, p)
		flow := func(name string) context.Context { return WithFlow(t.Context(), name) }
		r.wait(t, flow("app"), p, ClassRevoke, "in turn")
		for i := range 3 {
			r.wait(t, flow("app"), p, ClassRevoke, fmt.Sprint("first time ", i))
		}
		r.wait(t, flow("other"), p, ClassRevoke, "other")
		for i := range 2 {
			r.wait(t, WithAgain(flow("app")), p, ClassRevoke, fmt.Sprint("again ", i))
		}
		r.group.Wait()
		want := []string{"in turn", "again 0", "other", "again 1", "first time 0", "first time 1", "first time 2"}
		if !slices.Equal(r.names, want) {
			t.Errorf("got %q, want %q", r.names, want)
		}
	})
}

func TestADeadlineShorterThanTheWaitFailsAtOnceAndSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud, p := plays(status(200)), NewPacer(0.1)
		rt := chainTo(cloud, func(o *Options) { o.Pacer = p })
		mustAnswer(t, rt, 200)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		_, err := call(t, ctx, rt)
		var notSent *NotSentError
		if !errors.As(err, &notSent) || time.Since(start) != 0 || cloud.count() != 1 {
			t.Errorf("got %v after %s and %d attempts", err, time.Since(start), cloud.count())
		}
	})
}

func TestAWaiterThatIsCancelledHoldsNobodyUp(t *testing.T) {
	for _, class := range []Class{ClassIssue, ClassRenew, ClassRevoke, ClassBackground} {
		synctest.Test(t, func(t *testing.T) {
			p := NewPacer(1)
			mustPass(t, p)
			r := &turns{start: time.Now()}
			held, cancelHolder := context.WithCancel(t.Context())
			queued, cancelQueued := context.WithCancel(t.Context())
			r.wait(t, held, p, class, "holder")
			r.wait(t, t.Context(), p, class, "second")
			r.wait(t, queued, p, class, "queued")
			r.wait(t, t.Context(), p, class, "last")

			pass(500 * time.Millisecond)
			cancelQueued()
			synctest.Wait()
			cancelHolder()
			r.group.Wait()
			want := []string{"queued gave up", "holder gave up", "second", "last"}
			if !slices.Equal(r.names, want) {
				t.Errorf("got %q, want %q", r.names, want)
			}
			if r.after[2] != time.Second || r.after[3] != 2*time.Second {
				t.Errorf("got turns after %v: the holder's token was not given back", r.after)
			}
			if p.taken {
				t.Error("the turn is taken, but nobody has it")
			}
		})
	}
}

func TestAWaiterCancelledInTheMomentOfItsTurnPassesItOn(t *testing.T) {
	p := NewPacer(1e6)
	for range 200 {
		var group sync.WaitGroup
		for i := range 20 {
			ctx, cancel := context.WithCancel(WithClass(t.Context(), Class(i%int(classes))))
			group.Go(func() { _ = p.Wait(ctx) })
			group.Go(cancel)
		}
		group.Wait()
		if p.taken || slices.ContainsFunc(p.queues[:], func(q fairQueue) bool { return len(q.flows)+len(q.urgent)+len(q.waiting) > 0 }) {
			t.Fatal("the turn was lost")
		}
	}
	mustPass(t, p)
}

func TestATurnThatCameTogetherWithTheCancellationIsPassedOn(t *testing.T) {
	p := NewPacer(1e6)
	p.taken = true
	turn, next := make(chan struct{}), make(chan struct{})
	p.queues[ClassIssue].push("", waiter{turn: next})
	p.leave(ClassIssue, "", turn) // no longer queued: its turn has come
	select {
	case <-next:
	default:
		t.Error("the next in the queue did not get the turn")
	}
}

func TestACallThatEndsWhatAnotherBeganGoesFirstInItsClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(1)
		mustPass(t, p)
		order := make(chan string, 3)
		wait := func(name string, ctx context.Context) {
			go func() {
				if err := p.Wait(ctx); err != nil {
					t.Error(err)
				}
				order <- name
			}()
			synctest.Wait()
		}
		revoke := WithClass(t.Context(), ClassRevoke)
		wait("first", revoke) // has its turn already, and waits for the token
		wait("begins", revoke)
		wait("ends", WithNext(revoke))
		for _, want := range []string{"first", "ends", "begins"} {
			if got := <-order; got != want {
				t.Errorf("%s came where %s should", got, want)
			}
		}
	})
}

func TestFlowsTakeTurns(t *testing.T) {
	t.Run("a flow of many calls keeps another waiting for one turn at most", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, r := NewPacer(1), &turns{start: time.Now()}
			mustPass(t, p)
			for i := range 50 {
				r.wait(t, WithFlow(t.Context(), "loop"), p, ClassIssue, fmt.Sprint("loop", i))
			}
			r.wait(t, WithFlow(t.Context(), "other"), p, ClassIssue, "other")
			r.wait(t, WithNext(WithFlow(t.Context(), "loop")), p, ClassIssue, "urgent")
			r.group.Wait()
			if got := r.names[:4]; !slices.Equal(got, []string{"loop0", "urgent", "loop1", "other"}) {
				t.Errorf("got %v", got)
			}
			if len(r.names) != 52 || r.names[51] != "loop49" {
				t.Errorf("%d turns, the last for %s", len(r.names), r.names[len(r.names)-1])
			}
		})
	})
	t.Run("who gives up leaves no trace in any flow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, r := NewPacer(1), &turns{start: time.Now()}
			mustPass(t, p)
			for i := range 60 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i%7)*time.Second)
				defer cancel()
				if i%5 == 0 {
					ctx = WithNext(ctx)
				}
				r.wait(t, WithFlow(ctx, fmt.Sprint(i%3)), p, Class(i%int(classes)), "x")
			}
			r.group.Wait()
			for _, q := range p.queues {
				if len(q.flows)+len(q.urgent)+len(q.waiting) > 0 {
					t.Errorf("left: %+v", q)
				}
			}
			mustPass(t, p)
		})
	})
}
