// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// BenchmarkOneAccount is what docs/scale.md reckons with: one account of ten
// users with two keys each, from login to report, with a real Vault. CPU time is that of the
// processes themselves, whatever else the machine does.
func BenchmarkOneAccount(b *testing.B) {
	const users = 10
	w := newWorld(b)
	w.withAppRole()
	w.withBucket()
	for i := range users - 2 { // the world has two
		user := fmt.Sprintf("user-%d", i)
		w.account.AddUser(user)
		for range 2 {
			w.account.AddKey(cloudsim.KeySpec{User: user, Created: time.Now().AddDate(0, 0, -30)})
		}
	}
	target, err := url.Parse(w.server.Addr())
	if err != nil {
		b.Fatal(err)
	}
	var asked atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		httputil.NewSingleHostReverseProxy(target).ServeHTTP(rw, r)
	}))
	b.Cleanup(front.Close)
	function := w.start(revokeFunction, "VAULT_ADDR="+front.URL, "AWS_REGION="+awsRegion, "AWS_ACCESS_KEY_ID=test",
		"AWS_SECRET_ACCESS_KEY=test")
	const event = `{"accounts": ["default"], "resume": {"default": ""}}`
	function.invoke(event)
	plugins, err := w.server.PluginPIDs()
	if err != nil || len(plugins) == 0 {
		b.Fatal(plugins, err)
	}
	vault := append(plugins, mustParent(b, plugins[0]))
	vaultBefore, ownBefore := mustCPU(b, vault...), mustCPU(b, function.child())
	w.sim.ResetCalls()
	asked.Store(0)
	for b.Loop() {
		if text := function.invoke(event); !strings.Contains(text, `"partial":false`) {
			b.Fatal(text)
		}
	}
	n := float64(b.N)
	fromVault := 0
	for _, call := range w.sim.Calls() {
		if call.AccessKey == w.account.RootKey().AccessKey {
			fromVault++
		}
	}
	b.ReportMetric(float64(asked.Load())/n, "Vault-requests/op")
	b.ReportMetric(float64(len(w.sim.Calls())-fromVault)/n, "cloud-calls/op")
	b.ReportMetric(float64(fromVault)/n, "cloud-calls-of-Vault/op")
	b.ReportMetric(float64((mustCPU(b, vault...)-vaultBefore).Microseconds())/n/1000, "Vault-CPU-ms/op")
	b.ReportMetric(float64((mustCPU(b, function.child())-ownBefore).Microseconds())/n/1000, "function-CPU-ms/op")
}

// stat are a process's fields after its name, which may have blanks.
func stat(b *testing.B, pid int) [][]byte {
	b.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		b.Fatal(err)
	}
	return bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
}

func mustNumber(b *testing.B, field []byte) int {
	b.Helper()
	n, err := strconv.Atoi(string(field))
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func mustParent(b *testing.B, pid int) int {
	b.Helper()
	return mustNumber(b, stat(b, pid)[1])
}

// mustCPU is the CPU time that processes have had, of which Linux counts hundredths of a second.
func mustCPU(b *testing.B, pids ...int) time.Duration {
	b.Helper()
	ticks := 0
	for _, pid := range pids {
		fields := stat(b, pid)
		ticks += mustNumber(b, fields[11]) + mustNumber(b, fields[12])
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
