// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"bufio"
	"bytes"
	"reflect"
	"testing"
	"time"
)

// full is a finding with something in every field, so that a new field is not forgotten.
func full(t *testing.T) Finding {
	t.Helper()
	var f Finding
	fields := reflect.ValueOf(&f).Elem()
	for i := range fields.NumField() {
		switch field := fields.Field(i); {
		case field.Kind() == reflect.String:
			field.SetString("é\n\"" + fields.Type().Field(i).Name)
		case field.Kind() == reflect.Bool:
			field.SetBool(true)
		case field.Type() == reflect.TypeFor[time.Time]():
			field.Set(reflect.ValueOf(time.Date(2999, 1, i, 2, 3, 4, 567_891_234, time.UTC)))
		default:
			t.Fatalf("%s is of a kind that is not spooled", fields.Type().Field(i).Name)
		}
	}
	return f
}

func TestASpoolGivesBackWhatItWasGiven(t *testing.T) {
	s, err := newSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	want := []Finding{full(t), {}, {User: string(bytes.Repeat([]byte("u"), 100_000))}, full(t)}
	for _, f := range want {
		if err := s.add(f); err != nil {
			t.Fatal(err)
		}
	}
	var got []Finding
	for f, err := range s.read() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestALineThatIsCutIsNoFinding(t *testing.T) {
	f := full(t)
	line, err := f.appendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	for end := range line {
		if err := new(Finding).readFrom(line[:end]); err == nil {
			t.Errorf("the first %d of %d bytes are read as a finding", end, len(line))
		}
	}
	if _, err := readLine(bufio.NewReader(bytes.NewReader([]byte{5, 1, 2})), nil); err == nil {
		t.Error("two bytes are read as five")
	}
}
