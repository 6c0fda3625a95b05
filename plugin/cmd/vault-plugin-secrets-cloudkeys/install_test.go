// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func TestInstallCopiesTheBinaryAndPrintsItsSum(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, filepath.Base(self))
	for name, prepare := range map[string]func() error{
		"into an empty directory": func() error { return nil },
		"over an older one":       func() error { return os.WriteFile(target, []byte("older"), 0o555) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := prepare(); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			if err := run([]string{"install", dir}, &said); err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(self)
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(target)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is not what was run (%v)", target, err)
			}
			if line := fmt.Sprintf("%x  %s\n", sha256.Sum256(want), target); said.String() != line {
				t.Errorf("printed %q, want %q", said.String(), line)
			}
			if info, err := os.Stat(target); err != nil || info.Mode() != 0o755 {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("the directory has %v, %v", left, err)
	}
}

func TestInstallSaysWhatIsWrong(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"a directory that is not there": {[]string{"install", missing}, "copying the plugin to " + missing},
		"no directory":                  {[]string{"install"}, "usage: "},
		"two directories":               {[]string{"install", missing, missing}, "usage: "},
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(test.args, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
}

// withoutRoots makes a test be a process on a machine that has no certificate authorities, as an image from scratch has none.
const withoutRoots = "CLOUDKEYS_TEST_WITHOUT_ROOTS"

func TestAMachineWithoutCertificateAuthoritiesGetsThoseOfMozilla(t *testing.T) {
	if os.Getenv(withoutRoots) == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		child.Env = append(os.Environ(), withoutRoots+"=1", "SSL_CERT_FILE="+os.DevNull, "SSL_CERT_DIR="+t.TempDir())
		if out, err := child.CombinedOutput(); err != nil || !strings.Contains(string(out), "roots accepted") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	accepted := 0
	for root := range bundle.Roots() {
		certificate, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		if root.Constraint != nil {
			continue // this one is taken only for older certificates
		}
		if _, err := certificate.Verify(x509.VerifyOptions{
			CurrentTime: certificate.NotBefore.AddDate(0, 0, 1),
			KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		}); err != nil {
			t.Fatalf("%s: %v", certificate.Subject, err)
		}
		accepted++
	}
	if accepted == 0 {
		t.Error("Mozilla's list is empty")
	}
	t.Logf("%d roots accepted", accepted)
}
