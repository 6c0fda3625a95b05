// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"crypto/rand"
	"encoding/hex"
)

const idAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// randomID returns n characters of [A-Z0-9], the alphabet of OUTSCALE's key ids and secrets. The small bias of the modulo
// does no harm to a simulation.
func randomID(n int) string {
	id := make([]byte, n)
	rand.Read(id) // crypto/rand.Read never fails
	for i, b := range id {
		id[i] = idAlphabet[int(b)%len(idAlphabet)]
	}
	return string(id)
}

// newRequestID looks like the UUID that OUTSCALE puts into every answer.
func newRequestID() string {
	b := make([]byte, 16)
	rand.Read(b)
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
