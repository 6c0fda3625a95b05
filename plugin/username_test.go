// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"testing"

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

func TestCheckUsernameTemplate(t *testing.T) {
	for name, test := range map[string]struct{ template, says string }{
		"the default":                         {defaultUsernameTemplate, ""},
		"another good one":                    {"ci-{{ .DisplayName | truncate 20 }}-{{ random 16 }}", ""},
		"a uuid":                              {"u-{{ uuid }}", ""},
		"one that does not parse":             {"{{ .RoleName", "cannot be read"},
		"an unknown function":                 {"{{ banana 3 }}", "cannot be read"},
		"an unknown field":                    {"{{ .Banana }}-{{ random 20 }}", "cannot be used"},
		"the same name each time":             {"vault-{{ .RoleName }}", "twice"},
		"the same name within a second":       {"vault-{{ unix_time }}", "twice"},
		"a character that no cloud accepts":   {"vault/{{ random 20 }}", "vault/"},
		"a space":                             {"vault {{ random 20 }}", "64 letters"},
		"more than 64 characters":             {"{{ random 65 }}", "65 characters"},
		"nothing":                             {" ", "64 letters"},
		"a template that only makes nothing":  {`{{ "" }}`, "0 characters"},
		"hours of randomness":                 {"{{ random 2000000000 }}", "numbers above 256"},
		"the same, in a pipe":                 {"{{ if true }}{{ printf \"%s\" (1e9 | random) }}{{ end }}", "numbers above 256"},
		"a loop":                              {"{{ range 256 }}{{ random 20 }}{{ end }}", "may not have range"},
		"a template that calls itself":        {`{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}`, "may not have range"},
		"a long template":                     {strings.Repeat("x", 1001), "1001 characters"},
		"conditions":                          {"{{ with .RoleName }}{{ . | truncate 9 }}{{ else }}x{{ end }}-{{ random 20 }}", ""},
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
