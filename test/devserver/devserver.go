// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package devserver runs a real Vault or OpenBao server on loopback, for the
// demo and the acceptance tests: started, initialized and unsealed, and then
// stopped, killed and started again on the same data.
//
// Everything is said in a configuration file and over the API, and no -dev flag
// is used, so that the vault and bao binaries are driven in the same way.
package devserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"
)

// startTimeout bounds one Start or Restart. A raft server that was killed needs a few seconds to
// elect itself, and three nodes on a busy machine more than a minute until each has a vote.
const startTimeout = 3 * time.Minute

// launchAttempts bounds how often a start that finds its port in use is repeated.
const launchAttempts = 10

// Options say which server to start, and how.
type Options struct {
	// Bin is the server's binary (vault or bao), as a path or a name on PATH.
	Bin string
	// PluginDir is the server's plugin_directory; empty for no plugins.
	PluginDir string
	// Dir holds the configuration, the data and the log. The caller removes it.
	Dir string
	// Dev keeps the data in memory: a faster start, but no Restart.
	Dev bool
	// LogLevel is the server's log_level; empty means debug.
	LogLevel string
	// Host is the address of this machine that the API listens on; empty means 127.0.0.1.
	Host string
	// Port is the API's port on Host; 0 picks a free one.
	Port int

	// Cuttable puts a proxy before each node of a cluster, so that Cluster.Cut can cut one off from the others. On Linux alone.
	Cuttable bool

	// Lines are added to the server's configuration.
	Lines string

	partition *partition // of a cluster that is cuttable
	node      string     // the name in raft's peer list of a cluster's node; empty: a server alone
}

// Server is a Vault server process on loopback with one unsealed core, alone or a
// node of a Cluster. Its Client may be used from several goroutines; its own methods
// that stop, kill, start, seal and unseal may not.
type Server struct {
	// Client holds the root token. It never repeats a request: a retried 5xx
	// would hide a failure, and would order a second credential.
	Client *api.Client

	options     Options
	port        int
	clusterPort int
	heard       int    // the port on which other nodes reach this one: clusterPort, or its proxy's
	proxy       *proxy // nil: none
	proxied     int    // the port that the proxy is for
	unsealKey   string
	process     *process
	logStart    int64 // where the running process's part of the log begins
}

// Start starts a server and returns when it is unsealed and active, within a
// minute or ctx, whichever ends first. ctx bounds the start only: the server runs
// until Stop or Kill. An error carries the end of the server's log.
func Start(ctx context.Context, o Options) (*Server, error) {
	o, err := o.resolve()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	s := &Server{options: o}
	if err := s.bringUp(ctx, s.initialize); err != nil {
		return nil, fmt.Errorf("start of %s: %w", filepath.Base(o.Bin), err)
	}
	return s, nil
}

// Restart starts the server again on its port and its data after Stop or Kill,
// and unseals it. Only a server with raft storage has data to return to.
func (s *Server) Restart(ctx context.Context) error {
	if s.options.Dev {
		return errors.New("this server keeps its data in memory and cannot be restarted: start it with Dev set to false")
	}
	if s.process.running() {
		return errors.New("this server still runs: stop or kill it before Restart")
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	if err := s.bringUp(ctx, s.Unseal); err != nil {
		return fmt.Errorf("restart of %s: %w", filepath.Base(s.options.Bin), err)
	}
	return nil
}

// Addr is the API's address, as VAULT_ADDR takes it.
func (s *Server) Addr() string {
	return "http://" + net.JoinHostPort(s.options.Host, strconv.Itoa(s.port))
}

// Token is the root token.
func (s *Server) Token() string {
	return s.Client.Token()
}

// bringUp launches the process and then makes it active through unseal; it
// leaves nothing running when that fails.
func (s *Server) bringUp(ctx context.Context, unseal func(context.Context) error) error {
	if err := s.launch(ctx); err != nil {
		return err
	}
	if s.Client == nil {
		client, err := newClient(s.Addr())
		if err != nil {
			return errors.Join(err, s.Kill())
		}
		s.Client = client
	}
	if err := unseal(ctx); err != nil {
		return errors.Join(s.withLogTail(err), s.Kill())
	}
	return nil
}

// launch starts the process and waits until it serves its API. The port was free
// when it was chosen, but any process may take it before the server does, so a
// busy port is tried again for a while: a new one where none was asked for.
func (s *Server) launch(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := s.launchOnce(ctx)
		if err == nil || attempt == launchAttempts || !s.logged("address already in use") {
			return err
		}
		if s.Client == nil {
			s.port = 0
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (s *Server) launchOnce(ctx context.Context) error {
	if err := s.choosePorts(); err != nil {
		return err
	}
	if s.heard = s.clusterPort; s.options.partition != nil {
		heard, err := s.options.partition.advertise(s)
		if err != nil {
			return err
		}
		s.heard = heard
	}
	if err := s.writeConfig(); err != nil {
		return err
	}
	if err := s.spawn(); err != nil {
		return err
	}
	// The log says it, not the API: on a busy port it is another server that answers.
	if err := s.waitFor(ctx, "it was ready", func() bool { return s.logged("server started!") }); err != nil {
		return errors.Join(s.withLogTail(err), s.Kill())
	}
	return nil
}

// spawn runs the binary with its output appended to the log.
func (s *Server) spawn() error {
	log, err := os.OpenFile(s.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return fmt.Errorf("read the size of the server's log: %w", err)
	}
	s.logStart = info.Size()

	cmd := exec.Command(s.options.Bin, "server", "-config="+s.configPath())
	cmd.Env = environment(os.Environ(), filepath.Join(s.options.Dir, "home"))
	cmd.Stdout, cmd.Stderr = log, log
	s.process, err = startProcess(cmd)
	return err
}
