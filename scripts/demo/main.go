// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command demo leases access keys of two clouds from a real Vault with the real plugin, against simulated clouds: a key is
// read, used, renewed and revoked, and each step is checked in the cloud. With -stay it only sets everything up, and stays
// up to be tried by hand. All of it runs on loopback, or with -on where containers reach it, and is gone when the command ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	began := time.Now()
	stay := flag.Bool("stay", false, "set up, print how to use it, and stay up until Ctrl-C")
	on := flag.String("on", "", "with -stay: serve on this address of the machine, which containers reach, and not on loopback")
	flag.Parse()

	// SIGPIPE is caught so that a closed pager ends the demo in order, too.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()

	err := run(ctx, began, *stay, *on, newPrinter(os.Stdout))
	switch {
	case err == nil && *stay:
		fmt.Fprintln(os.Stderr, "Stopped: the server has ended and its data is removed.")
	case err == nil:
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "demo: interrupted:", err)
		os.Exit(130) // as a shell reports Ctrl-C
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run tells at the end how long all took since began. It leaves nothing behind, however it ends.
func run(ctx context.Context, began time.Time, stay bool, on string, out *printer) (err error) {
	d, err := start(ctx, on, out)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w\n%s", err, d.logTail())
		}
		err = errors.Join(err, d.stop())
	}()

	if err := d.configure(ctx); err != nil {
		return err
	}
	if stay {
		if err := d.configureHuawei(ctx); err != nil {
			return err
		}
		if on != "" {
			if err := d.configureFunctions(ctx); err != nil {
				return err
			}
		}
		return d.stayUp(ctx)
	}
	for _, step := range []func(context.Context) error{d.leaseOnce, d.configureHuawei, d.leaseHuawei} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	out.took(os.Getenv("CLOUDKEYS_DEMO_TOOK"), time.Since(began))
	out.line("Done: keys of two clouds were leased, used and revoked. make dev stays up for you to try the same.")
	return nil
}
