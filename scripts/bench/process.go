// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// clockTick is what /proc counts CPU time in: USER_HZ, which is 100 on every Linux.
const clockTick = 10 * time.Millisecond

// process is a plugin's process.
type process struct{ pid int }

// findProcess finds the process among pids that runs a binary.
func findProcess(pids []int, binary string) (process, error) {
	for _, pid := range pids {
		running, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
		if err == nil && filepath.Base(running) == filepath.Base(binary) {
			return process{pid}, nil
		}
	}
	return process{}, fmt.Errorf("no process runs %s", binary)
}

// cpu is the time that the process has spent on a processor.
func (p process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "stat"))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("process %d: unreadable /proc stat", p.pid)
	}
	user, err1 := strconv.Atoi(string(fields[11]))
	system, err2 := strconv.Atoi(string(fields[12]))
	return time.Duration(user+system) * clockTick, errors.Join(err1, err2)
}

// memory is what the process holds of the machine's, in megabytes.
func (p process) memory() (float64, error) {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "status"))
	if err != nil {
		return 0, err
	}
	_, rest, found := bytes.Cut(status, []byte("VmRSS:"))
	fields := bytes.Fields(rest)
	if !found || len(fields) == 0 {
		return 0, fmt.Errorf("process %d: no VmRSS", p.pid)
	}
	kilobytes, err := strconv.ParseFloat(string(fields[0]), 64)
	return kilobytes / 1024, err
}
