// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import "testing"

// A user was renamed after its key was leased: the ledger has the former name.
func TestALeaseOfARenamedUserIsFoundInTheLedger(t *testing.T) {
	w := newWorld(t)
	id := w.lease("app-before")
	w.lease("other")
	w.ledger.entries[0].User = "app"
	_, found := w.mustRun(t)
	mustBeClass(t, found[id], ClassLeased, ActionKeep)
}
