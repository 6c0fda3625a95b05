// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package queue

import (
	"context"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeSQS takes batches, and refuses what refuse says.
type fakeSQS struct {
	calls  int
	taken  []string
	refuse func(call int, body string) (refused, senderFault bool)
}

type entry struct{ Id, MessageBody string }

func (f *fakeSQS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.calls++
	var batch struct{ Entries []entry }
	if r.Header.Get("X-Amz-Target") != "AmazonSQS.SendMessageBatch" || json.NewDecoder(r.Body).Decode(&batch) != nil || len(batch.Entries) > 10 {
		http.Error(w, "not a batch", http.StatusBadRequest)
		return
	}
	successful, failed := []any{}, []any{}
	for _, e := range batch.Entries {
		if refused, fault := f.refuse(f.calls, e.MessageBody); refused {
			failed = append(failed, map[string]any{"Id": e.Id, "SenderFault": fault, "Code": "InternalError", "Message": "try again"})
			continue
		}
		f.taken = append(f.taken, e.MessageBody)
		successful = append(successful, map[string]any{"Id": e.Id, "MessageId": e.Id, "MD5OfMessageBody": fmt.Sprintf("%x", md5.Sum([]byte(e.MessageBody)))})
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	_ = json.NewEncoder(w).Encode(map[string]any{"Successful": successful, "Failed": failed}) // the client finds out
}

func newSQS(t *testing.T, refuse func(call int, body string) (refused, senderFault bool)) (*fakeSQS, Queue) {
	t.Helper()
	fake := &fakeSQS{refuse: refuse}
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	return fake, FromEnvironment(func(name string) string {
		return map[string]string{
			"REQUEST_QUEUE_URL": "https://sqs.example.com/1/requests", "AWS_ENDPOINT_URL_SQS": server.URL, "AWS_REGION": "r",
			"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK",
		}[name]
	})
}

func bodies(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"n":%d}`, i))
	}
	return all
}

func TestEveryEventIsSentOnce(t *testing.T) {
	fake, queue := newSQS(t, func(int, string) (bool, bool) { return false, false })
	if err := queue.Send(t.Context(), bodies(25)); err != nil {
		t.Fatal(err)
	}
	if fake.calls != 3 || !slices.Equal(fake.taken, bodies(25)) {
		t.Errorf("%d calls took %q", fake.calls, fake.taken)
	}
}

func TestWhatSQSRefusesOfABatchIsSentAgainAndNothingElse(t *testing.T) {
	fake, queue := newSQS(t, func(call int, body string) (bool, bool) { return call < 3 && strings.Contains(body, "7"), false })
	if err := queue.Send(t.Context(), bodies(10)); err != nil {
		t.Fatal(err)
	}
	if sorted := slices.Sorted(slices.Values(fake.taken)); fake.calls != 3 || !slices.Equal(sorted, bodies(10)) {
		t.Errorf("%d calls took %q", fake.calls, sorted)
	}
}

func TestWhatCannotBeSentIsCountedAndTheRestIsSent(t *testing.T) {
	fake, queue := newSQS(t, func(_ int, body string) (bool, bool) { return body == `{"n":3}`, true })
	var lost *NotQueuedError
	if err := queue.Send(t.Context(), bodies(15)); !errors.As(err, &lost) || lost.Lost != 1 || strings.Contains(err.Error(), `"n"`) {
		t.Errorf("got %v", err)
	}
	if len(fake.taken) != 14 || fake.calls != 2 {
		t.Errorf("%d calls took %d: what is our own fault is not tried again", fake.calls, len(fake.taken))
	}
}

func TestARunThatIsCutOffWaitsForNoQueue(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, queue := newSQS(t, func(int, string) (bool, bool) { return true, false })
	var lost *NotQueuedError
	if err := queue.Send(ctx, bodies(1)); !errors.As(err, &lost) || lost.Lost != 1 {
		t.Errorf("got %v", err)
	}
}

func TestWithoutAURLThereIsNoQueue(t *testing.T) {
	if got := FromEnvironment(func(string) string { return "" }); got != nil {
		t.Errorf("got %v", got)
	}
}
