// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
)

func TestMakeUsername(t *testing.T) {
	data := usernameData{RoleName: strings.Repeat("role", 30), DisplayName: "ldap-José Müller/ops"}

	t.Run("the default fits however long the role's name is, and differs each time", func(t *testing.T) {
		seen := map[string]bool{}
		for range 100 {
			name, err := makeUsername(cloudNamed(t, clouds.Outscale), defaultUsernameTemplate, data)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(name, "vault-rolerolerolerolerole-") || seen[name] {
				t.Errorf("got %q", name)
			}
			seen[name] = true
		}
	})

	t.Run("characters of a display name that the cloud does not take become hyphens", func(t *testing.T) {
		name, err := makeUsername(cloudNamed(t, clouds.Outscale), "{{ .DisplayName | truncate 40 }}", data)
		if err != nil || name != "ldap-Jos--M-ller-ops" {
			t.Errorf("got %q, %v", name, err)
		}
	})

	t.Run("a name that is too long is refused and never cut", func(t *testing.T) {
		_, err := makeUsername(cloudNamed(t, clouds.Outscale), "{{ .RoleName }}-{{ random 20 }}", data)
		if err == nil {
			t.Fatal("accepted")
		}
		mustHold(t, err.Error(), "141 characters", "truncate")
	})
}

// TestCheckUsernameTemplate is E10 with all its kind.
func TestCheckUsernameTemplate(t *testing.T) {
	for name, test := range map[string]struct{ template, says string }{
		"the default":                        {defaultUsernameTemplate, ""},
		"another good one":                   {"ci-{{ .DisplayName | truncate 20 }}-{{ random 16 }}", ""},
		"a uuid":                             {"u-{{ uuid }}", ""},
		"one that does not parse":            {"{{ .RoleName", "cannot be read"},
		"an unknown function":                {"{{ banana 3 }}", `cannot call "banana"`},
		"an unknown field":                   {"{{ .Banana }}-{{ random 20 }}", `".Banana": there are .RoleName and .DisplayName`},
		"the same name each time":            {"vault-{{ .RoleName }}", "twice"},
		"the same name within a second":      {"vault-{{ unix_time }}", "twice"},
		"a character that no cloud accepts":  {"vault/{{ random 20 }}", "a user name of 26 characters which OUTSCALE does not take"},
		"a space":                            {"vault {{ random 20 }}", "64 letters"},
		"more than 64 characters":            {"{{ random 65 }}", "65 characters"},
		"nothing":                            {" ", "64 letters"},
		"a template that only makes nothing": {`{{ "" }}`, "0 characters"},
		"hours of randomness":                {"{{ random 2000000000 }}", "numbers above 256"},
		"the same, in a pipe":                {"{{ if .RoleName }}{{ printf \"%s\" (1e9 | random) }}{{ end }}", "numbers above 256"},
		"a loop":                             {"{{ range 256 }}{{ random 20 }}{{ end }}", "may not have \"{{range"},
		"a template that calls itself": {
			`{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}`,
			"may not define another template",
		},
		"a long template":       {strings.Repeat("x", 1001), "1001 characters"},
		"conditions":            {"{{ if .RoleName }}{{ .RoleName | truncate 9 }}{{ else }}x{{ end }}-{{ random 20 }}", ""},
		"a hash, and the time":  {"u-{{ .DisplayName | sha256 | truncate 8 }}-{{ unix_time }}-{{ random 8 | lowercase }}", ""},
		"a call as an argument": {`{{ printf "u-%s" uuid }}`, ""},
		"a variable": {
			`{{ $a := "aaa" }}{{ $a = print $a $a $a $a }}{{ random 20 }}`,
			"may not have variables, such as $a",
		},
		"E10: a variable that doubles": {
			`{{ $a := "aaa" }}` + strings.Repeat("{{ $a = print $a $a $a $a }}", 11) + "{{ $a }}",
			"may not have variables",
		},
		"all of the data":                     {"{{ . }}-{{ random 20 }}", "may not have"},
		"the data by a dollar":                {"{{ $ }}-{{ random 20 }}", "may not have"},
		"with":                                {"{{ with .RoleName }}{{ . }}{{ end }}-{{ random 20 }}", "may not have"},
		"a function of Go's templates":        {`{{ js .RoleName }}-{{ random 20 }}`, `cannot call "js"`},
		"a width":                             {`{{ printf "%2000000000d" 1 }}{{ random 20 }}`, "without a width"},
		"a width that comes as an argument":   {`{{ printf "%*d" 256 1 }}{{ random 20 }}`, "without a width"},
		"a format that is data":               {`{{ printf .RoleName 1 }}{{ random 20 }}`, "its format as a text"},
		"a format from a pipe":                {`{{ "%9999999d" | printf }}{{ random 20 }}`, "its format as a text"},
		"a negative number":                   {`{{ .RoleName | truncate -1 }}{{ random 20 }}`, "or below 0"},
		"21 calls":                            {strings.Repeat("{{ random 1 }}", 21), "calls 21 functions"},
		"a method":                            {`{{ .RoleName.Banana }}{{ random 20 }}`, `".RoleName.Banana"`},
		"a break":                             {`{{ break }}`, "cannot be read"},
		"randomness in upper and lower alone": {"{{ .RoleName | uppercase }}", "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkUsernameTemplate(cloudNamed(t, clouds.Outscale), test.template)
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			mustHold(t, err.Error(), test.says)
		})
	}
}

// FuzzUsernameTemplate renders whatever is allowed: it ends soon, in a name that the cloud takes.
func FuzzUsernameTemplate(f *testing.F) {
	for _, seed := range []string{
		defaultUsernameTemplate,
		`{{ if .DisplayName }}{{ .DisplayName | truncate 9 }}{{ else }}x{{ end }}-{{ random 20 }}`,
		`{{ printf "%s-%d" (printf "%s" uuid) 256 | truncate_sha256 40 }}`,
		`{{ $a := "aaa" }}{{ $a = print $a $a }}{{ $a }}`, `{{ timestamp "2006" }}{{ random 9 }}`, `{{ unix_time_millis }}{{ "%9d" }}`,
	} {
		f.Add(seed, "team", "ldap-somebody")
	}
	f.Fuzz(func(t *testing.T, text, role, display string) {
		cloud := cloudNamed(t, clouds.Outscale)
		began := time.Now()
		if err := checkUsernameTemplate(cloud, text); err != nil {
			if len(err.Error()) > 1000 {
				t.Errorf("a refusal of %d characters", len(err.Error()))
			}
			return
		}
		name, err := makeUsername(cloud, text, usernameData{RoleName: role, DisplayName: display})
		if err == nil && cloud.CheckUserName("", name) != nil {
			t.Errorf("%q is no name", name)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
	})
}
