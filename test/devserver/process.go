// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package devserver

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// stopTimeout is how long Stop waits for a graceful end. Vault stops its plugins and its cluster listener within
// a second or two; with dozens of mounts on a busy machine it takes its time.
const stopTimeout = time.Minute

// process is a running command that leads a process group of its own.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the command has ended and cmd.ProcessState is set
}

// startProcess starts cmd in a process group of its own, so that a Ctrl-C in
// the caller's terminal does not reach it and a kill can take its plugins along.
func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = processAttributes()
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Linux ends the command when the thread that started it ends (see
		// processAttributes), so that thread is kept until the command has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("start %s: %w", cmd.Path, err)
			return
		}
		started <- nil
		// How it ended is in cmd.ProcessState; a server that is killed has not failed.
		_ = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the whole group at once and waits for its leader.
func (p *process) kill() error {
	if !p.running() {
		return nil
	}
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process group %d: %w", p.cmd.Process.Pid, err)
	}
	<-p.done
	return nil
}

// Stop ends the server as an operator does, with SIGTERM, and waits for it. A
// server that is still there after 15 s, or when ctx is done, is killed, and the
// error says so. To stop a server that does not run is no error.
func (s *Server) Stop(ctx context.Context) error {
	if !s.process.running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := s.process.cmd.Process.Signal(syscall.SIGTERM); err != nil && s.process.running() {
		return errors.Join(fmt.Errorf("send SIGTERM to the server: %w", err), s.Kill())
	}
	select {
	case <-s.process.done:
		return nil
	case <-ctx.Done():
		err := s.withLogTail(errors.New("the server did not end on SIGTERM and was killed"))
		return errors.Join(err, s.Kill())
	}
}

// Kill ends the server and its plugins with SIGKILL, all at once, as the loss of
// their machine does, and waits for the server. The plugins must go along: one
// whose server was killed alone is never told to end, and would run for ever.
// To kill a server that does not run is no error.
func (s *Server) Kill() error {
	return s.process.kill()
}

// KillAlone ends the server with SIGKILL and leaves its plugins running, as a kernel
// that is out of memory does, and waits for it. A plugin then ends what it is doing
// with nobody to answer to; killPlugins ends what is left of them.
func (s *Server) KillAlone() (killPlugins func() error, err error) {
	group := s.process.cmd.Process.Pid
	if s.process.running() {
		if err := s.process.cmd.Process.Kill(); err != nil {
			return nil, fmt.Errorf("kill the server: %w", err)
		}
		<-s.process.done
	}
	return func() error {
		if err := syscall.Kill(-group, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill process group %d: %w", group, err)
		}
		return nil
	}, nil
}
