// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package queue sends events to the queue that the function itself reads: an account each
// when a run fans out, and the rest of an account for which time ran out.
package queue

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

const (
	batchSize = 10 // the most that SQS takes at once

	// tries is how often an entry is sent that SQS refuses, beside the SDK's own retries of
	// a whole call.
	tries = 5
	pause = 200 * time.Millisecond // after the first try, and twice as long after each
)

// Queue takes events.
type Queue interface {
	// Send sends every body, or fails with a *NotQueuedError where some could not be sent.
	// The others are sent even then.
	Send(ctx context.Context, bodies []string) error
}

// NotQueuedError tells that not all events could be sent. Those that are sent again when the
// invocation is repeated do no harm: a sweep twice has the result of one.
type NotQueuedError struct {
	Lost int // how many were not sent
	Err  error
}

// Error does not repeat the events.
func (e *NotQueuedError) Error() string {
	return fmt.Sprintf("%d events could not be put on the queue of REQUEST_QUEUE_URL: %v", e.Lost, e.Err)
}

// Unwrap returns the last reason.
func (e *NotQueuedError) Unwrap() error { return e.Err }

// SQS is a queue of Amazon SQS.
type SQS struct {
	url    string
	client *sqs.Client
}

// Environment names what FromEnvironment reads, beside what Lambda itself sets.
func Environment() []string { return []string{"REQUEST_QUEUE_URL"} }

// FromEnvironment returns the queue that REQUEST_QUEUE_URL names; nil where it names none.
// The credentials are those of the function's role.
func FromEnvironment(getenv func(string) string) Queue {
	url := getenv("REQUEST_QUEUE_URL")
	if url == "" {
		return nil
	}
	options := sqs.Options{
		Region: getenv("AWS_REGION"),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{
				AccessKeyID: getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: getenv("AWS_SESSION_TOKEN"),
			}, nil
		}),
	}
	if endpoint := getenv("AWS_ENDPOINT_URL_SQS"); endpoint != "" { // the SDK's own name for it
		options.BaseEndpoint = &endpoint
	}
	return &SQS{url: url, client: sqs.New(options)}
}

// Send implements Queue.
func (q *SQS) Send(ctx context.Context, bodies []string) error {
	lost := &NotQueuedError{}
	for batch := range slices.Chunk(bodies, batchSize) {
		if n, err := q.send(ctx, batch); err != nil {
			lost.Lost, lost.Err = lost.Lost+n, err
		}
	}
	if lost.Err != nil {
		return lost
	}
	return nil
}

// send sends a batch, and again those of it that SQS refused: it answers with success even
// where it took only some. It returns how many were not sent.
func (q *SQS) send(ctx context.Context, batch []string) (int, error) {
	entries := make([]types.SendMessageBatchRequestEntry, 0, len(batch))
	for i, body := range batch {
		entries = append(entries, types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: &body})
	}
	for try := 1; ; try++ {
		answer, err := q.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: entries})
		if err != nil {
			return len(entries), err
		}
		if len(answer.Failed) == 0 {
			return 0, nil
		}
		entries = slices.DeleteFunc(entries, func(entry types.SendMessageBatchRequestEntry) bool {
			return !slices.ContainsFunc(answer.Failed, func(failed types.BatchResultErrorEntry) bool {
				return aws.ToString(failed.Id) == aws.ToString(entry.Id)
			})
		})
		if err := refusal(answer.Failed[0]); try == tries || answer.Failed[0].SenderFault {
			return len(entries), err
		}
		if err := wait(ctx, pause<<(try-1)); err != nil {
			return len(entries), err
		}
	}
}

func refusal(failed types.BatchResultErrorEntry) error {
	return fmt.Errorf("SQS refuses an entry: %s: %s", aws.ToString(failed.Code), aws.ToString(failed.Message))
}

func wait(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
