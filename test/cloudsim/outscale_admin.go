// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Admin returns the handler through which other processes look into the cloud and give it orders: GET /state, GET /calls,
// POST /policy, POST /users, POST /logins, POST /faults, DELETE /faults/<id>, and Huawei's under /huawei/. It asks for no
// authentication: serve it on loopback only.
func (c *Cloud) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", c.adminState)
	mux.HandleFunc("GET /calls", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, c.Calls()) })
	mux.HandleFunc("POST /policy", c.adminPolicy)
	mux.HandleFunc("POST /users", c.adminUsers)
	mux.HandleFunc("POST /logins", c.adminLogins)
	mux.HandleFunc("POST /faults", c.adminFaults)
	mux.HandleFunc("DELETE /faults/{id}", c.adminCancel)
	c.adminHuawei(mux)
	return mux
}

// State is what GET /state answers.
type State struct {
	Region   string         `json:"region"`
	Accounts []AccountState `json:"accounts"`
	Domains  []DomainState  `json:"domains"`
	Calls    int            `json:"calls"`
}

// AccountState is one account in State. Its keys carry no secrets.
type AccountState struct {
	ID     string   `json:"id"`
	Locked bool     `json:"locked"`
	Policy Policy   `json:"policy"`
	Users  []string `json:"users"`
	Keys   []Key    `json:"keys"`
}

func (c *Cloud) adminState(w http.ResponseWriter, _ *http.Request) {
	state := State{Region: c.region, Accounts: []AccountState{}, Domains: c.domainStates(), Calls: len(c.Calls())}
	for _, a := range c.allAccounts() {
		state.Accounts = append(state.Accounts, AccountState{
			ID: a.id, Locked: a.Locked(), Policy: a.Policy(), Users: a.Users(), Keys: a.Keys(),
		})
	}
	writeJSON(w, state)
}

func (c *Cloud) allAccounts() []*Account {
	c.mu.Lock()
	defer c.mu.Unlock()

	var accounts []*Account
	for _, id := range slices.Sorted(maps.Keys(c.accounts)) {
		accounts = append(accounts, c.accounts[id])
	}
	return accounts
}

func (c *Cloud) adminPolicy(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Account string `json:"account"`
		Policy
	}
	if a := c.adminAccount(w, r, &in, &in.Account); a != nil {
		a.SetPolicy(in.Policy)
		writeJSON(w, a.Policy())
	}
}

func (c *Cloud) adminUsers(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Account string   `json:"account"`
		Name    string   `json:"name"`
		Allow   []string `json:"allow"`
	}
	a := c.adminAccount(w, r, &in, &in.Account)
	if a == nil {
		return
	}
	if !userNamePattern.MatchString(in.Name) {
		http.Error(w, "name is not a valid EIM user name", http.StatusBadRequest)
		return
	}
	a.AddUser(in.Name, in.Allow...)
	writeJSON(w, in)
}

func (c *Cloud) adminLogins(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Account  string `json:"account"`
		Login    string `json:"login"`
		Password string `json:"password"`
	}
	a := c.adminAccount(w, r, &in, &in.Account)
	if a == nil {
		return
	}
	a.SetLogin(in.Login, in.Password)
	writeJSON(w, struct {
		Account string `json:"account"`
		Login   string `json:"login"`
	}{in.Account, in.Login})
}

// adminAccount reads an order and finds the account that it names; nil if it has answered with an error.
func (c *Cloud) adminAccount(w http.ResponseWriter, r *http.Request, in any, id *string) *Account {
	if !readJSON(w, r, in) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()

	a, ok := c.accounts[*id]
	if !ok {
		http.Error(w, fmt.Sprintf("there is no account %q", *id), http.StatusNotFound)
		return nil
	}
	return a
}

// faultOrder is a Fault whose delay is written as in "1.5s".
type faultOrder struct {
	Fault
	Delay string `json:"delay"`
}

type faultID struct {
	ID int `json:"id"`
}

func (c *Cloud) adminFaults(w http.ResponseWriter, r *http.Request) {
	var in faultOrder
	if !readJSON(w, r, &in) {
		return
	}
	if !in.Kind.known() {
		http.Error(w, fmt.Sprintf("there is no kind of fault %q", in.Kind), http.StatusBadRequest)
		return
	}
	if in.Delay != "" {
		delay, err := time.ParseDuration(in.Delay)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		in.Fault.Delay = delay
	}
	writeJSON(w, faultID{c.place(in.Fault)})
}

func (c *Cloud) adminCancel(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || !c.cancelOrder(id) {
		http.Error(w, "there is no such fault: it may have spent its times", http.StatusNotFound)
		return
	}
	writeJSON(w, faultID{id})
}

func readJSON(w http.ResponseWriter, r *http.Request, in any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func writeJSON(w http.ResponseWriter, out any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // a client that has gone is its own affair
}
