// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command torture runs the tests that try to lose a key: all schedules of faults and of what other people do, kills of
// plugin and server under load, and storms of revocations, at full size. It prints one table
// of what they report, and fails where a test does or anything was lost.
//
// A test reports figures in lines "name=number ...", in the file that CLOUDKEYS_TORTURE names.
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

// endOfFailure is how much of a failed step's output is printed, in bytes: its end.
const endOfFailure = 16 << 10

// A step is one run of a test binary.
type step struct {
	name  string
	dir   string // the package's, in which go test runs its tests
	tests []string
	env   []string
	nice  bool // runs beside others, and must not slow them down
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	bin := flag.String("bin", ".cache/bin", "directory of the test binaries, named as their packages: plugin.test")
	logs := flag.String("logs", ".cache/torture", "directory in which each step's output is written as it comes")
	only := flag.String("only", "", "play only the steps whose names hold this; the table may then have gaps")
	limit := flag.Duration("timeout", 3*time.Hour, "of each test binary")
	flag.Parse()
	if err := torture(ctx, os.Stdout, *bin, *logs, *only, *limit); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

// lanes are the steps, one lane beside the other. Schedules and fake time need a processor,
// and the others wait for the cloud's limit, ticks and the ends of leases.
func lanes() [][]step {
	inProcess := func(name, dir string, tests ...string) step {
		return step{name: name, dir: dir, tests: tests, env: []string{"CLOUDKEYS_SCHEDULES=all"}, nice: true}
	}
	// A process plays one sequence after the other. Two of them with a processor each, and a garbage collector that seldom runs, take
	// a third of the time of one.
	sequences := func(name, seed string) step {
		return step{
			name: name, dir: "plugin", tests: []string{"TestSequences"}, nice: true,
			env: []string{"CLOUDKEYS_PEOPLE=all", "CLOUDKEYS_SEQUENCES=5000", "CLOUDKEYS_SEED=" + seed, "GOMAXPROCS=1", "GOGC=400"},
		}
	}
	onServers := func(name string, tests ...string) step {
		return step{name: name, dir: "plugin/acceptance", tests: tests}
	}
	return [][]step{
		{
			inProcess("schedules of the engine", "plugin", "TestSchedules"),
			inProcess("schedules of the sweep", "functions/internal/sweep", "TestSweepSchedules", "TestSweepSchedulesOnHuaweiCloud"),
			inProcess("schedules of the sync", "functions/internal/policysync", "TestPolicySchedules"),
			inProcess("storms in fake time", "plugin", "TestStormAtTheDefaultPace"),
			{
				name: "other people at each call", dir: "plugin", tests: []string{"TestPeople"}, nice: true,
				env: []string{"CLOUDKEYS_PEOPLE=all", "GOGC=400"},
			},
		},
		{sequences("sequences of theirs", "11")},
		{sequences("more of them", "1000011")}, // check n has the random numbers of seed + n
		{
			onServers("storms", "TestStorms"),
			onServers("kills", "TestKillsUnderLoad", "TestCrashesLeaveNoOrphan", "TestClusterChangesItsLeader", "TestServerRestartsInTheMiddle"),
			onServers(
				"faults and clients",
				"TestFaultsLeaveOneWorkingState",
				"TestHuaweiFaults",
				"TestClientsThatMisbehave",
				"TestLeasesEndWithoutVault",
			),
		},
	}
}

func torture(ctx context.Context, out io.Writer, bin, logs, only string, limit time.Duration) error {
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "torture")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var lock sync.Mutex
	sums, problems := figures{}, []error{}
	var all sync.WaitGroup
	started := time.Now()
	for i, lane := range lanes() {
		all.Go(func() {
			for j, s := range lane {
				if !strings.Contains(s.name, only) {
					continue
				}
				begun := time.Now()
				own, output, err := s.play(ctx, bin, logs, filepath.Join(dir, fmt.Sprintf("%d-%d", i, j)), limit)
				lock.Lock()
				for name, n := range own {
					sums[name] += n
				}
				verdict := "passed"
				if err != nil {
					verdict = "FAILED"
					problems = append(problems, fmt.Errorf("%s: %w", s.name, err))
					ending := withoutPasses(output)
					fmt.Fprintf(out, "%s\n", ending[max(0, len(ending)-endOfFailure):])
				}
				fmt.Fprintf(out, "%-26s %8s   %s\n", s.name, verdict, time.Since(begun).Round(time.Second))
				lock.Unlock()
			}
		})
	}
	all.Wait()
	fmt.Fprintf(out, "\nall of it in %s\n\n", time.Since(started).Round(time.Second))
	if good := sums.print(out, only == ""); !good {
		problems = append(problems, errors.New("the table is not what it must be: the last four figures have to be there, and zero"))
	}
	return errors.Join(problems...)
}

// play runs the step and returns the figures that it reports, and its output, which can be read in a log while it runs.
func (s step) play(ctx context.Context, bin, logs, file string, limit time.Duration) (figures, []byte, error) {
	binary, err := filepath.Abs(filepath.Join(bin, filepath.Base(s.dir)+".test"))
	if err != nil {
		return nil, nil, err
	}
	run := "^(" + strings.Join(s.tests, "|") + ")$"
	args := []string{binary, "-test.v", "-test.run=" + run, "-test.timeout=" + limit.String()}
	if s.nice {
		args = append([]string{"nice", "-n", "10"}, args...)
	}
	log, err := os.Create(filepath.Join(logs, strings.ReplaceAll(s.name, " ", "-")+".log"))
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	var output bytes.Buffer
	both := io.MultiWriter(&output, log)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, both, both
	cmd.Env = append(append(os.Environ(), "CLOUDKEYS_TORTURE="+file), s.env...)
	ran := cmd.Run()
	for _, test := range s.tests {
		if !bytes.Contains(output.Bytes(), []byte("=== RUN   "+test+"\n")) {
			ran = errors.Join(ran, fmt.Errorf("%s was not run", test))
		}
	}
	own := figures{}
	reported, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	return own, output.Bytes(), errors.Join(ran, own.read(bytes.NewReader(reported)))
}

// withoutPasses leaves out what go test -v says of tests that run and pass: among tens of
// thousands, the one that failed would not be found.
func withoutPasses(output []byte) []byte {
	var kept []byte
	for line := range bytes.Lines(output) {
		start := bytes.TrimSpace(line)
		if !bytes.HasPrefix(start, []byte("=== ")) && !bytes.HasPrefix(start, []byte("--- PASS")) {
			kept = append(kept, line...)
		}
	}
	return kept
}
