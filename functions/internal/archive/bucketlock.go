// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const (
	// lockLife is how long a lock holds after it was last renewed: that of a run that was killed ends then.
	lockLife = 10 * time.Minute
	// lockRenewal is three times shorter, so that two renewals in a row may fail.
	lockRenewal = 3 * time.Minute
)

// lockRecord is what stands in a bucket for a run that is at work.
type lockRecord struct {
	Holder string    `json:"holder"`
	Until  time.Time `json:"until"`
}

// Lock keeps a second run of a job from a bucket while one is at work there, by an object that is renewed until the run has ended.
//
//	read     somebody's who is at work: refused
//	write    only over what was read (If-Match, If-None-Match). Crash: it ends by itself after ten minutes
//	read     a store that knows no conditions has kept the last of two
func (b *Bucket) Lock(ctx context.Context, job string) (release func(), err error) {
	name := "state/lock-" + job + ".json"
	mine := lockRecord{Holder: rand.Text(), Until: time.Now().Add(lockLife)}
	held, etag, err := b.readLock(ctx, name)
	if err != nil {
		return nil, err
	}
	if time.Now().Before(held.Until) {
		return nil, b.locked(held.Until)
	}
	err = b.writeLock(ctx, name, mine, func(put *s3.PutObjectInput) {
		if put.IfMatch = etag; etag == nil {
			put.IfNoneMatch = new(string)
			*put.IfNoneMatch = "*"
		}
	})
	switch status(err) {
	case http.StatusPreconditionFailed, http.StatusConflict:
		return nil, b.locked(mine.Until)
	case http.StatusNotImplemented: // a store that knows no conditions, and says so
		err = b.writeLock(ctx, name, mine, nil)
	}
	if err != nil {
		return nil, err
	}
	if held, _, err = b.readLock(ctx, name); err != nil {
		return nil, err
	}
	if held.Holder != mine.Holder {
		return nil, b.locked(held.Until)
	}
	return b.renew(context.WithoutCancel(ctx), name, mine), nil
}

func (b *Bucket) locked(until time.Time) error {
	return &LockedError{fmt.Sprintf("the bucket %s, or was killed there: its lock ends at %s", b.name, until.UTC().Format(time.RFC3339))}
}

// renew keeps a lock until the returned function is called. A renewal that fails is tried again at the next. One that has ended
// meanwhile, on a machine that slept, may be somebody else's by now, and is left to him.
func (b *Bucket) renew(ctx context.Context, name string, mine lockRecord) (release func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(lockRenewal)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				b.writeOwn(ctx, name, lockRecord{mine.Holder, time.Now().Add(lockLife)})
			case <-stop:
				b.writeOwn(ctx, name, lockRecord{Holder: mine.Holder}) // else it ends by itself
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}

// writeOwn writes over a lock of the same holder, and over nobody else's.
func (b *Bucket) writeOwn(ctx context.Context, name string, record lockRecord) {
	ctx, cancel := context.WithTimeout(ctx, 2*putTimeout)
	defer cancel()
	held, etag, err := b.readLock(ctx, name)
	if err != nil || held.Holder != record.Holder {
		return
	}
	err = b.writeLock(ctx, name, record, func(put *s3.PutObjectInput) { put.IfMatch = etag })
	if status(err) == http.StatusNotImplemented {
		_ = b.writeLock(ctx, name, record, nil)
	}
}

// readLock returns the zero record where there is no lock.
func (b *Bucket) readLock(ctx context.Context, name string) (record lockRecord, etag *string, err error) {
	answer, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &name})
	var missing *types.NoSuchKey
	if errors.As(err, &missing) {
		return record, nil, nil
	}
	if err != nil {
		return record, nil, fmt.Errorf("reading %s from the bucket %s: %w", name, b.name, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil {
		err = json.Unmarshal(text, &record)
	}
	if err != nil {
		return record, nil, fmt.Errorf("%s is damaged, delete it if no run is at work: %w", name, err)
	}
	return record, answer.ETag, nil
}

func (b *Bucket) writeLock(ctx context.Context, name string, record lockRecord, condition func(*s3.PutObjectInput)) error {
	text, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("writing the lock: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	put := &s3.PutObjectInput{Bucket: &b.name, Key: &name, Body: bytes.NewReader(text)}
	if condition != nil {
		condition(put)
	}
	if _, err := b.client.PutObject(ctx, put); err != nil {
		return fmt.Errorf("storing %s in the bucket %s: %w", name, b.name, err)
	}
	return nil
}

// status is what a store has answered; 0 where it has not.
func status(err error) int {
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}
