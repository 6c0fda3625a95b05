// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// post makes a call past the SDK's types, which know no field that is newer than they are. A
// refusal is an error; the answer's body is the API's JSON, unread.
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
		return 0, nil, noAnswer(op, err)
	}
	defer resp.Body.Close()
	answer = transport.Peek(resp)
	return resp.StatusCode, answer, c.refused(op, resp, answer)
}
