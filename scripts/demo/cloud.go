// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

const (
	accountID = "123456789012"
	region    = "eu-west-2"
	userName  = "deploy"
	maxLife   = 15 * time.Minute // MaxAccessKeyExpirationSeconds of the account
	rootLife  = maxLife - 10*time.Second
	adminPath = "/_cloudsim"
)

// cloud is a simulated OUTSCALE account, served on loopback or on an address of the machine.
type cloud struct {
	account *cloudsim.Account
	root    cloudsim.Credentials // the key that is given to the engine
	base    string
	sim     *cloudsim.Cloud
	server  *http.Server
	api     *osc.APIClient

	authority string // of its certificate, in PEM; empty: it speaks plain http

	domain    *cloudsim.Domain     // the account of Huawei Cloud
	huaweiKey cloudsim.Credentials // the key that is given to the engine there
}

// startCloud serves an account under a 15-minute policy. The root key is given a date first, and the policy is set through
// the API, as OUTSCALE demands: it accepts a policy only when every key of the account has a date within it.
func startCloud(ctx context.Context, on string) (*cloud, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", net.JoinHostPort(cmp.Or(on, "127.0.0.1"), "0"))
	if err != nil {
		return nil, fmt.Errorf("find a port for the simulated cloud: %w", err)
	}
	base, authority, transport := "http://"+listener.Addr().String(), "", &http.Transport{}
	if on != "" {
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		base = "https://" + net.JoinHostPort(on, port)
		if listener, authority, transport, err = secure(listener, on); err != nil {
			return nil, err
		}
	}
	sim := cloudsim.New(cloudsim.WithRegion(region))
	account := sim.AddAccount(accountID)
	account.AddUser(userName, "api:*")
	c := &cloud{
		account: account,
		root:    account.AddKey(cloudsim.KeySpec{Expires: time.Now().Add(rootLife).Truncate(time.Second)}),
		base:    base,
		sim:     sim,

		authority: authority,
	}
	account.DeleteKey(account.RootKey().AccessKey) // it never expires
	c.api = newAPI(c.endpoint(), transport)
	c.addHuawei()

	mux := http.NewServeMux()
	mux.Handle(adminPath+"/", http.StripPrefix(adminPath, sim.Admin()))
	mux.Handle("/", sim)
	c.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = c.server.Serve(listener) }() // it returns when stop closes the server

	if err := c.setPolicy(ctx, maxLife); err != nil {
		return nil, errors.Join(fmt.Errorf("set the access policy of the simulated cloud: %w", err), c.stop())
	}
	return c, nil
}

func (c *cloud) endpoint() string { return c.base + "/api/v1" }

// shownAuthority is the argument that names the certificate's authority, as a user types it.
func (c *cloud) shownAuthority() string {
	if c.authority == "" {
		return ""
	}
	return " ca_cert=@cloud.pem"
}

func (c *cloud) stop() error { return c.server.Close() }

// userKeys counts the keys that the leases are made of.
func (c *cloud) userKeys() int {
	n := 0
	for _, key := range c.account.Keys() {
		if key.User == userName {
			n++
		}
	}
	return n
}
