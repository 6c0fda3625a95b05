// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package clouds

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// checkPEM reads the PEM fields: what a client would be made of must be what was written.
func checkPEM(t provider.TLS) error {
	for _, one := range []struct{ field, text string }{{"ca_cert", t.CACert}, {"client_cert", t.ClientCert}, {"client_key", t.ClientKey}} {
		if one.text == "" {
			continue
		}
		field := one.field
		blocks, rest := pemBlocks(one.text)
		switch {
		case len(blocks) == 0:
			return fmt.Errorf("%s holds no PEM block, which begins with -----BEGIN: give the file's content, as in %s=@file.pem", field, field)
		case len(bytes.TrimSpace(rest)) > 0:
			return fmt.Errorf("%s has something after its last PEM block that is none: write the blocks alone", field)
		}
		for _, block := range blocks {
			if err := checkPEMBlock(field, block); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkPEMBlock(field string, block *pem.Block) error {
	switch {
	case field == "client_key" && !strings.HasSuffix(block.Type, "PRIVATE KEY") && block.Type != "EC PARAMETERS":
		return fmt.Errorf("client_key holds a PEM block of the type %q: give the private key alone", block.Type)
	case field == "client_key":
		return nil // the pair is tried as a whole
	case block.Type != "CERTIFICATE":
		return fmt.Errorf("%s holds a PEM block of the type %q: give certificates alone", field, block.Type)
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return fmt.Errorf("%s holds a certificate that cannot be read: %s", field, err)
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

// SamePEM tells whether two fields hold the same: line breaks around the blocks are no change.
func SamePEM(a, b string) bool {
	one, _ := pemBlocks(a)
	two, _ := pemBlocks(b)
	return a == b ||
		len(one) > 0 && slices.EqualFunc(one, two, func(x, y *pem.Block) bool { return x.Type == y.Type && bytes.Equal(x.Bytes, y.Bytes) })
}
