// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package clouds

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider/huawei"
)

// Huawei is the value of the provider field of Huawei Cloud's accounts.
const Huawei = huawei.Name

// How requests to Huawei Cloud and its relatives are signed, as an account's signature field
// says it. Which one the relatives take besides the one that their own clients write is not
// documented.
const (
	SignatureSDK = huawei.SignatureSDK
	SignatureOTC = huawei.SignatureOTC
)

// MinSession and MaxSession bound the life of a temporary key: Huawei Cloud alone has them.
const (
	MinSession = huawei.MinSession
	MaxSession = huawei.MaxSession
)

// huaweiNames is the rule of users, agencies and sessions.
var huaweiNames = nameRule{
	pattern: regexp.MustCompile(`^[A-Za-z _.-][A-Za-z0-9 _.-]{0,63}$`),
	other:   regexp.MustCompile(`[^A-Za-z0-9 _.-]`),
	text:    "1 to 64 letters, digits, spaces and -_., not beginning with a digit",
}

// maxHuaweiGroups is how many groups a user of Huawei Cloud can be in.
const maxHuaweiGroups = 10

func huaweiCloud() Cloud {
	return Cloud{
		Name:              huawei.Name,
		Title:             "Huawei Cloud",
		Region:            "ap-southeast-1",
		CredentialTypes:   []string{AccessKey, IAMUser, SessionToken},
		Signature:         SignatureSDK,
		NamesAccount:      true,
		PolicyFiles:       "docs/examples/policies/huawei-engine.json",
		LeasesOwnIdentity: false, // a user has two slots: the current key's and the next one's
		// A new key can be refused for some seconds. Five refused calls in a row lock it for
		// five minutes (APIGW.0301). A try makes two, the second after some seconds, so that
		// one more try is all that there is room for.
		Settling:    []time.Duration{10 * time.Second},
		FindsItself: "permit the calls ShowPermanentAccessKey and ShowUser to that user",
		users:       huaweiNames,
		endpoint:    huawei.Endpoint,
		open: func(c provider.Config) (Client, error) {
			client, err := huawei.New(c)
			if err != nil {
				return nil, err // a nil *Client in the interface would not be nil
			}
			return client, nil
		},
		signer:       huawei.Signer,
		permission:   func(operation string) string { return operation + " (or give it the role Security Administrator)" },
		checkAccount: checkHuaweiAccount,
		checkRole:    checkHuaweiRole,
	}
}

func checkHuaweiAccount(c provider.Config) error {
	switch c.Signature {
	case "", SignatureSDK, SignatureOTC:
	default:
		return fmt.Errorf(
			"signature %q is not known: use %s, or %s for a cloud of the Open Telekom Cloud family",
			c.Signature,
			SignatureSDK,
			SignatureOTC,
		)
	}
	if c.DomainID == "" {
		return nil
	}
	if err := huawei.CheckDomainID(c.DomainID); err != nil {
		return fmt.Errorf("domain_id: %w", err)
	}
	return nil
}

// checkHuaweiRole refuses at the write what the cloud would refuse at every lease.
func checkHuaweiRole(r Role) error {
	switch {
	case r.UserPath != "":
		return errors.New("user_path does not go with an account of Huawei Cloud, whose users have no path: leave it empty")
	case len(r.PolicyORNs) > 0 || r.PolicyDocument != "":
		return errors.New("policy_orns and policy_document do not go with an account of Huawei Cloud, which gives rights to groups: " +
			"give them to a group there, and name it in groups")
	case len(r.Groups) > maxHuaweiGroups:
		return fmt.Errorf("groups names %d groups, and a user of Huawei Cloud can be in %d at most", len(r.Groups), maxHuaweiGroups)
	case r.CredentialType == AccessKey && len(r.UserNames) == 0:
		return errors.New("user_names is empty: on Huawei Cloud a role leases keys of the users that it names, two of each at most")
	case r.AgencyName != "" && !huaweiNames.pattern.MatchString(r.AgencyName):
		return fmt.Errorf("agency_name %q is not the name of an agency of Huawei Cloud: %s", r.AgencyName, huaweiNames.text)
	}
	if err := huawei.CheckSession(MinSession, r.SessionPolicy); err != nil {
		return fmt.Errorf("session_policy: %w", err)
	}
	return checkEach("groups", r.Groups, huawei.CheckGroup)
}
