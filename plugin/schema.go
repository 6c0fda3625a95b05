// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// answers is the Responses schema of an operation that answers 200 with fields.
func answers(fields map[string]*framework.FieldSchema) map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusOK: {{Description: "OK", Fields: fields}}}
}

// answersNothing is that of an operation that answers 204, or 200 with warnings.
func answersNothing() map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusNoContent: {{Description: "No Content"}}}
}

// answersList is that of a list.
func answersList() map[int][]framework.Response {
	return answers(map[string]*framework.FieldSchema{
		"keys":     {Type: framework.TypeStringSlice, Description: "Names, in order; absent where there are none."},
		"key_info": {Type: framework.TypeMap, Description: "What is known of each name."},
	})
}

// warn puts warnings into a response; nil where there are none.
func warn(warnings []string) *logical.Response {
	if len(warnings) == 0 {
		return nil
	}
	resp := &logical.Response{}
	for _, w := range warnings {
		resp.AddWarning(w)
	}
	return resp
}

// decided is the answer of a write: what follows from it, with what somebody should know of.
func decided(data map[string]any, warnings []string) *logical.Response {
	resp := &logical.Response{Data: data}
	for _, w := range warnings {
		resp.AddWarning(w)
	}
	return resp
}

// some keeps what a write answers of what a read does.
func some(all map[string]any, names []string) map[string]any {
	kept := map[string]any{}
	for _, name := range names {
		kept[name] = all[name]
	}
	return kept
}

// decisions is the schema of a write's answer. None of it is required: a write that cannot be read back is written all the same.
func decisions(all map[string]*framework.FieldSchema, names []string) map[string]*framework.FieldSchema {
	fields := map[string]*framework.FieldSchema{}
	for _, name := range names {
		field := *all[name]
		field.Required = false
		fields[name] = &field
	}
	return fields
}

// shown is a list as it is answered: an empty one reads [], and not <nil>.
func shown(list []string) []string { return append([]string{}, list...) }

// seconds is how durations are shown: whole seconds, like other engines.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// takeSeconds sets a duration from a field, where it was given.
func takeSeconds(data *framework.FieldData, field string, into *time.Duration) {
	if raw, ok := data.GetOk(field); ok {
		*into = time.Duration(raw.(int)) * time.Second
	}
}

// take sets a value from a field of the same type, where it was given.
func take[T any](data *framework.FieldData, field string, into *T) {
	if raw, ok := data.GetOk(field); ok {
		if value, ok := raw.(T); ok {
			*into = value
		}
	}
}

// showTime writes a time as RFC 3339 in UTC; empty for none.
func showTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// pagingFields are those of every list.
func pagingFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"after": {Type: framework.TypeString, Query: true, Description: "Return names after this one."},
		"limit": {Type: framework.TypeInt, Query: true, Description: "Return this many names at most; 0: all."},
	}
}

// page cuts a sorted list to what after and limit ask for.
func page(names []string, data *framework.FieldData) []string {
	after := data.Get("after").(string)
	first, found := slices.BinarySearch(names, after)
	if found {
		first++
	}
	names = names[first:]
	if limit := data.Get("limit").(int); limit > 0 && limit < len(names) {
		names = names[:limit]
	}
	return names
}

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
