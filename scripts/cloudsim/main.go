// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command cloudsim serves one simulated OUTSCALE region and Huawei Cloud's IAM on a loopback port, for demonstrations and
// acceptance tests. It prints its endpoints and the root keys of its accounts as one JSON line, then logs each request on
// standard error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

const (
	adminPath       = "/_cloudsim"
	shutdownTimeout = 5 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "cloudsim:", err)
		os.Exit(1)
	}
}

// settings are the command's flags.
type settings struct {
	listen  string
	account string
	region  string
	policy  int64
	users   []user

	domain   string
	iamUsers []user
	groups   []user
}

// user is a user or group and what it may do.
type user struct {
	name  string
	allow []string
}

var accountPattern = regexp.MustCompile(`^\d{12}$`)

func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("cloudsim", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.listen, "listen", "127.0.0.1:8400", "loopback `address` to serve on; port 0 takes a free one")
	flags.StringVar(&s.account, "account", "123456789012", "account `id`, 12 digits")
	flags.StringVar(&s.region, "region", "eu-west-2", "`name` of the region")
	flags.Int64Var(&s.policy, "policy", 0, "MaxAccessKeyExpirationSeconds in `seconds`; 0 is no bound")
	flags.Func("user", "EIM user and what it may call, as in deploy=api:Read*,api:CreateAccessKey; may be repeated", addTo(&s.users))
	flags.StringVar(&s.domain, "domain", "acme", "`name` of the Huawei account")
	flags.Func("iam-user", "IAM user and what it may do, as in deploy=iam:users:listUsers or admin=iam:*; may be repeated",
		addTo(&s.iamUsers))
	flags.Func("iam-group", "IAM user group and what its members may do, as in readers=iam:users:listUsers; may be repeated",
		addTo(&s.groups))
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	switch {
	case !accountPattern.MatchString(s.account):
		return s, fmt.Errorf("-account %q is not 12 digits", s.account)
	case s.domain == "":
		return s, errors.New("-domain is empty")
	}
	return s, nil
}

// addTo reads a flag of the form name=action,action.
func addTo(users *[]user) func(string) error {
	return func(value string) error {
		name, allow, _ := strings.Cut(value, "=")
		if name == "" {
			return errors.New("the user or group has no name")
		}
		u := user{name: name}
		if allow != "" {
			u.allow = strings.Split(allow, ",")
		}
		*users = append(*users, u)
		return nil
	}
}

// listenLoopback refuses other addresses: the cloud's root key and its fault orders are open to whoever can connect.
func listenLoopback(ctx context.Context, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("-listen: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("-listen %s is not a loopback address; use 127.0.0.1:<port>", address)
	}
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", address)
}

// announcement is the line on standard output. Its root keys belong to the simulation alone.
type announcement struct {
	Endpoint  string `json:"endpoint"`
	Admin     string `json:"admin"`
	AccountID string `json:"account_id"`
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
	Region    string `json:"region"`
	Huawei    huawei `json:"huawei"`
}

// huawei is the Huawei account, served on the same port as the OUTSCALE account.
type huawei struct {
	Endpoint  string            `json:"endpoint"`
	DomainID  string            `json:"domain_id"`
	Domain    string            `json:"domain"`
	AccessKey string            `json:"access_key"`
	SecretKey string            `json:"secret_key"`
	Users     map[string]string `json:"users"`  // ids by name
	Groups    map[string]string `json:"groups"` // ids by name
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, err := parse(args, stderr)
	if err != nil {
		return err
	}
	listener, err := listenLoopback(ctx, s.listen)
	if err != nil {
		return err
	}

	cloud, account := build(s)
	cloud.OnAnswer(logTo(slog.New(slog.NewTextHandler(stderr, nil))))
	base := "http://" + listener.Addr().String()
	root := account.RootKey()
	err = json.NewEncoder(stdout).Encode(announcement{
		Endpoint:  base + "/api/v1",
		Admin:     base + adminPath,
		AccountID: account.ID(),
		AccessKey: root.AccessKey,
		SecretKey: root.SecretKey,
		Region:    s.region,
		Huawei:    buildHuawei(cloud, s, base),
	})
	if err != nil {
		return fmt.Errorf("announcing the endpoint: %w", err)
	}
	return serve(ctx, listener, cloud)
}

func build(s settings) (*cloudsim.Cloud, *cloudsim.Account) {
	cloud := cloudsim.New(cloudsim.WithRegion(s.region))
	account := cloud.AddAccount(s.account)
	account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: s.policy})
	for _, u := range s.users {
		account.AddUser(u.name, u.allow...)
	}
	return cloud, account
}

func buildHuawei(cloud *cloudsim.Cloud, s settings, base string) huawei {
	domain := cloud.AddDomain(s.domain)
	root := domain.RootKey()
	out := huawei{
		Endpoint: base, DomainID: domain.ID(), Domain: domain.Name(), AccessKey: root.AccessKey, SecretKey: root.SecretKey,
		Users: map[string]string{}, Groups: map[string]string{},
	}
	for _, g := range s.groups {
		out.Groups[g.name] = domain.AddGroup(g.name, g.allow...)
	}
	for _, u := range s.iamUsers {
		out.Users[u.name] = domain.AddUser(u.name, u.allow...)
	}
	return out
}

// logTo logs neither bodies nor headers, so no secret.
func logTo(logger *slog.Logger) func(cloudsim.Call) {
	return func(call cloudsim.Call) {
		logger.Info("request", "op", call.Op, "access_key", call.AccessKey, "user", call.User,
			"status", call.Status, "code", call.Code, "fault", call.Fault)
	}
}

// serve ends when ctx does. Calls that a fault delays are cut off after a few seconds.
func serve(ctx context.Context, listener net.Listener, cloud *cloudsim.Cloud) error {
	mux := http.NewServeMux()
	mux.Handle(adminPath+"/", http.StripPrefix(adminPath, cloud.Admin()))
	mux.Handle("/", cloud)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: shutdownTimeout}

	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener) }()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return server.Close()
	}
	return nil
}
