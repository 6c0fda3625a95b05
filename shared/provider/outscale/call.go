// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// Requests of the SDK without its MarshalJSON, which writes a request by way of a map: that costs
// as much as the signature. These are the calls that leases make.
type (
	createAccessKeyRequest osc.CreateAccessKeyRequest
	updateAccessKeyRequest osc.UpdateAccessKeyRequest
	deleteAccessKeyRequest osc.DeleteAccessKeyRequest
)

// call makes a call of the API, with a request and into an answer that are the SDK's models. An
// answer without a body leaves it as it is.
func (c *Client) call(ctx context.Context, op string, request, answer any) (status int, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return 0, fmt.Errorf("%s: writing the request as JSON: %w", op, err)
	}
	status, said, err := c.post(ctx, op, body)
	if err != nil {
		return status, err
	}
	// The decoder's own error is dropped: it may quote the answer, and with it a secret key.
	if len(said) > 0 && json.Unmarshal(said, answer) != nil {
		return status, unreadable(op, status, "the answer could not be read")
	}
	return status, nil
}

// act is call where the answer holds nothing to be read but what every answer of the API has.
// Without that it is no proof that the call arrived: gateways answer so.
func (c *Client) act(ctx context.Context, op string, request any) error {
	var answer struct{ ResponseContext *osc.ResponseContext }
	status, err := c.call(ctx, op, request, &answer)
	if err == nil && answer.ResponseContext == nil {
		err = unreadable(op, status, "the answer is empty")
	}
	return err
}

// post makes a call whose request and answer are the API's JSON. A refusal is an error.
func (c *Client) post(ctx context.Context, op string, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint+"/"+op, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("%s: %w", op, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.userAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, transport.NoAnswer(op, isRead(op), err)
	}
	defer resp.Body.Close()
	answer = transport.Peek(resp)
	return resp.StatusCode, answer, c.refused(op, resp, answer)
}
