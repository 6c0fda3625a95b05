// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestASecretIsShownByItsFirstCharactersAlone(t *testing.T) {
	for name, test := range map[string]struct{ secret, want string }{
		"an OUTSCALE secret":              {strings.Repeat("S", 40), "SSSS********"},
		"a longer one looks the same":     {strings.Repeat("S", 80), "SSSS********"},
		"a short one is not shown at all": {"SSSSSSSS", "********"},
		"none":                            {"", "********"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := mask(test.secret); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestResultsAreAligned(t *testing.T) {
	var out bytes.Buffer
	p := &printer{w: &out}
	p.field("answer", "200 OK, %d VMs", 0)
	p.field("effective_max_ttl", "835 s")
	p.call(cloudsim.Call{Op: "ReadVms", User: "deploy", At: time.Unix(0, 0), Status: 400, Code: "4120"})

	want := "    answer             200 OK, 0 VMs\n" +
		"    effective_max_ttl  835 s\n" +
		"    00:00:00Z          ReadVms              by deploy   400 code 4120\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestColourChangesNoText(t *testing.T) {
	plain, coloured := &bytes.Buffer{}, &bytes.Buffer{}
	for _, p := range []*printer{{w: plain}, {w: coloured, color: true}} {
		p.command("vault read %s", credsPath)
		p.step("a step")
		p.field("answer", "200 OK")
	}

	if strings.Contains(plain.String(), "\x1b") {
		t.Errorf("without colour, got %q", plain)
	}
	bare := strings.NewReplacer(styleBold, "", styleDim, "", styleNormal, "").Replace(coloured.String())
	if bare == coloured.String() || bare != plain.String() {
		t.Errorf("with colour, got %q", coloured)
	}
}

func TestAFileGetsNoColour(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if wantsColor(file, func(string) string { return "" }) {
		t.Error("got colour")
	}
}

func TestDurationsReadAsTheCommandLineWritesThem(t *testing.T) {
	for duration, want := range map[time.Duration]string{
		12 * time.Minute:              "12m",
		time.Hour + time.Minute:       "1h1m",
		9*time.Minute + 9*time.Second: "9m9s",
		50 * time.Second:              "50s",
	} {
		if got := short(duration); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestQuotedTextIsOneWordOfTheShell(t *testing.T) {
	if got, want := quote("/it's here"), `'/it'\''s here'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
