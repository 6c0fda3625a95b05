// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"

	"github.com/hashicorp/vault/sdk/helper/template"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
)

// defaultUsernameTemplate makes names of 47 characters at most, which every cloud takes: a name
// that is cut at the cloud's limit would lose the random part, which comes last.
const defaultUsernameTemplate = `{{ printf "vault-%s-%s" (.RoleName | truncate 20) (random 20) }}`

// usernameData is what a username_template can use.
type usernameData struct {
	RoleName    string
	DisplayName string // of the token that asks
}

// makeUsername renders a template, and refuses what the cloud would. Display names of tokens
// have other characters than it allows, after the mail address or path that somebody logged in
// with.
func makeUsername(cloud clouds.Cloud, text string, data usernameData) (string, error) {
	parsed, err := template.NewTemplate(template.Template(text))
	if err != nil {
		return "", mendable("username_template cannot be read: %s", err)
	}
	data.RoleName = cloud.CleanName(data.RoleName)
	data.DisplayName = cloud.CleanName(data.DisplayName)
	name, err := parsed.Generate(data)
	if err != nil {
		return "", mendable("username_template cannot be used: %s", err)
	}
	if cloud.CheckUserName("", name) != nil {
		return "", mendable("username_template makes the user name %q of %d characters: %s are allowed. "+
			"Shorten parts of it, as in {{ .DisplayName | truncate 20 }}", name, len(name), cloud.UserNameRule())
	}
	return name, nil
}

// checkUsernameTemplate tries a template twice. One that makes the same name again could
// give out one key alone, and would take the second for somebody else's user.
func checkUsernameTemplate(cloud clouds.Cloud, text string) error {
	if err := boundTemplate(text); err != nil {
		return err
	}
	sample := usernameData{RoleName: "example", DisplayName: "token-example"}
	first, err := makeUsername(cloud, text, sample)
	if err != nil {
		return err
	}
	second, err := makeUsername(cloud, text, sample)
	if err != nil {
		return err
	}
	if strings.EqualFold(first, second) {
		return mendable("username_template made the user name %q twice: add randomness, as in {{ random 20 }}", first)
	}
	return nil
}
