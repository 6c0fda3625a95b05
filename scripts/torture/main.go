// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command torture runs the tests that try to lose a key: all schedules of faults, kills of
// plugin and server under load, and storms of revocations, at full size. It prints one table
// of what they report, and fails where a test does or anything was lost.
//
// A test reports figures in lines "torture: name=number ...", on its standard output or in
// the file that CLOUDKEYS_TORTURE names.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// shownOfFailure is how much of a failed step's output is printed, in bytes: its end.
const shownOfFailure = 16 << 10

// A step is one run of a test binary.
type step struct {
	name   string
	binary string // test binary
	dir    string // the package's, as go test has it
	run    string // -test.run
	env    []string
	nice   bool // runs beside others, and must not slow them down
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	plugin := flag.String("plugin", ".cache/bin/plugin.test", "test binary of ./plugin")
	acceptance := flag.String("acceptance", ".cache/bin/acceptance.test", "test binary of ./plugin/acceptance")
	limit := flag.Duration("timeout", 40*time.Minute, "of each test binary")
	flag.Parse()
	if err := torture(ctx, os.Stdout, *plugin, *acceptance, *limit); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

// lanes are the steps, one lane beside the other. The schedules need a processor and the
// others wait for the cloud's limit, ticks and the ends of leases.
func lanes(plugin, acceptance string) [][]step {
	on := func(name string, tests ...string) step {
		return step{name: name, binary: acceptance, dir: "plugin/acceptance", run: "^(" + strings.Join(tests, "|") + ")$"}
	}
	return [][]step{
		{
			{name: "schedules", binary: plugin, dir: "plugin", run: "^TestSchedules$", env: []string{"CLOUDKEYS_SCHEDULES=all"}, nice: true},
			{name: "storms in fake time", binary: plugin, dir: "plugin", run: "^TestStormAtTheDefaultPace$", nice: true},
		},
		{
			on("storms", "TestStorms"),
			on("kills", "TestKillsUnderLoad", "TestCrashesLeaveNoOrphan", "TestClusterChangesItsLeader", "TestServerRestartsInTheMiddle"),
			on("faults and clients", "TestFaultsLeaveOneWorkingState", "TestHuaweiFaults", "TestClientsThatMisbehave", "TestLeasesEndWithoutVault"),
		},
	}
}

func torture(ctx context.Context, out io.Writer, plugin, acceptance string, limit time.Duration) error {
	dir, err := os.MkdirTemp("", "torture")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var lock sync.Mutex
	sums, problems := figures{}, []error{}
	var all sync.WaitGroup
	started := time.Now()
	for i, lane := range lanes(plugin, acceptance) {
		all.Go(func() {
			for j, s := range lane {
				begun := time.Now()
				own, output, err := s.play(ctx, filepath.Join(dir, fmt.Sprintf("%d-%d", i, j)), limit)
				lock.Lock()
				for name, n := range own {
					sums[name] += n
				}
				verdict := "passed"
				if err != nil {
					verdict = "FAILED"
					problems = append(problems, fmt.Errorf("%s: %w", s.name, err))
					fmt.Fprintf(out, "%s\n", output[max(0, len(output)-shownOfFailure):])
				}
				fmt.Fprintf(out, "%-22s %12s   %s\n", s.name, verdict, time.Since(begun).Round(time.Second))
				lock.Unlock()
			}
		})
	}
	all.Wait()
	fmt.Fprintf(out, "\nall of it in %s\n\n", time.Since(started).Round(time.Second))
	if !sums.print(out) {
		problems = append(problems, errors.New("the table is not what it must be: the last four figures have to be there, and zero"))
	}
	return errors.Join(problems...)
}

// play runs the step and returns the figures that it reports, and its output.
func (s step) play(ctx context.Context, file string, limit time.Duration) (figures, []byte, error) {
	binary, err := filepath.Abs(s.binary)
	if err != nil {
		return nil, nil, err
	}
	args := []string{binary, "-test.run=" + s.run, "-test.timeout=" + limit.String()}
	if s.nice {
		args = append([]string{"nice", "-n", "10"}, args...)
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, &output, &output
	cmd.Env = append(append(os.Environ(), "CLOUDKEYS_TORTURE="+file), s.env...)
	ran := cmd.Run()
	if bytes.Contains(output.Bytes(), []byte("testing: warning: no tests to run")) {
		ran = errors.Join(ran, fmt.Errorf("no test matches %s", s.run))
	}
	own := figures{}
	reported, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	read := errors.Join(own.read(bytes.NewReader(reported)), own.read(bytes.NewReader(output.Bytes())))
	return own, output.Bytes(), errors.Join(ran, read)
}
