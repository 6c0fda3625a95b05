// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"strconv"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// eventPrefix begins the type of every event. What follows are the names that other
// engines send too, and that operators' tools watch for.
const eventPrefix = "cloudkeys/"

const (
	eventConfigWrite  = "config-write"
	eventConfigDelete = "config-delete"
	eventRoleWrite    = "role-write"
	eventRoleDelete   = "role-delete"
	eventCreds        = "creds-create"
	eventKeyDelete    = "key-delete"
	eventRotateRoot   = "rotate-root"
	eventRotate       = "rotate"
	eventStaticWrite  = "static-role-write"
	eventStaticDelete = "static-role-delete"
	eventTidy         = "tidy"
	eventStaticOff    = "static-key-switched-off"
	eventSetRight     = "key-set-right"

	eventFailed = "-fail" // after the name of what failed
)

// eventBudget is how long an event may take to be sent.
const eventBudget = time.Second

// event is one thing that happened. It holds names and ids, never a secret.
type event struct {
	operation string
	name      string // of the account, role or key
	path      string // that was called
	dataPath  string // that shows what has changed; empty: path
	modified  bool
}

// send tells the event bus. Its error is ignored: servers without events answer with
// one (OpenBao does), and nobody's request may fail, or wait long, for it.
func (b *backend) send(ctx context.Context, e event) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eventBudget)
	defer cancel()
	dataPath := e.dataPath
	if dataPath == "" {
		dataPath = e.path
	}
	_ = b.safely("an event", func() error {
		return logical.SendEvent(ctx, b, eventPrefix+e.operation, logical.EventMetadataPath, e.path, logical.EventMetadataDataPath,
			dataPath, logical.EventMetadataOperation, e.operation, logical.EventMetadataModified, strconv.FormatBool(e.modified),
			"name", e.name)
	})
}

// announced sends an event when an operation has succeeded. The field names what it
// was about.
func (b *backend) announced(operation, field string, run framework.OperationFunc) framework.OperationFunc {
	return func(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
		resp, err := run(ctx, req, data)
		if err == nil && !resp.IsError() {
			name, _ := data.Get(field).(string)
			b.send(ctx, event{operation: operation, name: name, path: req.Path, modified: true})
		}
		return resp, err
	}
}

// announceRotation tells of a rotation, by hand or by itself, and of one that failed.
func (b *backend) announceRotation(ctx context.Context, operation, name, path, dataPath string, err error) {
	e := event{operation: operation, name: name, path: path, dataPath: dataPath, modified: err == nil}
	if err != nil {
		e.operation += eventFailed
	}
	b.send(ctx, e)
}

// announcedCreds does so for a lease, and when it fails. The data path is the key's
// entry in the ledger: reading the path that was called would lease another key.
func (b *backend) announcedCreds(run framework.OperationFunc) framework.OperationFunc {
	return func(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
		resp, err := run(ctx, req, data)
		e := event{operation: eventCreds + eventFailed, name: data.Get("role").(string), path: req.Path}
		if err == nil && !resp.IsError() {
			id, _ := resp.Data["access_key"].(string)
			e.operation, e.dataPath, e.modified = eventCreds, "keys/"+id, true
			if _, session := resp.Data["security_token"]; session { // which no ledger knows
				e.dataPath = rolePrefix + e.name
			}
		}
		go b.send(ctx, e) // nobody who waits for a key should wait for the news of it
		return resp, err
	}
}
