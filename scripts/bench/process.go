// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

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

// cpu is the time that the process has spent on a processor, of all its threads.
func (p process) cpu() (time.Duration, error) {
	const wholeProcess = 2            // CPUCLOCK_SCHED of the thread group
	clock := ^p.pid<<3 | wholeProcess // Linux's clock_getcpuclockid: /proc has hundredths of a second alone
	var spent unix.Timespec
	if err := unix.ClockGettime(int32(clock), &spent); err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", p.pid, err)
	}
	return time.Duration(spent.Nano()), nil
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
