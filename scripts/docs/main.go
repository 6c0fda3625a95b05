// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Command docs makes and checks what is written for readers:
//
//	docs reference    prints docs/reference.md, as the engine describes itself
//	docs words        searches for the words that words.txt avoids
//
// Its tests hold the pages to the code: the errors that the engine can return, the tests and the simulator's switches that they
// name, their links, and the form of their commands. Package run runs those commands.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("want one argument, reference or words, and not %q", args)
	}
	switch args[0] {
	case "reference":
		return writeReference(ctx, out)
	case "words":
		return checkWords(".")
	default:
		return fmt.Errorf("%q is not known: the argument is reference or words", args[0])
	}
}
