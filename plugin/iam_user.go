// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/sdk/helper/template"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// errNameTaken is a user of somebody else's that has the name which a new one was to get.
var errNameTaken = errors.New("the cloud account has a user of that name already, which this mount leaves alone")

// makeUserKey makes a user with one access key for a lease:
//
//	(1) entry, begun {account, account id, user name, label}
//	    → crash: no user carries the label. The entry goes once no create can be under way
//	(2) create the user, its label in its path
//	    → crash: the next tick finds the user by its label and removes it
//	(3) policies, inline policy and groups, at the same time
//	    → crash: the same; what hangs on the user goes with it
//	(4) create the key, with label and date
//	    → crash: the same; the key is the first to go
//	(5) entry, made {access key, user id}
//	    → crash: no lease knows the key, the ledger does: at its date the reaper removes it and
//	      the user
//	(6) answer
//
// The key comes after the rights, so that its holder never meets a user without them
// (OUTSCALE may take 15 seconds more to apply them). A failure after (1) removes the user
// at once; if that fails too, the next tick tries again.
func (b *backend) makeUserKey(ctx context.Context, i issuance, plan lifetime.IssuePlan) (recordedKey, error) {
	name, err := makeUsername(i.account.kind, i.account.config.usernameTemplate(), usernameData{
		RoleName:    i.roleName,
		DisplayName: i.req.DisplayName,
	})
	if err != nil {
		return recordedKey{}, err
	}
	order := keyOrder{kind: keylabel.KindUser, user: name, issued: plan.Issued, expires: plan.Expiry}
	return b.makeKey(ctx, i, order, func(key *recordedKey) error {
		user, err := i.account.cloud.CreateUser(ctx, provider.UserSpec{
			Name: name, Path: cmp.Or(i.role.UserPath, defaultUserPath), Label: key.entry.Label,
		})
		if provider.KindOf(err) == provider.KindConflict {
			err = fmt.Errorf("user %s: %w: %w", name, errNameTaken, err)
		}
		if err != nil {
			return err
		}
		key.entry.UserID, key.entry.Certain = user.ID, true
		return i.account.cloud.GrantUser(ctx, user, i.role.rights())
	})
}

// explainUser says what can be done about an issue that failed.
func explainUser(i issuance, err error) error {
	if errors.Is(err, errNameTaken) {
		return userError("role %q cannot get a user: both names that the account's username_template made are taken. Give it more "+
			"randomness (%s)", i.roleName, err)
	}
	switch provider.KindOf(err) {
	case provider.KindNotFound:
		return userError("role %q cannot get a user: something that the role names does not exist. Create it in the cloud account, "+
			"or take it out of the role (%s)", i.roleName, err)
	case provider.KindQuota:
		return userError("role %q cannot get a user: the cloud account has no room for one more user, or the user none for what the "+
			"role gives it (%s)", i.roleName, err)
	case provider.KindConflict:
		return userError("role %q cannot get a user: the cloud refuses what the role gives it (%s)", i.roleName, err)
	default:
		return explain(i.account.name, err)
	}
}

const (
	// defaultUsernameTemplate makes names of 47 characters at most, which every cloud takes: a name
	// that is cut at the cloud's limit would lose the random part, which comes last.
	defaultUsernameTemplate = `{{ printf "vault-%s-%s" (.RoleName | truncate 20) (random 20) }}`

	// maxDisplayName is how much of a token's display name a template gets.
	maxDisplayName = 64
)

// usernameData is what a username_template can use.
type usernameData struct {
	RoleName    string
	DisplayName string // of the token that asks
}

// makeUsername renders a template, and refuses what the cloud would. Display names of tokens
// have other characters than it allows, after the mail address or path that somebody logged in
// with. No error holds what was rendered.
func makeUsername(cloud clouds.Cloud, text string, data usernameData) (string, error) {
	parsed, err := template.NewTemplate(template.Template(text))
	if err != nil {
		return "", userError("username_template cannot be read: %.200s", err)
	}
	data.RoleName = cloud.CleanName(data.RoleName)
	display := []rune(data.DisplayName)
	data.DisplayName = cloud.CleanName(string(display[:min(len(display), maxDisplayName)]))
	name, err := parsed.Generate(data)
	if err != nil {
		return "", userError("username_template cannot be used: %.200s", err)
	}
	if cloud.CheckUserName("", name) != nil {
		return "", userError("username_template makes a user name of %d characters which %s does not take: %s are allowed. "+
			"Shorten parts of it, as in {{ .DisplayName | truncate 20 }}", len([]rune(name)), cloud.Title, cloud.UserNameRule())
	}
	return name, nil
}

// checkUsernameTemplate tries a template twice. One that makes the same name again could
// give out one key alone, and would take the second for somebody else's user.
func checkUsernameTemplate(cloud clouds.Cloud, text string) error {
	if err := clouds.CheckTemplate(text); err != nil {
		return asUserError(err)
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
		return userError("username_template made the same user name twice: add randomness, as in {{ random 20 }}")
	}
	return nil
}
