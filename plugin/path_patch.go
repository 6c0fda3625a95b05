// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// patches is the PATCH of an entry, a JSON merge patch (RFC 7396): fields that are
// given change, null resets to the default, others stay. A write keeps what it is
// not given as well, so a patch is a write whose entry must exist and in which null
// has its meaning; it is judged, verified and answered by the same code.
//
// framework.HandlePatchOperation is not used: it wants the whole entry, secrets
// included, as a map, and reads null as the field type's zero, or not at all.
func (b *backend) patches(summary string, exists framework.ExistenceFunc, write framework.OperationFunc, answer map[string]*framework.FieldSchema) *framework.PathOperation {
	return &framework.PathOperation{
		Callback: func(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
			there, err := exists(ctx, req, data)
			if err != nil {
				return nil, err
			}
			if !there {
				return nil, logical.CodedError(http.StatusNotFound, req.Path+" does not exist: write it first")
			}
			resetNulls(data)
			return write(ctx, req, data)
		},
		Summary:                     summary,
		Responses:                   answers(answer),
		ForwardPerformanceStandby:   true,
		ForwardPerformanceSecondary: true,
	}
}

// resetNulls replaces each null by its field's default.
func resetNulls(data *framework.FieldData) {
	for name, value := range data.Raw {
		if schema, known := data.Schema[name]; known && value == nil {
			data.Raw[name] = schema.DefaultOrZero()
		}
	}
}
