// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a command in a process group of its own.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// begin starts a command that ends with this process however that ends: a test binary which
// runs into its timeout cleans nothing up. Linux ends it when the thread that started it
// ends, so that thread is kept.
func begin(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed, which is no failure
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// kill ends the group and waits for its leader.
func (p *process) kill() error {
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process group %d: %w", p.cmd.Process.Pid, err)
	}
	<-p.done
	return nil
}
