// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/task"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// queues are RequestQueue and RequestDeadLetterQueue of template.yaml.
type queues struct {
	*cloudOfFunctions
	requests string
	dead     string

	mu        sync.Mutex
	delivered map[string]int // by body

	one sync.Mutex
}

// sqs makes one call at a time: moto loses its way where two receive at once.
func (q *queues) sqs(operation string, in, out any) {
	q.one.Lock()
	defer q.one.Unlock()
	q.call("sqs", operation, in, out)
}

func newQueues(t testing.TB, environments int, env map[string]string) *queues {
	t.Helper()
	q := &queues{cloudOfFunctions: newCloudOfFunctions(t, environments, env), delivered: map[string]int{}}
	properties := template(t).Resources.RequestQueue.Properties
	q.dead = q.queue("dead", nil)
	q.requests = q.queue("requests", map[string]string{
		"VisibilityTimeout": strconv.Itoa(properties.VisibilityTimeout),
		"RedrivePolicy":     fmt.Sprintf(`{"deadLetterTargetArn":"arn:aws:sqs:%s:123456789012:dead","maxReceiveCount":%d}`, awsRegion, properties.RedrivePolicy.MaxReceiveCount),
	})
	q.env["REQUEST_QUEUE_URL"] = q.requests
	q.open()
	return q
}

type message struct{ MessageId, ReceiptHandle, Body string }

func (q *queues) receive(queue string) []message {
	var answer struct{ Messages []message }
	q.sqs("ReceiveMessage", map[string]any{"QueueUrl": queue, "MaxNumberOfMessages": 1}, &answer)
	return answer.Messages
}

// drain is Lambda's event source mapping, with BatchSize 1, ReportBatchItemFailures and as
// many messages at once as there are environments. It ends when no message is left. That a
// message of a failed invocation is hidden for an hour first is all that it leaves out.
func (q *queues) drain() {
	q.t.Helper()
	var group sync.WaitGroup
	var inFlight atomic.Int64
	for range cap(q.free) {
		group.Go(func() {
			for q.takeOne(&inFlight) || inFlight.Load() > 0 { // a message in flight may come back
			}
		})
	}
	group.Wait()
}

// takeOne delivers a message, or waits a little where there is none.
func (q *queues) takeOne(inFlight *atomic.Int64) bool {
	messages := q.receive(q.requests)
	inFlight.Add(1)
	defer inFlight.Add(-1)
	for _, m := range messages {
		q.deliver(m)
	}
	if len(messages) == 0 {
		<-time.After(50 * time.Millisecond)
	}
	return len(messages) > 0
}

func (q *queues) deliver(m message) {
	q.mu.Lock()
	q.delivered[m.Body]++
	q.mu.Unlock()
	event, err := json.Marshal(events.SQSEvent{Records: []events.SQSMessage{{MessageId: m.MessageId, ReceiptHandle: m.ReceiptHandle, Body: m.Body, EventSource: "aws:sqs"}}})
	if err != nil {
		q.t.Error(err)
		return
	}
	text, err := q.invoke(string(event))
	var answer events.SQSEventResponse
	if err == nil {
		err = json.Unmarshal([]byte(text), &answer)
	}
	if err != nil || strings.Contains(text, "errorType") || len(answer.BatchItemFailures) > 0 {
		q.sqs("ChangeMessageVisibility", map[string]any{"QueueUrl": q.requests, "ReceiptHandle": m.ReceiptHandle, "VisibilityTimeout": 0}, nil)
		return
	}
	q.sqs("DeleteMessage", map[string]any{"QueueUrl": q.requests, "ReceiptHandle": m.ReceiptHandle}, nil)
}

func (q *queues) dispatch() task.DispatchAnswer {
	q.t.Helper()
	text, err := q.invoke(`{"run_id": "2026-11-22T03:17:00Z", "phase": "dispatch"}`)
	if err != nil {
		q.t.Fatal(err)
	}
	return decode[task.DispatchAnswer](q.t, text)
}

// given are the bodies that ended in the dead-letter queue.
func (q *queues) given() []string {
	var bodies []string
	for {
		messages := q.receive(q.dead)
		if len(messages) == 0 {
			return bodies
		}
		for _, m := range messages {
			bodies = append(bodies, m.Body)
			q.sqs("DeleteMessage", map[string]any{"QueueUrl": q.dead, "ReceiptHandle": m.ReceiptHandle}, nil)
		}
	}
}

