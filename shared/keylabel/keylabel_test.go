// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package keylabel

import (
	"strings"
	"testing"
)

func TestLabel(t *testing.T) {
	t.Run("a label reads back as it was written", func(t *testing.T) {
		want := New(NewID(), KindLease)
		got, err := Parse(want.String())
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})

	t.Run("two keys of one instance never share a label", func(t *testing.T) {
		instance := NewID()
		first, second := New(instance, KindLease), New(instance, KindLease)
		if first == second {
			t.Fatal("the same label twice")
		}
	})

	t.Run("a label stays within the shortest limit known for tags", func(t *testing.T) {
		if got := len(New(NewID(), KindLease).String()); got > 64 {
			t.Fatalf("%d characters", got)
		}
	})

	valid := New(NewID(), KindLease).String()
	foreign := map[string]string{
		"an empty tag":                "",
		"somebody's own tag":          "Group1",
		"another prefix":              "other" + strings.TrimPrefix(valid, prefix),
		"a kind that does not exist":  strings.Replace(valid, "-lease-", "-banana-", 1),
		"a cut label":                 valid[:len(valid)-1],
		"a longer label":              valid + "A",
		"a further field":             valid + "-more",
		"an instance in lower case":   strings.ToLower(valid),
		"a label with a space before": " " + valid,
	}
	for name, text := range foreign {
		t.Run(name+" is not ours", func(t *testing.T) {
			if l, err := Parse(text); err == nil {
				t.Fatalf("parsed %q as %+v", text, l)
			}
		})
	}
}

func TestLabelInAPath(t *testing.T) {
	label := New(NewID(), KindUser)

	for name, parent := range map[string]string{"the root": "/", "a path of the operator's": "/team/ci_cd/"} {
		t.Run("a label reads back under "+name, func(t *testing.T) {
			got, err := FromPath(parent + label.Path())
			if err != nil {
				t.Fatal(err)
			}
			if got != label {
				t.Fatalf("got %+v, want %+v", got, label)
			}
		})
	}

	t.Run("the path has only what OUTSCALE allows", func(t *testing.T) {
		const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_/"
		if rest := strings.Trim(label.Path(), allowed); rest != "" {
			t.Fatalf("%q has %q", label.Path(), rest)
		}
	})

	valid := "/" + label.Path()
	foreign := map[string]string{
		"the root":                       "/",
		"an empty path":                  "",
		"somebody's own path":            "/team/ci/app/prod/",
		"a path below a labelled one":    valid + "more/",
		"a path without its last slash":  strings.TrimSuffix(valid, "/"),
		"a path without its first slash": label.Path(),
		"a label with another prefix":    "/my" + label.Path(),
		"a label alone as one part":      "/" + label.String() + "/",
	}
	for name, path := range foreign {
		t.Run(name+" is not ours", func(t *testing.T) {
			if l, err := FromPath(path); err == nil {
				t.Fatalf("read %+v from %q", l, path)
			}
		})
	}
}

func FuzzFromPath(f *testing.F) {
	f.Add("/" + New(NewID(), KindUser).Path())
	f.Add("/team/cloudkeys/A/user/B/")
	f.Fuzz(func(t *testing.T, path string) {
		l, err := FromPath(path)
		if err == nil && !strings.HasSuffix(path, "/"+l.Path()) {
			t.Fatalf("%q read as %q", path, l)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(New(NewID(), KindLease).String())
	f.Add("cloudkeys-A-lease-B")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Parse(text)
		if err == nil && l.String() != text {
			t.Fatalf("%q parsed as %q", text, l)
		}
	})
}

func TestHandedOver(t *testing.T) {
	label := New(NewID(), KindStatic).String()
	text := HandedOver(label)
	if _, err := Parse(text); err == nil {
		t.Errorf("%q is still taken for a label", text)
	}
	if !strings.Contains(text, label) {
		t.Errorf("%q does not say where the key came from", text)
	}
	if again := HandedOver(text); again != text {
		t.Errorf("handed over twice it is %q", again)
	}
}
