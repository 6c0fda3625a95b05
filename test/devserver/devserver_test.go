// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package devserver

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

func TestServerWithRaftStorage(t *testing.T) {
	server := start(t, Options{})

	t.Run("serves only its own root token", func(t *testing.T) {
		if server.Token() == "" || server.Token() == callersToken {
			t.Errorf("the client's token is %q, want the one from the initialization", server.Token())
		}
	})
	t.Run("has no plugin processes before one is mounted", func(t *testing.T) {
		pids, err := server.PluginPIDs()
		if err != nil || len(pids) != 0 {
			t.Errorf("plugin processes are %v, %v, want none", pids, err)
		}
	})
	t.Run("does not restart while it runs", func(t *testing.T) {
		if err := server.Restart(t.Context()); err == nil {
			t.Error("want an error")
		}
	})
	t.Run("keeps what was written over a kill", func(t *testing.T) {
		mountKV(t, server)
		write(t, server, "before the kill")
		addr := server.Addr()
		must(t, server.Kill())
		must(t, server.Restart(t.Context()))
		if server.Addr() != addr {
			t.Errorf("the address is %s after the restart, was %s", server.Addr(), addr)
		}
		wantRead(t, server, "before the kill")
	})
	t.Run("keeps what was written over a stop", func(t *testing.T) {
		write(t, server, "before the stop")
		must(t, server.Stop(t.Context()))
		must(t, server.Restart(t.Context()))
		wantRead(t, server, "before the stop")
	})
	t.Run("is active again after it stepped down", func(t *testing.T) {
		must(t, server.StepDown(t.Context()))
		wantRead(t, server, "before the stop")
	})
	t.Run("logs all its starts", func(t *testing.T) {
		log, err := server.Logs()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(log, "server started!"); got != 3 {
			t.Errorf("the log shows %d starts, want 3", got)
		}
	})
}

func TestServerInMemory(t *testing.T) {
	server := start(t, Options{Dev: true})

	t.Run("keeps what was written over a seal", func(t *testing.T) {
		mountKV(t, server)
		write(t, server, "before the seal")
		must(t, server.Seal(t.Context()))
		must(t, server.Unseal(t.Context()))
		wantRead(t, server, "before the seal")
	})
	t.Run("neither restarts nor steps down", func(t *testing.T) {
		must(t, server.Stop(t.Context()))
		must(t, server.Stop(t.Context()))
		if err := server.Restart(t.Context()); err == nil {
			t.Error("Restart: want an error")
		}
		if err := server.StepDown(t.Context()); err == nil {
			t.Error("StepDown: want an error")
		}
	})
}

func TestStartSaysWhyItFailed(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()

	for name, test := range map[string]struct {
		options Options
		want    string
	}{
		"no binary":           {Options{Dir: t.TempDir()}, "make vault"},
		"a binary not there":  {Options{Bin: filepath.Join(t.TempDir(), "vault"), Dir: t.TempDir()}, "make vault"},
		"no directory":        {Options{Bin: vaultBinary(t)}, "no directory"},
		"no plugin directory": {Options{Bin: vaultBinary(t), Dir: t.TempDir(), PluginDir: "missing"}, "missing"},
		"a port in use": {
			Options{Bin: vaultBinary(t), Dir: t.TempDir(), Port: busy.Addr().(*net.TCPAddr).Port},
			"address already in use",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Start(t.Context(), test.options)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestEnvironmentHidesTheCallersVault(t *testing.T) {
	got := environment([]string{"PATH=/bin", "VAULT_TOKEN=x", "HOME=/home/operator", "BAO_ADDR=y", "MY_VAULT_DIR=z"}, "/empty")
	if want := "PATH=/bin MY_VAULT_DIR=z HOME=/empty"; strings.Join(got, " ") != want {
		t.Errorf("the environment is %q, want %q", got, want)
	}
}

// callersToken stands for what an operator has in the shell that runs the tests.
const callersToken = "an-operators-token"

// start starts a server as a caller does who also uses another Vault.
func start(t *testing.T, o Options) *Server {
	t.Helper()
	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1")
	t.Setenv("VAULT_AGENT_ADDR", "http://127.0.0.1:1")
	t.Setenv("VAULT_NAMESPACE", "an-operators-namespace")
	t.Setenv("VAULT_TOKEN", callersToken)
	o.Bin, o.Dir = vaultBinary(t), t.TempDir()
	started := time.Now()
	server, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("active after %s", time.Since(started).Round(time.Millisecond))
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return server
}

// vaultBinary is VAULT_BIN, or what make vault built.
func vaultBinary(t *testing.T) string {
	t.Helper()
	if bin := os.Getenv("VAULT_BIN"); bin != "" {
		return bin
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	bin := filepath.Join(dir, ".cache", "bin", "vault")
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("there is no Vault to test with (%v): run make vault", err)
	}
	return bin
}

func mountKV(t *testing.T, s *Server) {
	t.Helper()
	must(t, Mount(t.Context(), s.Client, "kv", "kv", api.MountConfigInput{}))
}

func write(t *testing.T, s *Server, value string) {
	t.Helper()
	_, err := s.Client.Logical().WriteWithContext(t.Context(), "kv/entry", map[string]any{"value": value})
	must(t, err)
}

func wantRead(t *testing.T, s *Server, want string) {
	t.Helper()
	secret, err := s.Client.Logical().ReadWithContext(t.Context(), "kv/entry")
	must(t, err)
	if secret == nil || secret.Data["value"] != want {
		t.Fatalf("read %v, want the value %s", secret, strconv.Quote(want))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
