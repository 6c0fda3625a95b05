// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"regexp"
	"strings"

	"github.com/hashicorp/vault/sdk/helper/template"
)

// defaultUsernameTemplate makes names of 47 characters at most: a name that is cut at
// the cloud's limit would lose the random part, which comes last.
const defaultUsernameTemplate = `{{ printf "vault-%s-%s" (.RoleName | truncate 20) (random 20) }}`

// userName is what OUTSCALE accepts as the name of an EIM user (CreateUser).
var userName = regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,64}$`)

// notInUserName is everything else. Display names of tokens have it, after the mail
// address or path that somebody logged in with.
var notInUserName = regexp.MustCompile(`[^A-Za-z0-9+=,.@_-]`)

// usernameData is what a username_template can use.
type usernameData struct {
	RoleName    string
	DisplayName string // of the token that asks
}

// makeUsername renders a template, and refuses what the cloud would.
func makeUsername(text string, data usernameData) (string, error) {
	parsed, err := template.NewTemplate(template.Template(text))
	if err != nil {
		return "", mendable("username_template cannot be read: %s", err)
	}
	data.RoleName = notInUserName.ReplaceAllString(data.RoleName, "-")
	data.DisplayName = notInUserName.ReplaceAllString(data.DisplayName, "-")
	name, err := parsed.Generate(data)
	if err != nil {
		return "", mendable("username_template cannot be used: %s", err)
	}
	if !userName.MatchString(name) {
		return "", mendable("username_template makes the user name %q of %d characters: 1 to 64 letters, digits and +=,.@_- are allowed. "+
			"Shorten parts of it, as in {{ .DisplayName | truncate 20 }}", name, len(name))
	}
	return name, nil
}

// checkUsernameTemplate tries a template twice. One that makes the same name again could
// give out one key alone, and would take the second for somebody else's user.
func checkUsernameTemplate(text string) error {
	if err := boundTemplate(text); err != nil {
		return err
	}
	sample := usernameData{RoleName: "example", DisplayName: "token-example"}
	first, err := makeUsername(text, sample)
	if err != nil {
		return err
	}
	second, err := makeUsername(text, sample)
	if err != nil {
		return err
	}
	if strings.EqualFold(first, second) {
		return mendable("username_template made the user name %q twice: add randomness, as in {{ random 20 }}", first)
	}
	return nil
}
