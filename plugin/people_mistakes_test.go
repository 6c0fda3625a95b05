// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// mistake is one that this software had, or could have: TestSequences must find it when it is put back.
type mistake struct {
	name  string
	edits []replacement
}

// replacement puts a text in the place of another that stands in a file once.
type replacement struct{ file, old, by string }

// mistakes are those of docs/evidence.md. The first five are the worst that outsiders had found.
func mistakes() []mistake {
	return []mistake{
		{"a lock, a gateway's page or a passing refusal stops all calls for a day", []replacement{{
			"shared/transport/verdict.go", "\tcase again > 0:\n", "\tcase true:\n\t\treturn longestPause\n\tcase again > 0:\n",
		}}},
		{"a key that is not found under its user's name counts as gone", []replacement{{
			"shared/provider/prover.go", "\tif KindOf(cause) != KindNotFound {\n", "\tif KindOf(cause) != KindNotFound || cause != nil {\n",
		}}},
		{"requests in flight do not count against the slots of the engine's identity", []replacement{{
			"plugin/internal/ledger/index.go", "\t\t\tcount += l.reserved[owner{name, user}]\n", "",
		}}},
		{"static roles that fail are tried at each tick, and each job may use all of it", []replacement{
			{"plugin/static_schedule.go", "try.at = now.Add(pause)", "try.at = now"},
			{"plugin/periodic.go", "timeLeft(ctx)*time.Duration(j.share)/time.Duration(shares))", "timeLeft(ctx))"},
		}},
		{"the ledger is not held against the cloud for static keys", []replacement{{
			"plugin/compare_keys.go", "\tif keys == nil || !c.WriteSafeReplicationState() {", "\tif true {",
		}}},
		{"static keys past a date that somebody moved count as working", []replacement{{
			"plugin/account.go", "{ return !key.End().IsZero() && a.isDead(key.End()) }", "{ return false }",
		}}},
		{"the engine's keys stay when an account is deleted", []replacement{{
			"plugin/account_delete.go", "err != nil || config.KeyLabel == \"\" {", "true {",
		}}},
		{"a key that is refused before its delete counts as deleted", []replacement{{
			"plugin/account_delete.go", "isRefused(err) { // before its delete was tried", "false { // before its delete was tried",
		}}},
		{"the cloud's clock is not looked at", []replacement{{
			"plugin/account.go", "\tif !known || skew.Abs() <= lifetime.ClockMargin || !a.endsKeys() {", "\tif skew != 0 || !known {",
		}}},
		{"a create whose answer was lost is forgotten", []replacement{{
			"plugin/issue.go", "found, err = removeLabelled(ctx, i.account, e, i.account.listed)", "found = true",
		}}},
		{"`keys/<id>` is deleted in the ledger alone", []replacement{{
			"plugin/path_keys.go", "\tif err := removeDead(ctx, a, entry); err != nil {", "\tif err != nil {",
		}}},
		{"a comparison finds no orphans", []replacement{{
			"plugin/orphans.go", "\t\tif isOurs(key, instance) && !slices.Contains(a.config.ownKeys(), key.ID) {", "\t\tif false {",
		}}},
		{"a revocation removes the record before the key", []replacement{{
			"plugin/secret_access_key.go", "\tif err := a.destroy(ctx, entry); err != nil {\n",
			"\tif err := b.removeEntry(ctx, req.Storage, entry); err != nil {\n\t\treturn err\n\t}\n" +
				"\tif err := a.destroy(ctx, entry); err != nil {\n",
		}}},
		{"the reaper removes records alone", []replacement{{
			"plugin/periodic.go", "\terr = removeDead(own, a, entry)\n", "\terr = nil\n",
		}}},
		{"a renewal moves the record's date alone", []replacement{{
			"plugin/secret_access_key.go", "\terr = a.cloud.MoveExpiry(ctx, ref)\n", "\t_, err = ref, nil\n",
		}}},
		{"a dead key is tried once a minute", []replacement{{
			"shared/transport/verdict.go", "\tcase refusals < lockingRefusal-1 && lasted < firstPause:\n", "\tcase true:\n",
		}}},
		{"what was made seconds ago counts as gone when no list shows it", []replacement{{
			"shared/provider/recent.go", "return known && !m.deleted && m.settling()", "return false && known && m.deleted",
		}}},
	}
}

const (
	// mistakeVariable names a mistake to be put back; with "all" of peopleVariable each of them is.
	mistakeVariable = "CLOUDKEYS_MISTAKE"

	mistakeMoves = 8
	mistakeTime  = 10 * time.Minute
)

// TestMistakes puts each of the mistakes back, alone: the sequences must find it in ten minutes, and shrink what finds it to eight moves
// at most. Without "all" it only holds that the mistakes can still be made, where the code has changed.
func TestMistakes(t *testing.T) {
	wanted := os.Getenv(mistakeVariable)
	for _, m := range mistakes() {
		t.Run(m.name, func(t *testing.T) {
			overlay := m.overlay(t)
			if os.Getenv(peopleVariable) == "all" && wanted == "" || m.name == wanted {
				m.mustBeFound(t, overlay)
			}
		})
	}
}

// overlay writes the changed files, and what has Go build them in the place of the right ones.
func (m mistake) overlay(t *testing.T) (file string) {
	t.Helper()
	dir, files := t.TempDir(), map[string]string{}
	for _, e := range m.edits {
		path, err := filepath.Abs(filepath.Join("..", e.file))
		if err != nil {
			t.Fatal(err)
		}
		code, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(code, []byte(e.old)); n != 1 {
			t.Fatalf("%s has %q %d times, want once: say here how the mistake is made by now", e.file, e.old, n)
		}
		files[path] = filepath.Join(dir, strconv.Itoa(len(files))+".go")
		code = bytes.Replace(code, []byte(e.old), []byte(e.by), 1)
		if err := os.WriteFile(files[path], code, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": files})
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// foundLine is what TestSequences says of a failure.
var foundLine = regexp.MustCompile(`found after (\S+), shrunk to (\d+) moves in (\S+)`)

func (m mistake) mustBeFound(t *testing.T, overlay string) {
	t.Helper()
	binary := filepath.Join(filepath.Dir(overlay), "people.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("building it: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.run", "^TestSequences$", "-test.timeout", "1h")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s", peopleVariable, 2*mistakeTime)) // of which sequences have half
	out, err := cmd.CombinedOutput()
	found := foundLine.FindStringSubmatch(string(out))
	if err == nil || found == nil {
		t.Fatalf("the sequences do not find it: %v\n%s", err, out[max(0, len(out)-2000):])
	}
	moves, _ := strconv.Atoi(found[2])
	if moves > mistakeMoves {
		t.Errorf("it is shrunk to %d moves, want %d at most", moves, mistakeMoves)
	}
	fmt.Printf("| %s | %s | %s moves |\n", m.name, found[1], found[2])
}
