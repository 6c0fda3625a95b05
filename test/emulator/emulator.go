// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

// Package emulator is what the tests of the functions run them in: AWS's Lambda Runtime Interface Emulator, as aws-sam-cli ships it, and
// processes that do not outlive their test.
package emulator

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Architecture is this machine's in Lambda's words.
func Architecture() string {
	if runtime.GOARCH == "amd64" {
		return "x86_64"
	}
	return runtime.GOARCH
}

// Path is the emulator for this machine, in the environment that SAM_VENV names.
func Path() (string, error) {
	pattern := filepath.Join(os.Getenv("SAM_VENV"), "lib", "python3*", "site-packages", "samcli", "local", "rapid",
		"aws-lambda-rie-"+Architecture())
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("aws-sam-cli ships no emulator for %s: %q is %q (%w)", Architecture(), pattern, found,
			errors.Join(err, os.ErrNotExist))
	}
	return found[0], nil
}

// Output collects what a process writes.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String is all that was written.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Process is a command in a process group of its own.
type Process struct {
	Cmd  *exec.Cmd
	Done chan struct{} // closed when it has ended
}

// Start starts a command that is sent a signal when this process ends, however that ends: a test binary which runs into its timeout
// cleans nothing up. Linux sends it when the thread that started the command ends, so that thread is kept.
func Start(cmd *exec.Cmd, atEnd syscall.Signal) (*Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: atEnd}
	p := &Process{Cmd: cmd, Done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed, which is no failure
		}
		close(p.Done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// Signal sends a signal to the group.
func (p *Process) Signal(signal syscall.Signal) error {
	if err := syscall.Kill(-p.Cmd.Process.Pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %s to process group %d: %w", signal, p.Cmd.Process.Pid, err)
	}
	return nil
}

// Stop sends a signal to the group, and waits for its leader.
func (p *Process) Stop(signal syscall.Signal) error {
	err := p.Signal(signal)
	if err == nil {
		<-p.Done
	}
	return err
}

// nextPort is where FreePort looks on.
var nextPort atomic.Int64

// FreePort is a port of loopback for a process that is only to be told it, and that nobody else takes before it listens. It lies below
// those that the kernel hands out by itself: one of these may become the near end of any connection. Test binaries that run at once begin
// at different ones.
func FreePort() (string, error) {
	const first = 10_000
	limit := int64(32_768)
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if low, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64); err == nil && low > first+1000 {
			limit = low
		}
	}
	nextPort.CompareAndSwap(0, int64(os.Getpid())*101)
	for range limit - first {
		port := strconv.FormatInt(first+nextPort.Add(1)%(limit-first), 10)
		if listener, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			return port, listener.Close()
		}
	}
	return "", errors.New("no port of loopback is free")
}
