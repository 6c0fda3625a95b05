// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// HandleRequest looks at the node before it does what the server calls by itself: periodic work and rollback, and the renewals
// and revocations of leases. A standby of OpenBao runs the rollback manager, too, on a storage that lags behind the leader's, or,
// while it is cut off from the leader and not from the cloud, stands still: it would take a key whose request has succeeded since
// for a leftover. Paths say for themselves what a standby forwards.
func (b *backend) HandleRequest(ctx context.Context, req *logical.Request) (resp *logical.Response, err error) {
	defer b.recovered(string(req.Operation)+" of "+req.Path, &err)
	switch req.Operation {
	case logical.RollbackOperation:
		if !b.tendsLocalStorage() {
			b.ledger.Forget("") // what is known of the ledger is the active node's alone
			return nil, nil     // which does it
		}
	case logical.RenewOperation, logical.RevokeOperation:
		if !b.tendsLocalStorage() {
			return nil, logical.ErrReadOnly // which has the server send the request to the active node
		}
	}
	defer b.storeHolds(ctx, req.Storage)
	return b.Backend.HandleRequest(ctx, req)
}

// tendsLocalStorage tells whether this node looks after leases, ledger and policies: the active one of each cluster, performance
// secondaries included.
func (b *backend) tendsLocalStorage() bool {
	state := b.System().ReplicationState()
	return !state.HasState(consts.ReplicationPerformanceStandby | consts.ReplicationDRSecondary)
}
