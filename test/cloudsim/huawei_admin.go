// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// adminHuawei adds the orders for Huawei to the admin handler: POST /huawei/domains, users, groups, agencies, keys,
// protect-policy, delays, and DELETE /huawei/keys/<id>. A domain is named by its name or id.
func (c *Cloud) adminHuawei(mux *http.ServeMux) {
	mux.HandleFunc("POST /huawei/domains", c.adminDomains)
	mux.HandleFunc("POST /huawei/users", c.adminIAMUsers)
	mux.HandleFunc("POST /huawei/groups", c.adminIAMGroups)
	mux.HandleFunc("POST /huawei/agencies", c.adminAgencies)
	mux.HandleFunc("POST /huawei/keys", c.adminIAMKeys)
	mux.HandleFunc("DELETE /huawei/keys/{id}", c.adminDeleteIAMKey)
	mux.HandleFunc("POST /huawei/protect-policy", c.adminProtectPolicy)
	mux.HandleFunc("POST /huawei/delays", c.adminDelays)
}

// DomainState is one domain in State. Its keys carry no secrets.
type DomainState struct {
	ID              string   `json:"id"`
	Name            string   `json:"name"`
	ManageAccessKey bool     `json:"manage_accesskey"`
	Users           []string `json:"users"`
	Keys            []IAMKey `json:"keys"`
}

func (c *Cloud) domainStates() []DomainState {
	states := []DomainState{}
	for _, d := range c.allDomains() {
		c.mu.Lock()
		manage := !d.keysForAdmins
		c.mu.Unlock()
		states = append(states, DomainState{ID: d.id, Name: d.name, ManageAccessKey: manage, Users: d.Users(), Keys: d.Keys()})
	}
	return states
}

func (c *Cloud) allDomains() []*Domain {
	c.mu.Lock()
	defer c.mu.Unlock()

	var domains []*Domain
	for _, d := range c.domains {
		domains = append(domains, d)
	}
	slices.SortFunc(domains, func(x, y *Domain) int { return cmp.Compare(x.name, y.name) })
	return domains
}

// madeDomain and madeKey are the only answers with a secret: those who order a key need it.
type madeDomain struct {
	ID string `json:"id"`
	madeKey
}

type madeKey struct {
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

type madeID struct {
	ID string `json:"id"`
}

func (c *Cloud) adminDomains(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Name string `json:"name"`
	}
	if !readJSON(w, r, &in) {
		return
	}
	if in.Name == "" {
		http.Error(w, "the domain has no name", http.StatusBadRequest)
		return
	}
	d := c.AddDomain(in.Name)
	writeJSON(w, madeDomain{d.ID(), madeKey(d.RootKey())})
}

// adminDomain reads an order and finds the domain that it names; nil if it has answered with an error.
func (c *Cloud) adminDomain(w http.ResponseWriter, r *http.Request, in any, name *string) *Domain {
	if !readJSON(w, r, in) {
		return nil
	}
	d := c.Domain(*name)
	if d == nil {
		http.Error(w, fmt.Sprintf("there is no domain %q", *name), http.StatusNotFound)
	}
	return d
}

// Domain returns the domain of that name or id, nil if there is none.
func (c *Cloud) Domain(nameOrID string) *Domain {
	c.mu.Lock()
	defer c.mu.Unlock()

	if d, ok := c.domains[nameOrID]; ok {
		return d
	}
	return c.domainOf("", nameOrID)
}

func (c *Cloud) adminIAMUsers(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Domain string   `json:"domain"`
		Name   string   `json:"name"`
		Allow  []string `json:"allow"`
	}
	d := c.adminDomain(w, r, &in, &in.Domain)
	if d == nil {
		return
	}
	if !iamNamePattern.MatchString(in.Name) {
		http.Error(w, "name is not a valid IAM user name", http.StatusBadRequest)
		return
	}
	writeJSON(w, madeID{d.AddUser(in.Name, in.Allow...)})
}

func (c *Cloud) adminIAMGroups(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Domain string   `json:"domain"`
		Name   string   `json:"name"`
		Allow  []string `json:"allow"`
	}
	if d := c.adminDomain(w, r, &in, &in.Domain); d != nil {
		writeJSON(w, madeID{d.AddGroup(in.Name, in.Allow...)})
	}
}

func (c *Cloud) adminAgencies(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Domain  string   `json:"domain"`
		Name    string   `json:"name"`
		Trusted string   `json:"trusted"`
		Allow   []string `json:"allow"`
	}
	d := c.adminDomain(w, r, &in, &in.Domain)
	if d == nil {
		return
	}
	trusted := c.Domain(in.Trusted)
	if trusted == nil {
		http.Error(w, fmt.Sprintf("there is no domain %q", in.Trusted), http.StatusNotFound)
		return
	}
	d.AddAgency(in.Name, trusted, in.Allow...)
	writeJSON(w, in)
}

func (c *Cloud) adminIAMKeys(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Domain      string    `json:"domain"`
		User        string    `json:"user"`
		Description string    `json:"description"`
		Created     time.Time `json:"created"`
		Inactive    bool      `json:"inactive"`
	}
	if d := c.adminDomain(w, r, &in, &in.Domain); d != nil {
		made := d.AddKey(IAMKeySpec{User: in.User, Description: in.Description, Created: in.Created, Inactive: in.Inactive})
		writeJSON(w, madeKey(made))
	}
}

func (c *Cloud) adminDeleteIAMKey(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	for _, d := range c.allDomains() {
		if _, ok := d.Key(id); ok {
			d.DeleteKey(id)
			writeJSON(w, madeID{id})
			return
		}
	}
	http.Error(w, fmt.Sprintf("there is no key %q", id), http.StatusNotFound)
}

func (c *Cloud) adminProtectPolicy(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Domain          string `json:"domain"`
		ManageAccessKey bool   `json:"manage_accesskey"`
	}
	if d := c.adminDomain(w, r, &in, &in.Domain); d != nil {
		d.SetManageAccessKey(in.ManageAccessKey)
		writeJSON(w, in)
	}
}

// adminDelays sets how long what is new is not found, or not accepted, yet. What is left out is none.
func (c *Cloud) adminDelays(w http.ResponseWriter, r *http.Request) {
	var in struct {
		User       span `json:"user"`
		UserReads  int  `json:"user_reads"`
		Key        span `json:"key"`
		KeyReads   int  `json:"key_reads"`
		Activation span `json:"activation"`
		Revocation span `json:"revocation"`
	}
	if !readJSON(w, r, &in) {
		return
	}
	c.mu.Lock()
	c.huawei.UserDelay, c.huawei.UserReads = time.Duration(in.User), in.UserReads
	c.huawei.KeyDelay, c.huawei.KeyReads = time.Duration(in.Key), in.KeyReads
	c.huawei.ActivationDelay, c.huawei.RevocationDelay = time.Duration(in.Activation), time.Duration(in.Revocation)
	c.mu.Unlock()
	writeJSON(w, struct{}{})
}

// span is a duration written as in "1.5s".
type span time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*s = span(d)
	return err
}
