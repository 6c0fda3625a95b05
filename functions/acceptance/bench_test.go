// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// initReport is the emulator's word on how long a function took to ask for its first event.
var initReport = regexp.MustCompile(`INIT REPORT\(durationMs: ([0-9.]+)\)`)

func BenchmarkStart(b *testing.B) {
	for _, function := range []string{revokeFunction, syncFunction} {
		b.Run(function, func(b *testing.B) {
			binary, err := os.Stat(filepath.Join(os.Getenv("FUNCTIONS_BIN"), function, "bootstrap"))
			if err != nil {
				b.Fatal(err)
			}
			total := 0.0
			for b.Loop() {
				started := startLambda(b, function, nil)
				started.invoke(`{"nonsense": true}`)
				total += started.initTime()
			}
			b.ReportMetric(float64(binary.Size())/1e6, "MB")
			b.ReportMetric(total/float64(b.N), "ms/start")
		})
	}
}

// initTime is that word, in milliseconds. It can come after the answer to the first event.
func (l *lambda) initTime() float64 {
	l.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		if found := initReport.FindStringSubmatch(l.log.String()); found != nil {
			took, err := strconv.ParseFloat(found[1], 64)
			if err != nil {
				l.t.Fatal(err)
			}
			return took
		}
		select {
		case <-deadline:
			l.t.Fatalf("the emulator tells no time: %s", l.log)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// BenchmarkSweep has users with eight keys each, one of them an orphan.
func BenchmarkSweep(b *testing.B) {
	const keys = 8
	for _, all := range []int{1000, 100_000, 1_000_000} {
		b.Run(strconv.Itoa(all), func(b *testing.B) {
			users := all / keys
			w := newWorld(b)
			w.withAWS()
			w.withSink()
			w.write(w.name+"/config/default", "max_requests_per_second=10000")
			w.fill(users, keys, 1)
			for b.Loop() {
				w.sim.ResetCalls()
				function := w.start(revokeFunction, "MODE=report", "WORKERS=16", "AWS_LAMBDA_FUNCTION_TIMEOUT=900", "ALLOW_EMPTY_LEDGER=true")
				started := time.Now()
				answer := decode[run.SweepAnswer](b, function.invoke(`{}`))
				took := time.Since(started)
				if len(answer.Accounts) != 1 || answer.Accounts[0].Partial || answer.Accounts[0].Seen < users*keys ||
					answer.Accounts[0].Planned < users {
					b.Fatalf("got %+v", answer)
				}
				calls := w.callsByOp()
				b.ReportMetric(float64(answer.Accounts[0].Seen)/took.Seconds(), "keys/s")
				b.ReportMetric(function.peakMemory()/1e6, "MB-peak")
				b.ReportMetric(float64(mustCPU(b, function.child()).Microseconds())/float64(all), "CPU-µs/key")
				// Besides the users that were filled in, there are the account itself, "app" and "functions".
				b.ReportMetric(float64(calls["ReadAccessKeys"])/float64(users+3), "calls/identity")
			}
		})
	}
}

// BenchmarkSweepThatDeletes counts the calls that deletions take, where so many of each user's eight keys are orphans.
func BenchmarkSweepThatDeletes(b *testing.B) {
	const users, keys = 100, 8
	for _, orphans := range []int{1, 4} {
		b.Run(strconv.Itoa(orphans), func(b *testing.B) {
			for b.Loop() {
				w := newWorld(b)
				w.withAWS()
				w.withSink()
				w.write(w.name+"/config/default", "max_requests_per_second=10000")
				w.fill(users, keys, orphans)
				w.sim.ResetCalls()
				function := w.start(revokeFunction, "MODE=enforce", "MAX_KEYS=1000", "AWS_LAMBDA_FUNCTION_TIMEOUT=900", "ALLOW_EMPTY_LEDGER=true")
				answer := decode[run.SweepAnswer](b, function.invoke(`{}`))
				if len(answer.Accounts) != 1 || answer.Accounts[0].Deleted < users*orphans || answer.Accounts[0].Failed > 0 {
					b.Fatalf("got %+v", answer)
				}
				calls, deleted := w.callsByOp(), float64(answer.Accounts[0].Deleted)
				changes := float64(calls["UpdateAccessKey"] + calls["DeleteAccessKey"])
				b.ReportMetric(changes/deleted, "changes/deletion")
				b.ReportMetric((changes+float64(calls["ReadAccessKeys"]-users-3))/deleted, "calls/deletion")
			}
		})
	}
}

// withSink gives the function a bucket that takes its reports and forgets them: moto, which is Python, would be measured with
// the report of a million keys, or hold it up until its time is over.
func (w *world) withSink() {
	sink := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // what comes is of no interest
		if r.Method != http.MethodPut {
			rw.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(rw, "<Error><Code>NoSuchKey</Code></Error>")
		}
	}))
	w.t.Cleanup(sink.Close)
	w.env["REPORT_BUCKET"], w.env["AWS_ENDPOINT_URL_S3"] = w.name, sink.URL
}

// fill adds users with so many keys each, of which so many are orphans.
func (w *world) fill(users, keys, orphans int) {
	w.t.Helper()
	instance := w.read(w.name + "/info")["instance_id"].(string)
	now := time.Now()
	for i := range users {
		user := fmt.Sprintf("user-%06d", i)
		w.account.AddUser(user)
		for range orphans {
			w.account.AddKey(cloudsim.KeySpec{
				User: user, Tag: keylabel.New(instance, keylabel.KindLease).String(),
				Created: now.Add(-2 * time.Hour),
			})
		}
		for k := range keys - orphans {
			w.account.AddKey(cloudsim.KeySpec{User: user, Created: now.AddDate(0, 0, -30*k-1)})
		}
	}
}

// callsByOp counts the function's calls. The engine's, for the key that the function gets and gives back, are left out.
func (w *world) callsByOp() map[string]int {
	calls, engine := map[string]int{}, w.account.RootKey().AccessKey
	for _, call := range w.sim.Calls() {
		if call.AccessKey != engine {
			calls[call.Op]++
		}
	}
	return calls
}

// peakMemory is the most that the function itself has held, in bytes.
func (l *lambda) peakMemory() float64 {
	l.t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(l.child()) + "/status")
	if err != nil {
		l.t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	fields := strings.Fields(rest)
	if !found || len(fields) == 0 {
		l.t.Fatalf("the system tells no peak: %s", status)
	}
	kilobytes, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		l.t.Fatal(err)
	}
	return kilobytes * 1024
}
