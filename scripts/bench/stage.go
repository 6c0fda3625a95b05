// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

const (
	pluginFile = "vault-plugin-secrets-cloudkeys"
	awsFile    = "vault-plugin-secrets-aws"
	nullFile   = "nullplugin"
	sdkFile    = "nullplugin-sdk" // nullplugin with the build tag sdk

	profiledFile = "profiledplugin"

	// poolUsers share the access_key role's keys, and so many users in each of manyRoles those of the roles that hold many: ten keys a
	// user, as in OUTSCALE. A user that had more would be listed over and over, since the engine cannot believe it.
	poolUsers = 350
	manyUsers = 400
	manyRoles = 3

	// fast is a pace that never makes a request wait.
	fast = "10000"
)

// stage is one server with both engines mounted, each on its own fake cloud.
type stage struct {
	server  *devserver.Server
	client  *api.Client // keeps enough connections for all clients of a run
	sim     *cloudsim.Cloud
	account *cloudsim.Account
	iam     *fakeIAM
	calls   atomic.Int64 // to the simulated OUTSCALE

	iamAddress string
	held       []string // leases that the group before has left

	slow  func() // ends the latency in force
	close []func() error
}

// engine is what is measured: a path whose every read is a new lease.
type engine struct {
	name   string
	path   string
	binary string
	roles  int // that share its leases, as path-0 and so on; 0: path is one role's
}

// pathOf is the path of one of many leases.
func (e engine) pathOf(i int) string {
	if e.roles == 0 {
		return e.path
	}
	return fmt.Sprintf("%s-%d", e.path, i%e.roles)
}

var (
	accessKeys = engine{"access_key", "outscale/creds/pool", pluginFile, 0}
	manyKeys   = engine{"access_key", "outscale/creds/many", pluginFile, manyRoles}
	iamUsers   = engine{"iam_user", "outscale/creds/user", pluginFile, 0}
	awsUsers   = engine{"AWS iam_user", "aws/creds/user", awsFile, 0}

	// Engines without a cloud: what Vault itself takes for a lease, and what it takes with the two writes that keep a key
	// from being lost.
	noCloud         = engine{"no cloud", "null/lease", nullFile, 0}
	noCloudRecorded = engine{"no cloud, two writes", "null/recorded", nullFile, 0}
)

// newStage starts a server on raft storage, or on one that keeps its data in memory.
func newStage(ctx context.Context, dir, bin, plugins string, inMemory bool) (*stage, error) {
	s := &stage{sim: cloudsim.New(), iam: newFakeIAM(), slow: func() {}}
	s.sim.OnCall(func(cloudsim.Call) { s.calls.Add(1) })
	server, err := devserver.Start(ctx, devserver.Options{Bin: bin, PluginDir: plugins, Dir: dir, LogLevel: "warn", Dev: inMemory})
	if err != nil {
		return nil, err
	}
	s.server = server
	s.close = append(s.close, func() error { return server.Stop(context.WithoutCancel(ctx)) })
	if err := s.furnish(ctx, plugins); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *stage) stop() error {
	var errs []error
	for i := len(s.close) - 1; i >= 0; i-- {
		errs = append(errs, s.close[i]())
	}
	return errors.Join(errs...)
}

// furnish mounts and configures both engines and the key/value store.
func (s *stage) furnish(ctx context.Context, plugins string) error {
	var err error
	if s.client, err = poolingClient(s.server); err != nil {
		return err
	}
	outscale, err := s.serve(ctx, s.sim)
	if err != nil {
		return err
	}
	aws, err := s.serve(ctx, s.iam)
	if err != nil {
		return err
	}
	s.iamAddress = aws
	for _, mount := range []struct{ path, plugin, file string }{
		{"outscale", "cloudkeys", pluginFile}, {"aws", "bench-aws", awsFile}, {"null", "bench-null", nullFile}, {"kv", "", ""},
	} {
		if mount.plugin == "" {
			mount.plugin = "kv"
		} else if _, err := devserver.RegisterPlugin(ctx, s.client, plugins, mount.file, mount.plugin); err != nil {
			return err
		}
		if err := devserver.Mount(ctx, s.client, mount.path, mount.plugin, api.MountConfigInput{}); err != nil {
			return err
		}
	}
	return errors.Join(s.configureOutscale(ctx, outscale), s.configureAWS(ctx, aws))
}