func TestAQueueSweeps2000AccountsOnceEach(t *testing.T) {
	t.Parallel()
	const accounts = 2000
	f := newFleet(t, accounts)
	poisoned := f.members[1234]
	f.sim.Order(cloudsim.Fault{Op: "ReadUsers", Account: poisoned.account.ID(), Kind: cloudsim.Refuse, Status: 400})
	q := newQueues(t, 3, f.environment())
	if got := q.dispatch(); got.Accounts != accounts {
		t.Fatalf("got %+v", got)
	}
	began := time.Now()
	q.drain()
	t.Logf("%d accounts in %s", accounts, time.Since(began))
	f.mustBeSwept(func(m *member) bool { return m != poisoned })
	t.Run("each by one message, delivered once", func(t *testing.T) {
		if len(q.delivered) != accounts {
			t.Errorf("%d messages were delivered", len(q.delivered))
		}
		for body, times := range q.delivered {
			want := 1
			if strings.Contains(body, poisoned.name) {
				want = 3
			}
			if times != want {
				t.Errorf("%s was delivered %d times, want %d", body, times, want)
			}
		}
		if deletions := f.sim.CountCalls("DeleteAccessKey"); deletions != accounts-1 {
			t.Errorf("%d keys were deleted by %d calls", accounts-1, deletions)
		}
	})
	t.Run("but for the poisoned account, which ends in the dead-letter queue", func(t *testing.T) {
		if bodies := q.given(); len(bodies) != 1 || !strings.Contains(bodies[0], `"`+poisoned.name+`"`) {
			t.Errorf("got %q", bodies)
		}
	})
	t.Run("and every token is given back", func(t *testing.T) {
		if f.logins != accounts+3 || f.revoked != f.logins {
			t.Errorf("%d logins, %d given back", f.logins, f.revoked)
		}
	})
}

func TestAKilledSweepLosesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 40)
	q := newQueues(t, 3, f.environment())
	kills := f.killOnce(q.cloudOfFunctions, map[*member]string{
		f.members[3]: "ReadUsers", f.members[14]: "UpdateAccessKey", f.members[25]: "DeleteAccessKey",
	})
	q.dispatch()
	q.drain()
	if kills.Load() != 3 {
		t.Errorf("%d environments were killed", kills.Load())
	}
	f.mustBeSwept(every)
	if bodies := q.given(); len(bodies) > 0 {
		t.Errorf("in the dead-letter queue are %q", bodies)
	}
}

func TestAMessageDeliveredTwiceMeansTheSame(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 10)
	q := newQueues(t, 3, f.environment())
	q.dispatch()
	q.dispatch() // at once: two sweeps of each account, side by side
	q.drain()
	f.mustBeSwept(every)
	if bodies := q.given(); len(bodies) > 0 {
		t.Errorf("in the dead-letter queue are %q", bodies)
	}
}

// TestALargeAccountIsSplit has more users than can be looked at in the time of one invocation.
func TestALargeAccountIsSplit(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	large := f.members[1]
	var orphans []string
	for i := range 60 {
		user := fmt.Sprintf("user-%02d", i)
		large.account.AddUser(user)
		orphans = append(orphans, large.account.AddKey(cloudsim.KeySpec{
			User: user, Tag: keylabel.New(fleetInstance, keylabel.KindLease).String(), Created: time.Now().Add(-3 * time.Hour),
		}).AccessKey)
	}
	f.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Account: large.account.ID(), Kind: cloudsim.Delay, Delay: 100 * time.Millisecond})
	env := f.environment()
	env["AWS_LAMBDA_FUNCTION_TIMEOUT"], env["RESERVE"], env["WORKERS"], env["MAX_PERCENT"] = "14", "8s", "1", "100"
	q := newQueues(t, 2, env)
	q.dispatch()
	q.drain()
	f.mustBeSwept(every)
	for _, id := range orphans {
		if _, left := large.account.Key(id); left {
			t.Errorf("an orphan is left")
		}
	}
	parts := 0
	for body := range q.delivered {
		if strings.Contains(body, large.name) {
			parts++
		}
	}
	t.Logf("%d parts", parts)
	if parts < 2 {
		t.Errorf("the account was swept in %d parts", parts)
	}
	if bodies := q.given(); len(bodies) > 0 {
		t.Errorf("in the dead-letter queue are %q", bodies)
	}
}
