// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"os"
	"testing"
)

func TestTheReferenceIsWhatTheEngineSaysOfItself(t *testing.T) {
	var want bytes.Buffer
	if err := writeReference(t.Context(), &want); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("docs/reference.md is stale: run `make docs` and commit it")
	}
}
