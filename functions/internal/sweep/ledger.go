// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"fmt"
	"slices"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
)

// leastLedger is how many keys a ledger must have known before its shrinking means anything.
const leastLedger = 10

// Progress is what the runs have counted of an account from its first user up to Cursor. Where one run does not reach all users, what
// a ledger has lost shows in the whole account alone.
type Progress struct {
	Cursor  string `json:"cursor"`
	Known   int    `json:"known"` // keys that the ledger knows
	Orphans int    `json:"orphans"`
	Unread  bool   `json:"unread,omitempty"` // somebody's keys could not be read
}

// plus is the progress with what a walk has counted since, up to cursor.
func (p Progress) plus(w *walk, cursor string) Progress {
	return Progress{
		Cursor: cursor, Known: p.Known + w.known, Orphans: p.Orphans + w.counts.ByClass[ClassOrphan],
		Unread: p.Unread || w.counts.UnreadUsers > 0,
	}
}

// before is the progress up to where this walk began: the last of the steps that led there. A part may be tried again: what an
// earlier attempt at it has added is left out. unbroken tells whether the steps begin with the first user.
func (w *walk) before() (steps []Progress, last Progress, unbroken bool) {
	if w.users.Start == "" {
		return nil, Progress{}, true
	}
	at := slices.IndexFunc(w.state.Progress, func(p Progress) bool { return p.Cursor == w.users.Start })
	if at < 0 {
		return nil, Progress{}, false
	}
	return w.state.Progress[:at+1], w.state.Progress[at], true
}

// doubtful says why a ledger is not believed that would make orphans by being empty, or by having lost more
// than half of its keys since the last runs over the whole account, and as many orphans show: one
// that was forged must not make a ledger doubtful from which leases have simply ended. err is one of the ledger's own.
func (w *walk) doubtful(ctx context.Context) (doubt, err error) {
	if w.job.Settings.AllowEmptyLedger {
		return nil, nil
	}
	if orphans := w.counts.ByClass[ClassOrphan]; orphans > 0 && w.known == 0 { // a part of an account may well have orphans alone
		empty, err := w.job.Ledger.Empty(ctx, w.rules.account.Name)
		if err != nil {
			return nil, fleet.LedgerError(err)
		}
		if empty {
			return fmt.Errorf("the ledger of Vault is empty, but the cloud has %d keys of this engine: see whether this is the right "+
				"mount and namespace; "+
				"if the ledger is right, set ALLOW_EMPTY_LEDGER", orphans), nil
		}
	}
	_, counted, unbroken := w.before()
	if !unbroken || w.users.Partial { // the run that comes to the last user compares
		return nil, nil
	}
	all, last := counted.plus(w, ""), w.state.LedgerKeys
	if last >= leastLedger && all.Known*2 < last && all.Orphans*2 >= last-all.Known {
		return fmt.Errorf("the ledger of Vault knows %d keys and knew %d when last seen, and %d keys would become orphans: "+
			"if the ledger is right, set ALLOW_EMPTY_LEDGER", all.Known, last, all.Orphans), nil
	}
	return nil, nil
}
