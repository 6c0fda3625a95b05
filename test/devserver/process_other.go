// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build !linux

package devserver

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// PluginPIDs are the ids of the server's child processes: a server starts
// plugins and nothing else.
func (s *Server) PluginPIDs() ([]int, error) {
	if !s.process.running() {
		return nil, nil
	}
	output, err := exec.Command("pgrep", "-P", strconv.Itoa(s.process.cmd.Process.Pid)).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil, nil // pgrep found none
	}
	if err != nil {
		return nil, fmt.Errorf("list the server's child processes: %w", err)
	}
	var pids []int
	for field := range strings.FieldsSeq(string(output)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("pgrep answered %q, which is no process id: %w", field, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

const canTellSenders = false

func ownsPort(int, int) bool { return false }
