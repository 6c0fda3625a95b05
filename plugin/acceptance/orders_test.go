// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

// writeFault is an order to the faulty plugin, for the write after so many others. The
// zero value only counts.
type writeFault struct {
	skip  int
	when  string // before or after the write
	order string // fail or die
}

// writeOrders is what the faulty plugin asks before and after each of its storage writes.
type writeOrders struct {
	url string

	lock   sync.Mutex
	mounts map[string]*armed
}

// armed is a mount with an order, and what it has written since.
type armed struct {
	writeFault
	writes  []string
	numbers map[string]int // of each key's last write: a tick may write between the two questions of another write
	hit     bool
}

func newWriteOrders(t *testing.T) *writeOrders {
	t.Helper()
	o := &writeOrders{mounts: map[string]*armed{}}
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	o.url = server.URL
	return o
}

// registerFaulty registers the faulty plugin under the test's name. Vault runs each name
// in a process of its own.
func registerFaulty(t *testing.T, server *devserver.Server, orders *writeOrders) (name string) {
	t.Helper()
	plugin := os.Getenv("CLOUDKEYS_FAULTY_PLUGIN")
	if plugin == "" {
		t.Fatal("CLOUDKEYS_FAULTY_PLUGIN names no binary: run make test-acceptance, which builds it")
	}
	name = strings.ToLower(strings.Map(letters, t.Name()))
	env := "FAULTYPLUGIN_ORDERS=" + orders.url
	if _, err := devserver.RegisterPlugin(t.Context(), server.Client, filepath.Dir(plugin), filepath.Base(plugin), name, env); err != nil {
		t.Fatal(err)
	}
	return name
}

func (o *writeOrders) arm(path string, fault writeFault) {
	o.lock.Lock()
	defer o.lock.Unlock()
	o.mounts[path+"/"] = &armed{writeFault: fault, numbers: map[string]int{}}
}

func (o *writeOrders) disarm(path string) armed {
	o.lock.Lock()
	defer o.lock.Unlock()
	a := o.mounts[path+"/"]
	delete(o.mounts, path+"/")
	return *a
}

// ServeHTTP answers the faulty plugin.
func (o *writeOrders) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var question struct{ Mount, When, Operation, Key string }
	if err := json.NewDecoder(r.Body).Decode(&question); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	o.lock.Lock()
	defer o.lock.Unlock()
	a := o.mounts[question.Mount]
	if a == nil || a.hit {
		return
	}
	write := question.Operation + " " + question.Key
	if question.When == "before" {
		a.writes = append(a.writes, question.Operation+" "+filepath.Dir(question.Key))
		a.numbers[write] = len(a.writes)
	}
	if a.when == question.When && a.numbers[write] == a.skip+1 {
		a.hit = true
		_, _ = w.Write([]byte(a.order)) // a plugin that has gone is what the test wants
	}
}
