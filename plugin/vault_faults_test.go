// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
)

// failStorage fails a storage operation on a prefix until v.storage.before is reset.
func (v *testVault) failStorage(op, prefix string) {
	v.storage.before = func(o, key string) error {
		if o == op && strings.HasPrefix(key, prefix) {
			return errInjected
		}
		return nil
	}
}

// failWrites fails one write on a prefix, counted from now on, until v.storage.before is reset.
func (v *testVault) failWrites(prefix string, nth int) {
	n := 0
	v.storage.before = func(op, key string) error {
		if op == "put" && strings.HasPrefix(key, prefix) {
			if n++; n == nth {
				return errInjected
			}
		}
		return nil
	}
}

// failReads has the entries of a prefix be unreadable from now on.
func (v *testVault) failReads(prefix string) {
	v.storage.before = func(op, key string) error {
		if op == "get" && strings.HasPrefix(key, prefix) {
			return errInjected
		}
		return nil
	}
}

// countLedgerReads counts from now on.
func (v *testVault) countLedgerReads() (reads func() int) {
	n := 0
	v.storage.before = func(op, key string) error {
		if op == "get" && strings.HasPrefix(key, ledger.Prefix) {
			n++
		}
		return nil
	}
	return func() int { return n }
}

// dieAt runs do and lets the process die before the given storage or cloud step: from
// then on neither is reached. It tells whether there was such a step.
func (v *testVault) dieAt(step int, do func(context.Context)) bool {
	v.t.Helper()
	count, dead := 0, false
	var lock sync.Mutex // an issue makes calls at the same time
	die := func() bool {
		lock.Lock()
		defer lock.Unlock()
		dead = dead || count == step
		count++
		return dead
	}
	v.storage.before = func(string, string) error {
		if die() {
			return errInjected
		}
		return nil
	}
	live := v.base
	v.base = roundTripper(func(req *http.Request) (*http.Response, error) {
		if die() {
			return nil, errInjected
		}
		return live.RoundTrip(req)
	})
	v.restart()
	do(v.t.Context())
	v.storage.before, v.base = nil, live
	return dead
}

// failWrite runs do and fails the given one of its storage writes. It tells whether there
// was such a write.
func (v *testVault) failWrite(write int, do func()) bool {
	v.t.Helper()
	count := 0
	v.storage.before = func(op, _ string) error {
		if op != "put" && op != "delete" {
			return nil
		}
		if count++; count == write+1 {
			return errInjected
		}
		return nil
	}
	do()
	v.storage.before = nil
	return count > write
}

// countStorage counts calls below a prefix from now on.
func (v *testVault) countStorage(prefix string) (calls func() int64) {
	n := new(atomic.Int64)
	v.storage.before = func(_, key string) error {
		if strings.HasPrefix(key, prefix) {
			n.Add(1)
		}
		return nil
	}
	return n.Load
}

// persistently revokes as Vault does, with its attempts.
func (v *testVault) persistently(l *testLease) {
	v.t.Helper()
	for range revokeAttempts {
		if v.revoke(l) == nil {
			return
		}
		<-time.After(retryBase)
	}
	v.t.Errorf("the lease of %s cannot be revoked", l.AccessKey())
}

// hangOver puts a network before the cloud in which every request whose body holds one of
// some texts gets no answer. It starts with none.
func (v *testVault) hangOver() (hang func(texts []string)) {
	return v.hangAt("")
}

// hangAt does so for the calls of one operation alone.
func (v *testVault) hangAt(op string) (hang func(texts []string)) {
	n := &hangingNetwork{next: v.base, op: op}
	v.base = n
	v.restart()
	return func(texts []string) { n.texts = texts }
}
