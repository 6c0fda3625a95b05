// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package devserver

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// resolve checks the options and makes their paths absolute and real.
func (o Options) resolve() (Options, error) {
	if o.Bin == "" {
		return o, errors.New("no server binary was named: run make vault, or set VAULT_BIN")
	}
	bin, err := exec.LookPath(o.Bin)
	if err != nil {
		return o, fmt.Errorf("no server binary at %q: run make vault, or set VAULT_BIN: %w", o.Bin, err)
	}
	if o.Bin, err = realPath(bin); err != nil {
		return o, err
	}
	if o.Dir == "" {
		return o, errors.New("no directory was named for the server's data and log")
	}
	for _, dir := range []string{"data", "home"} {
		if err := os.MkdirAll(filepath.Join(o.Dir, dir), 0o700); err != nil {
			return o, fmt.Errorf("make the server's directory: %w", err)
		}
	}
	if o.Dir, err = realPath(o.Dir); err != nil {
		return o, err
	}
	if o.PluginDir != "" {
		// Vault runs no plugin below a directory that is a symlink, and on
		// macOS every temporary directory is below one.
		if o.PluginDir, err = realPath(o.PluginDir); err != nil {
			return o, err
		}
	}
	o.Host = cmp.Or(o.Host, "127.0.0.1")
	if o.LogLevel == "" {
		o.LogLevel = "debug"
	}
	return o, nil
}

func realPath(path string) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find the absolute path of %q: %w", path, err)
	}
	resolved, err := filepath.EvalSymlinks(absolute)
	if err != nil {
		return "", fmt.Errorf("find the real path of %q: %w", path, err)
	}
	return resolved, nil
}

// choosePorts keeps the ports of an earlier start, so that Restart serves the
// same address.
func (s *Server) choosePorts() error {
	if s.port == 0 {
		s.port = s.options.Port
	}
	if s.port != 0 && s.clusterPort != 0 {
		return nil
	}
	free, err := freePorts(2)
	if err != nil {
		return err
	}
	if s.port == 0 {
		s.port = free[0]
	}
	s.clusterPort = free[1]
	return nil
}

// freePorts names n different ports that nothing listens on. All are held until
// all are known, since a port that is released may be handed out again.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port on loopback: %w", err)
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func (s *Server) configPath() string {
	return filepath.Join(s.options.Dir, "server.hcl")
}

// LogPath is the file that the server's output goes to, of every start.
func (s *Server) LogPath() string {
	return filepath.Join(s.options.Dir, "server.log")
}

// Logs is what the server and its plugins have logged, over all its starts.
func (s *Server) Logs() (string, error) {
	log, err := os.ReadFile(s.LogPath())
	if err != nil {
		return "", fmt.Errorf("read the server's log: %w", err)
	}
	return string(log), nil
}

func (s *Server) writeConfig() error {
	if err := os.WriteFile(s.configPath(), []byte(s.config()), 0o600); err != nil {
		return fmt.Errorf("write the server's configuration: %w", err)
	}
	return nil
}

// raft is the storage's configuration. The performance multiplier, 5 by default, is
// how many seconds a leader may be silent; 1 shortens the first election of a server
// alone from seven seconds to one or two. In a cluster on a busy machine more than one
// second is needed to keep a leader that nobody has ended. There, autopilot's intervals,
// 10 s and 2 s by default, delay a new node's vote, without which it cannot be elected.
func (s *Server) raft() string {
	node, tuning := "devserver", `performance_multiplier = "1"`
	if s.options.node != "" {
		node, tuning = s.options.node, `performance_multiplier = "3"
  autopilot_reconcile_interval = "1s"
  autopilot_update_interval    = "500ms"`
	}
	return fmt.Sprintf(`storage "raft" {
  path    = %q
  node_id = %q
  %s
}`, filepath.Join(s.options.Dir, "data"), node, tuning)
}

// otherServers is what some servers need, and the others warn of in their log: OpenBao
// (2.3.2 and later) otherwise refuses audit devices that are enabled over the API, which
// is how the docs do it on Vault, and Vault 1.13 to 1.15 let nobody subscribe to events.
const otherServers = `unsafe_allow_api_audit_creation = true
experiments                     = ["events.alpha1"]`

// config is the server's configuration. disable_mlock must be named for raft
// storage: Vault 1.20 and later refuse to start without it (OpenBao never locks
// memory, and takes no other value).
func (s *Server) config() string {
	storage := `storage "inmem" {}`
	if !s.options.Dev {
		storage = s.raft()
	}
	plugins := ""
	if s.options.PluginDir != "" {
		plugins = fmt.Sprintf("plugin_directory = %q", s.options.PluginDir)
	}
	return fmt.Sprintf(`disable_mlock = true
log_level     = %q
api_addr      = %q
cluster_addr  = "https://127.0.0.1:%d"
%s
%s
%s

listener "tcp" {
  address         = %q
  cluster_address = "127.0.0.1:%d"
  tls_disable     = true
}

%s
`, s.options.LogLevel, s.Addr(), s.heard, plugins, otherServers, s.options.Lines, net.JoinHostPort(s.options.Host, strconv.Itoa(s.port)), s.clusterPort, storage)
}

// environment is the caller's environment without what steers a Vault or an
// OpenBao: an operator's VAULT_ADDR, VAULT_LOG_LEVEL or ~/.vault must not reach the
// server, nor the plugins, which inherit its environment.
func environment(caller []string, home string) []string {
	kept := slices.DeleteFunc(slices.Clone(caller), func(entry string) bool {
		return strings.HasPrefix(entry, "VAULT_") || strings.HasPrefix(entry, "BAO_") || strings.HasPrefix(entry, "HOME=")
	})
	return append(kept, "HOME="+home)
}

// logged reports whether the newest start has logged text.
func (s *Server) logged(text string) bool {
	log, err := s.newestLog()
	return err == nil && strings.Contains(log, text)
}

// withLogTail adds the end of the newest start's log to an error.
func (s *Server) withLogTail(err error) error {
	log, readErr := s.newestLog()
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	lines := strings.Split(strings.TrimSpace(log), "\n")
	tail := lines[max(0, len(lines)-20):]
	return fmt.Errorf("%w; its log, %s, ends with:\n%s", err, s.LogPath(), strings.Join(tail, "\n"))
}

func (s *Server) newestLog() (string, error) {
	log, err := s.Logs()
	if err != nil {
		return "", err
	}
	return log[min(int(s.logStart), len(log)):], nil
}
