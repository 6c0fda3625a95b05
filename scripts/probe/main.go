// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command probe asks a real cloud account the questions that the documentation leaves open, and tells where the answers differ
// from what the engine and the simulator assume. It works with a user of its own, and removes it whatever happens.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

func main() {
	// A second signal ends the process at once, its clean-up as well.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, os.Getenv, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, getenv func(string) string, in io.Reader, out io.Writer) error {
	base, err := transport.Base(transport.TLS{})
	if err != nil {
		return err
	}
	s, err := fromEnvironment(getenv, base)
	if err != nil {
		return err
	}
	fmt.Fprint(out, s.announcement())
	if getenv("YES") != "1" && !agreed(in, out) {
		return errors.New("nothing was done: answer yes, or set YES=1")
	}
	rows, err := s.ask(ctx, out)
	if len(rows) > 0 {
		fmt.Fprint(out, "\n", table(rows))
	}
	return err
}

func agreed(in io.Reader, out io.Writer) bool {
	fmt.Fprint(out, "Go on? [yes/no] ")
	line, _ := bufio.NewReader(in).ReadString('\n') // an end of input is a no
	return strings.TrimSpace(line) == "yes"
}

// cleanupTime is what the removal of the user and its keys may take, also after a signal.
const cleanupTime = 2 * time.Minute