func (s *stage) configureOutscale(ctx context.Context, address string) error {
	s.account = s.sim.AddAccount("123456789012")
	account := s.account
	var users []string
	for i := range manyRoles * manyUsers {
		name := fmt.Sprintf("pool-%d", i)
		account.AddUser(name, "api:*")
		users = append(users, name)
	}
	orn := account.AddPolicy("ReadOnly", "api:Read*")
	root := account.RootKey()
	return errors.Join(
		s.write(ctx, "outscale/config/default", map[string]any{
			"provider": "outscale", "region": "eu-west-2", "endpoint": address + "/api/v1", "max_requests_per_second": fast,
			"access_key": root.AccessKey, "secret_key": root.SecretKey,
		}),
		s.write(ctx, "outscale/roles/pool", map[string]any{"user_names": strings.Join(users[:poolUsers], ","), "ttl": "1h"}),
		s.manyRoles(ctx, users),
		s.write(ctx, "outscale/roles/user", map[string]any{"credential_type": "iam_user", "policy_orns": orn, "ttl": "1h"}),
	)
}

func (s *stage) manyRoles(ctx context.Context, users []string) error {
	for i := range manyRoles {
		mine := users[i*manyUsers : (i+1)*manyUsers]
		role := map[string]any{"user_names": strings.Join(mine, ","), "ttl": "1h"}
		if err := s.write(ctx, fmt.Sprintf("outscale/roles/many-%d", i), role); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) configureAWS(ctx context.Context, address string) error {
	return errors.Join(
		s.write(ctx, "aws/config/root", map[string]any{
			"access_key": "AKIABENCH", "secret_key": "bench", "region": "us-east-1", "iam_endpoint": address, "sts_endpoint": address,
		}),
		s.write(ctx, "aws/config/lease", map[string]any{"lease": "1h", "lease_max": "2h"}),
		s.write(ctx, "aws/roles/user", map[string]any{"credential_type": "iam_user", "policy_arns": iamPolicyARN}),
	)
}

// setLatency makes both clouds take the same time for each call.
func (s *stage) setLatency(d time.Duration) {
	s.slow()
	s.slow = func() {}
	s.iam.latency.Store(int64(d))
	if d > 0 {
		s.slow = s.sim.Order(cloudsim.Fault{Kind: cloudsim.Delay, Delay: d})
	}
}

func (s *stage) process(e engine) (process, error) {
	pids, err := s.server.PluginPIDs()
	if err != nil {
		return process{}, err
	}
	return findProcess(pids, e.binary)
}

func (s *stage) write(ctx context.Context, path string, data map[string]any) error {
	_, err := s.client.Logical().WriteWithContext(ctx, path, data)
	return err
}

// serve puts a fake cloud on a loopback port.
func (s *stage) serve(ctx context.Context, handler http.Handler) (address string, err error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a loopback port for a fake cloud: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }() // it returns when the server is closed
	s.close = append(s.close, server.Close)
	return "http://" + listener.Addr().String(), nil
}

// poolingClient keeps a connection for every client of a run: a new one each request would be measured too.
func poolingClient(server *devserver.Server) (*api.Client, error) {
	client, err := api.NewClient(&api.Config{
		Address: server.Addr(), Timeout: 10 * time.Minute,
		HttpClient: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}},
	})
	if err != nil {
		return nil, err
	}
	client.SetToken(server.Token())
	client.SetMaxRetries(0)
	return client, nil
}

// pluginDirectory has the plugins that were built for the run, by the names that are registered.
func pluginDirectory(dir string, binaries ...string) (string, error) {
	plugins := filepath.Join(dir, "plugins")
	if err := os.Mkdir(plugins, 0o700); err != nil {
		return "", err
	}
	for _, binary := range binaries {
		content, err := os.ReadFile(binary)
		if err != nil {
			return "", fmt.Errorf("read a plugin (make bench builds them): %w", err)
		}
		if err := os.WriteFile(filepath.Join(plugins, filepath.Base(binary)), content, 0o700); err != nil {
			return "", err
		}
	}
	return plugins, nil
}
