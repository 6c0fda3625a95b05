// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
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

// TestTheReferenceNamesEveryKindOfKey: the guide for a leaked key goes on by it.
func TestTheReferenceNamesEveryKindOfKey(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "reference.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `kind` \\|.*$").FindString(string(page))
	for _, kind := range []keylabel.Kind{keylabel.KindLease, keylabel.KindUser, keylabel.KindStatic, keylabel.KindRoot} {
		if !strings.Contains(row, string(kind)) {
			t.Errorf("%q does not name %s", row, kind)
		}
	}
}
