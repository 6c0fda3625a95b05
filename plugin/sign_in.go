// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"unicode"

	"github.com/hashicorp/vault/sdk/framework"
)

// How the engine signs in is key and secret, and the address that they are used at. A secret goes to
// addresses that stand in the same write alone: else whoever may write one field of an account would
// have the next login, or calls that are signed with the stored key, sent to a machine of his.

// stands tells whether a write gives a field a value.
func stands(data *framework.FieldData, field string) bool {
	text, _ := data.Get(field).(string)
	_, given := data.Raw[field]
	return given && text != ""
}

// checkCredentials refuses white space that no key or password has: a file that is read with @ often
// ends in a line break, and every call with it is refused.
func checkCredentials(data *framework.FieldData) error {
	for _, field := range []string{"access_key", "secret_key"} {
		text, _ := data.Get(field).(string)
		if strings.ContainsFunc(text, unicode.IsSpace) {
			return userError("%s %s: write it without. A file that is read with @ often ends in a line break", field, whereSpace(text))
		}
	}
	for _, field := range []string{"login", "password"} {
		text, _ := data.Get(field).(string)
		if strings.TrimSpace(text) != text || strings.ContainsAny(text, "\r\n") {
			return userError("%s %s: write it without. A file that is read with @ often ends in a line break", field, whereSpace(text))
		}
	}
	return checkPEM(data)
}

func whereSpace(text string) string {
	switch {
	case strings.HasSuffix(text, "\n"):
		return "ends in a line break"
	case strings.TrimSpace(text) != text:
		return "begins or ends with white space"
	default:
		return "holds white space"
	}
}

// checkPEM reads the PEM fields: what a client would be made of must be what was written.
func checkPEM(data *framework.FieldData) error {
	for _, field := range []string{"ca_cert", "client_cert", "client_key"} {
		text, _ := data.Get(field).(string)
		if text == "" {
			continue
		}
		blocks, rest := pemBlocks(text)
		switch {
		case len(blocks) == 0:
			return userError("%s holds no PEM block, which begins with -----BEGIN: give the file's content, as in %s=@file.pem", field, field)
		case len(bytes.TrimSpace(rest)) > 0:
			return userError("%s has something after its last PEM block that is none: write the blocks alone", field)
		}
		for _, block := range blocks {
			if err := checkBlock(field, block); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkBlock(field string, block *pem.Block) error {
	switch {
	case field == "client_key" && !strings.HasSuffix(block.Type, "PRIVATE KEY") && block.Type != "EC PARAMETERS":
		return userError("client_key holds a PEM block of the type %q: give the private key alone", block.Type)
	case field == "client_key":
		return nil // the pair is tried as a whole
	case block.Type != "CERTIFICATE":
		return userError("%s holds a PEM block of the type %q: give certificates alone", field, block.Type)
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return userError("%s holds a certificate that cannot be read: %s", field, err)
	}
	return nil
}

func pemBlocks(text string) (blocks []*pem.Block, rest []byte) {
	rest = []byte(text)
	for {
		block, after := pem.Decode(rest)
		if block == nil {
			return blocks, rest
		}
		blocks, rest = append(blocks, block), after
	}
}

// samePEM tells whether two fields hold the same: line breaks around the blocks are no change.
func samePEM(a, b string) bool {
	one, _ := pemBlocks(a)
	two, _ := pemBlocks(b)
	return a == b || len(one) > 0 && slices.EqualFunc(one, two, func(x, y *pem.Block) bool { return x.Type == y.Type && bytes.Equal(x.Bytes, y.Bytes) })
}

// movedFrom names the fields by which a configuration's calls would go elsewhere than before, or be
// believed from elsewhere.
func (c *accountConfig) movedFrom(before *accountConfig) (fields []string) {
	here, _ := c.endpoint() // validate has refused what has none
	there, _ := before.endpoint()
	if c.Region != before.Region {
		fields = append(fields, "region")
	}
	if here != there && len(fields) == 0 || here != there && c.Endpoint != before.Endpoint {
		fields = append(fields, "endpoint")
	}
	if c.signature() != before.signature() {
		fields = append(fields, "signature")
	}
	if !samePEM(c.CACert, before.CACert) {
		fields = append(fields, "ca_cert")
	}
	return fields
}

// sameCredentials tells whether the engine signs in as before, but for its client certificate.
func (c *accountConfig) sameCredentials(before *accountConfig) bool {
	return c.AccessKey == before.AccessKey && c.SecretKey == before.SecretKey && c.DomainID == before.DomainID && len(c.movedFrom(before)) == 0
}

// sameCertificate tells whether it presents the same client certificate.
func (c *accountConfig) sameCertificate(before *accountConfig) bool {
	return samePEM(c.ClientCert, before.ClientCert) && samePEM(c.ClientKey, before.ClientKey)
}

// refuseStoredSecret keeps stored secrets from new addresses, and an account from half a key.
func (c *accountConfig) refuseStoredSecret(before *accountConfig, data *framework.FieldData) error {
	if before == nil || c.signIn != nil {
		return nil
	}
	moved := strings.Join(c.movedFrom(before), ", ")
	switch {
	case c.AccessKey != before.AccessKey && !stands(data, "secret_key"):
		return userError("access_key is another one, and its secret_key is not in the same write: give both%s", c.orSignIn())
	case moved == "":
		return nil
	case !stands(data, "access_key") || !stands(data, "secret_key"):
		return userError("%s would have the stored key used at an address, or under a certificate, that the write of that key did not name: "+
			"give access_key and secret_key in the same write%s", moved, c.orSignIn())
	case c.AccessKey != before.AccessKey && before.wasReplaced(c.AccessKey):
		return userError("access key %s was replaced by rotation and is not used again, and without a key that is, %s cannot be changed: "+
			"give another access_key and its secret_key in the same write%s", c.AccessKey, moved, c.orSignIn())
	}
	return nil
}

// placeSignIn has login and password go where their own write says: to its endpoint, or else to the
// public one of its region; never to a stored one.
func (c *accountConfig) placeSignIn(before *accountConfig, data *framework.FieldData) (warnings []string, err error) {
	if c.signIn == nil || before == nil || stands(data, "endpoint") {
		return nil, nil
	}
	if !stands(data, "region") {
		return nil, userError("login and password go to an address of the same write alone: give the account's endpoint (%q), or its region (%q) for the public one, with them",
			before.Endpoint, before.Region)
	}
	if c.Endpoint == "" {
		return nil, nil
	}
	c.Endpoint = ""
	return []string{"the account's endpoint was " + before.Endpoint + ", which was not in this write: login and password went to the public endpoint of the region, and the account is called there from now on"}, nil
}
