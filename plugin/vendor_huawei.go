// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"net/http"
	"regexp"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider/huawei"
)

// huaweiNames is the rule of users, agencies and sessions.
var huaweiNames = nameRule{
	pattern: regexp.MustCompile(`^[A-Za-z _.-][A-Za-z0-9 _.-]{0,63}$`),
	other:   regexp.MustCompile(`[^A-Za-z0-9 _.-]`),
	text:    "1 to 64 letters, digits, spaces and -_., not beginning with a digit",
}

// maxHuaweiGroups is how many groups a user of Huawei Cloud can be in.
const maxHuaweiGroups = 10

func huaweiVendor() vendor {
	return vendor{
		name:            huawei.Name,
		title:           "Huawei Cloud",
		region:          "ap-southeast-1",
		users:           huaweiNames,
		credentialTypes: []string{credentialAccessKey, credentialIAMUser, credentialSession},
		leasesItself:    false, // a user has two slots: the current key's and the next one's
		// A new key can be refused for some seconds. Five refused calls in a row lock it for
		// five minutes (APIGW.0301). A try makes two, the second after some seconds, so that
		// one more try is all that there is room for.
		settling:     []time.Duration{10 * time.Second},
		checkAccount: checkHuaweiAccount,
		checkRole:    checkHuaweiRole,
		permission:   func(op string) string { return op + " (or give it the role Security Administrator)" },
		findsItself:  "permit the calls ShowPermanentAccessKey and ShowUser to that user",
		open: func(c *accountConfig, userAgent string, base http.RoundTripper) (provider.Cloud, error) {
			return huawei.New(huaweiConfig(c, userAgent, base))
		},
	}
}

// huaweiDomainID is what the cloud calls the id of an account.
var huaweiDomainID = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// The values of an account's signature field. Which one the relatives of Huawei Cloud take
// besides the one that their own clients write is not documented.
const (
	signatureSDK = "sdk"
	signatureOTC = "otc"
)

func checkHuaweiAccount(c *accountConfig) error {
	if c.signature() != signatureSDK && c.signature() != signatureOTC {
		return mendable("signature %q is not known: use %s, or %s for a cloud of the Open Telekom Cloud family", c.Signature, signatureSDK, signatureOTC)
	}
	if c.DomainID != "" && !huaweiDomainID.MatchString(c.DomainID) {
		return mendable("domain_id %q is not the id of an account of Huawei Cloud: leave it out, and it is looked up", c.DomainID)
	}
	if _, err := huawei.Endpoint(c.Region, c.Endpoint); err != nil {
		return mendable("%s", err)
	}
	return nil
}

// domainID is what Huawei Cloud calls the id of an account; empty on other clouds.
func (c *accountConfig) domainID() string {
	if c.Provider != huawei.Name {
		return ""
	}
	return cmp.Or(c.DomainID, c.AccountID)
}

// signature is how requests to Huawei Cloud are signed; empty on other clouds.
func (c *accountConfig) signature() string {
	if c.Provider != huawei.Name {
		return ""
	}
	return cmp.Or(c.Signature, signatureSDK)
}

func huaweiConfig(c *accountConfig, userAgent string, base http.RoundTripper) huawei.Config {
	dialect := huawei.DialectAccess
	if c.signature() == signatureOTC {
		dialect = huawei.DialectCredential
	}
	return huawei.Config{
		AccessKey:  c.AccessKey,
		SecretKey:  provider.Secret(c.SecretKey),
		Region:     c.Region,
		Endpoint:   c.Endpoint,
		DomainID:   c.domainID(),
		Dialect:    dialect,
		Base:       base,
		UserAgent:  userAgent,
		Timeout:    c.RequestTimeout,
		MaxRetries: c.MaxRetries,
		PerSecond:  c.MaxRequestsPerSecond,
		Observe:    c.observe,
	}
}

// checkHuaweiRole refuses at the write what the cloud would refuse at every lease.
func checkHuaweiRole(r *roleEntry) error {
	switch {
	case r.UserPath != "":
		return mendable("user_path does not go with an account of Huawei Cloud, whose users have no path: leave it empty")
	case len(r.PolicyORNs) > 0 || r.PolicyDocument != "":
		return mendable("policy_orns and policy_document do not go with an account of Huawei Cloud, which gives rights to groups: " +
			"give them to a group there, and name it in groups")
	case len(r.Groups) > maxHuaweiGroups:
		return mendable("groups names %d groups, and a user of Huawei Cloud can be in %d at most", len(r.Groups), maxHuaweiGroups)
	case r.CredentialType == credentialAccessKey && len(r.UserNames) == 0:
		return mendable("user_names is empty: on Huawei Cloud a role leases keys of the users that it names, two of each at most")
	case r.AgencyName != "" && !huaweiNames.pattern.MatchString(r.AgencyName):
		return mendable("agency_name %q is not the name of an agency of Huawei Cloud: %s", r.AgencyName, huaweiNames.text)
	}
	return checkEach("groups", r.Groups, huawei.CheckGroup)
}
