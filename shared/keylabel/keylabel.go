// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package keylabel builds and reads the label that stands on every access key
// and every user that the secrets engine makes. The label names the engine's instance, so that
// two Vaults on one cloud account never take each other's keys for orphans.
package keylabel

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
)

// Kind tells what a key was made for.
type Kind string

const (
	// KindLease is a key that ends with a Vault lease.
	KindLease Kind = "lease"
	// KindRoot is the engine's own key, which it replaces by itself.
	KindRoot Kind = "root"
	// KindStatic is the key of a static role.
	KindStatic Kind = "static"
	// KindUser is a user that was made for one Vault lease, and that user's key.
	KindUser Kind = "user"
)

var kinds = []Kind{KindLease, KindRoot, KindStatic, KindUser}

const (
	prefix = "cloudkeys"
	// idLength is 80 random bits in base32: no two instances, and no two keys of
	// one instance, will ever share an id.
	idLength = 16
)

// Label is what stands on a key. Its text has only letters, digits and hyphens,
// since neither cloud documents the alphabet of its tags and descriptions.
type Label struct {
	Instance string // the secrets engine that made the key
	Kind     Kind
	Nonce    string // the request that made the key
}

// NewID returns a random id for an instance or a nonce.
func NewID() string {
	return rand.Text()[:idLength]
}

// New returns the label of a new key, with a fresh nonce.
func New(instance string, kind Kind) Label {
	return Label{Instance: instance, Kind: kind, Nonce: NewID()}
}

// String is the text that is written on the key:
// cloudkeys-<instance>-<kind>-<nonce>.
func (l Label) String() string {
	return strings.Join([]string{prefix, l.Instance, string(l.Kind), l.Nonce}, "-")
}

// handedOver begins the text on a key that this software has made and given away.
const handedOver = "handed-over-"

// HandedOver is the text on a key from the moment on that it is somebody else's: it says
// where the key came from, and Parse does not take it for a label. A text that is one
// already stays.
func HandedOver(label string) string {
	return handedOver + strings.TrimPrefix(label, handedOver)
}

// Parse reads a label from the text on a key. An error means that the key was
// not made by this software: it is somebody else's and not to be touched.
func Parse(text string) (Label, error) {
	parts := strings.Split(text, "-")
	if len(parts) != 4 || parts[0] != prefix {
		return Label{}, fmt.Errorf("%q is not a label of cloudkeys", text)
	}
	l := Label{Instance: parts[1], Kind: Kind(parts[2]), Nonce: parts[3]}
	if !validID(l.Instance) || !validID(l.Nonce) || !slices.Contains(kinds, l.Kind) {
		return Label{}, fmt.Errorf("%q is not a label of cloudkeys", text)
	}
	return l, nil
}

// Path is the label as the last four parts of a user's path:
// cloudkeys/<instance>/<kind>/<nonce>/. OUTSCALE's users have no tag, and their paths
// take letters, digits and underscores only (CreateUser), so a hyphen becomes a slash.
// All users of one instance stand under one prefix.
func (l Label) Path() string {
	return strings.ReplaceAll(l.String(), "-", "/") + "/"
}

// FromPath reads the label that Path has put at the end of a user's path. An error
// means that the user was not made by this software, or that somebody has moved it:
// it is not to be touched.
func FromPath(path string) (Label, error) {
	parts := strings.Split(strings.TrimSuffix(path, "/"), "/")
	if !strings.HasPrefix(path, "/") || !strings.HasSuffix(path, "/") || len(parts) < 5 {
		return Label{}, fmt.Errorf("the path %q holds no label of cloudkeys", path)
	}
	return Parse(strings.Join(parts[len(parts)-4:], "-"))
}

// validID accepts what NewID makes: base32 letters and digits.
func validID(id string) bool {
	if len(id) != idLength {
		return false
	}
	return strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}
