// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/task"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
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
				found := initReport.FindStringSubmatch(started.log.String())
				if found == nil {
					b.Fatalf("the emulator tells no time: %s", started.log)
				}
				took, err := strconv.ParseFloat(found[1], 64)
				if err != nil {
					b.Fatal(err)
				}
				total += took
			}
			b.ReportMetric(float64(binary.Size())/1e6, "MB")
			b.ReportMetric(total/float64(b.N), "ms/start")
		})
	}
}

// BenchmarkSweepOf100000Keys has 12,500 users with eight keys each, one of them an orphan.
func BenchmarkSweepOf100000Keys(b *testing.B) {
	const users, keys = 12_500, 8
	w := newWorld(b)
	w.withAWS()
	w.withBucket()
	w.write(w.name+"/config/default", "max_requests_per_second=5000")
	instance := w.read(w.name + "/info")["instance_id"].(string)
	now := time.Now()
	for i := range users {
		user := fmt.Sprintf("user-%05d", i)
		w.account.AddUser(user)
		w.account.AddKey(cloudsim.KeySpec{User: user, Tag: keylabel.New(instance, keylabel.KindLease).String(), Created: now.Add(-2 * time.Hour)})
		for k := range keys - 1 {
			w.account.AddKey(cloudsim.KeySpec{User: user, Created: now.AddDate(0, 0, -30*k-1)})
		}
	}
	for b.Loop() {
		function := w.start(revokeFunction, "MODE=report", "WORKERS=16", "AWS_LAMBDA_FUNCTION_TIMEOUT=900", "ALLOW_EMPTY_LEDGER=true")
		answer := decode[task.SweepAnswer](b, function.invoke(`{}`))
		if len(answer.Accounts) != 1 || answer.Accounts[0].Seen < users*keys || answer.Accounts[0].Planned < users {
			b.Fatalf("got %+v", answer)
		}
		b.ReportMetric(function.peakMemory()/1e6, "MB-peak")
		w.sim.ResetCalls()
	}
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
