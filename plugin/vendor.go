// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// vendor is what the engine must know of a cloud before it calls it: what accounts and roles
// may say, and how its client is made. What a call can tell stands in provider.Cloud.
type vendor struct {
	name   string // value of an account's provider field
	title  string // as it reads in a sentence
	region string // default of an account

	users nameRule // of users that exist, and of those that are made

	// credentialTypes are those that its roles can have.
	credentialTypes []string

	// signsIn tells whether a login can make the engine's own key.
	signsIn bool

	// leasesItself tells whether access keys of the engine's own identity can be leased.
	leasesItself bool

	// settling are the pauses before each new try of a key that was just made, where the cloud
	// does not know it everywhere at once. Never so many that refused tries lock the key.
	settling []time.Duration

	checkAccount func(*accountConfig) error
	checkRole    func(*roleEntry) error
	permission   func(op string) string // what to permit for a call
	findsItself  string                 // what helps a key to find out whose it is
	open         func(c *accountConfig, userAgent string, base http.RoundTripper) (provider.Cloud, error)
}

// nameRule is what a cloud accepts as the name of a user.
type nameRule struct {
	pattern *regexp.Regexp
	other   *regexp.Regexp // any character that is not allowed
	text    string
}

// vendors are the clouds that the engine knows. Another one is added here alone.
func vendors() []vendor { return []vendor{outscaleVendor(), huaweiVendor()} }

// vendorNames are the values of an account's provider field.
func vendorNames() []string {
	var names []string
	for _, v := range vendors() {
		names = append(names, v.name)
	}
	return names
}

// vendorOf finds a cloud by the account's provider field.
func vendorOf(name string) (vendor, error) {
	for _, v := range vendors() {
		if v.name == name {
			return v, nil
		}
	}
	known := strings.Join(vendorNames(), " or ")
	if name == "" {
		return vendor{}, mendable("provider is missing: set it to %s", known)
	}
	return vendor{}, mendable("unknown provider %q: set it to %s", name, known)
}

// settlingTime is how long the tries of a new key may take in all.
func (v vendor) settlingTime() time.Duration {
	total := time.Duration(0)
	for _, pause := range v.settling {
		total += pause
	}
	return total
}

// signsIn tells whether a login can make the engine's own key; a cloud that is not known is
// refused elsewhere.
func signsIn(provider string) bool {
	v, err := vendorOf(provider)
	return err != nil || v.signsIn
}

// orSignIn is the other way to a key, where the cloud has one.
func (v vendor) orSignIn() string {
	if !v.signsIn {
		return ""
	}
	return ", or login and password to make them"
}

// checkUserName refuses what cannot be the name of a user.
func (v vendor) checkUserName(field, name string) error {
	if !v.users.pattern.MatchString(name) {
		return mendable("%s holds %q, which is not the name of a user of %s: %s", field, name, v.title, v.users.text)
	}
	return nil
}

// checkRoleOf refuses a role that the cloud cannot serve.
func (v vendor) checkRoleOf(r *roleEntry) error {
	if !slices.Contains(v.credentialTypes, r.CredentialType) {
		return mendable("credential_type=%s does not go with an account of %s, which has %s",
			r.CredentialType, v.title, strings.Join(v.credentialTypes, " and "))
	}
	for _, user := range r.UserNames {
		if err := v.checkUserName("user_names", user); err != nil {
			return err
		}
	}
	return v.checkRole(r)
}

// openCloud is the opener of the shipped plugin.
func openCloud(userAgent string) opener {
	pools := newConnectionPools()
	return func(c *accountConfig) (provider.Cloud, error) {
		v, err := vendorOf(c.Provider)
		if err != nil {
			return nil, err
		}
		base, err := pools.of(c.tls())
		if err != nil {
			return nil, err
		}
		return v.open(c, userAgent, base)
	}
}
