// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package devserver

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// processAttributes also asks for SIGTERM when the caller ends in any way: a
// test binary that panics or runs into its timeout runs no clean-up, and would
// leave its server behind. On SIGTERM the server ends its plugins, too.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// PluginPIDs are the ids of the server's child processes that run a binary from
// the plugin directory.
func (s *Server) PluginPIDs() ([]int, error) {
	if !s.process.running() {
		return nil, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list the processes: %w", err)
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue // not a process
		}
		ours, err := s.isPlugin(pid)
		if err != nil {
			return nil, err
		}
		if ours {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func (s *Server) isPlugin(pid int) (bool, error) {
	parent, err := parentPID(pid)
	if err != nil || parent != s.process.cmd.Process.Pid {
		return false, err
	}
	binary, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find the binary of process %d: %w", pid, err)
	}
	// A rebuilt plugin's old process runs a file that has been replaced. A child
	// that has not come to its exec yet still is the server's own binary.
	binary = strings.TrimSuffix(binary, " (deleted)")
	return filepath.Dir(binary) == s.options.PluginDir && binary != s.options.Bin, nil
}

// parentPID reads the fourth field of /proc/<pid>/stat. The second is the
// command's name in brackets, which may itself hold brackets and spaces.
func parentPID(pid int) (int, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if gone(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the state of process %d: %w", pid, err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0, fmt.Errorf("the state of process %d has no parent: %q", pid, stat)
	}
	return strconv.Atoi(string(fields[1]))
}

// gone reports that a process ended while it was being looked at.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

const canTellSenders = true

// ownsPort tells whether a process has the end of a TCP connection that has this port on loopback.
func ownsPort(pid, port int) bool {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return false
	}
	local := fmt.Sprintf("0100007F:%04X", port)
	for line := range bytes.Lines(table) {
		// sl, local address, remote address, state, four more, and the tenth is the socket's inode.
		fields := bytes.Fields(line)
		if len(fields) > 9 && string(fields[1]) == local && holds(pid, "socket:["+string(fields[9])+"]") {
			return true
		}
	}
	return false
}

// holds tells whether one of a process's open files is what its link says.
func holds(pid int, link string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	open, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(open, func(file os.DirEntry) bool {
		to, err := os.Readlink(filepath.Join(dir, file.Name()))
		return err == nil && to == link
	})
}

// PluginFiles are the names of the binaries that the server's plugin processes run, each once.
func (s *Server) PluginFiles() ([]string, error) {
	pids, err := s.PluginPIDs()
	if err != nil {
		return nil, err
	}
	var files []string
	for _, pid := range pids {
		binary, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find the binary of process %d: %w", pid, err)
		}
		files = append(files, filepath.Base(binary))
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}
