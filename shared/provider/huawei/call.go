// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// idPattern is what may stand for an id in a path. An empty one would turn the deletion of one key
// into a call on all of them, and one with slashes or of points alone would be another path. What
// ids look like is the cloud's affair: lists are not held to it.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// call is one call of the API.
type call struct {
	op     string // the API's name of the call
	method string
	path   string   // with {} where an id belongs
	ids    []string // in the order of the path
	query  url.Values
	body   any
	want   int // the one status that means success

	repeatable bool // changes nothing that could be found or cleaned up
}

// harmless tells that nobody needs to know whether the call was carried out.
func (c call) harmless() bool { return c.repeatable || c.method == http.MethodGet }

// do makes a call in the account's name and decodes its answer; a nil out decodes
// nothing. Calls signed with an access key name the account, as the API's guide demands
// for services that are not bound to a region (Huawei Cloud, API Request Signing Guide).
func (c *Client) do(ctx context.Context, call call, out any) error {
	domain, err := c.domainID(ctx)
	if err != nil {
		return err
	}
	return c.send(ctx, domain, call, out)
}

// send makes a call in the name of an account; empty: of none, to find it out.
func (c *Client) send(ctx context.Context, domain string, call call, out any) error {
	req, err := c.request(ctx, domain, call)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return transport.NoAnswer(call.op, call.harmless(), err)
	}
	defer resp.Body.Close()
	body := transport.Peek(resp)
	if resp.StatusCode != call.want {
		return c.fault(call, resp, body)
	}
	if out == nil {
		return nil
	}
	// The decoder's own error is dropped: it may quote the answer, and with it a secret key.
	if err := json.Unmarshal(body, out); err != nil {
		return unreadable(call, resp.StatusCode, "the answer could not be read")
	}
	return nil
}

func (c *Client) request(ctx context.Context, domain string, call call) (*http.Request, error) {
	path := call.path
	for _, id := range call.ids {
		if !idPattern.MatchString(id) {
			return nil, &provider.Error{Kind: provider.KindInvalid, Op: call.op, Details: fmt.Sprintf("%.140q is not an id: nothing was sent", id)}
		}
		path = strings.Replace(path, "{}", id, 1)
	}
	var body io.Reader
	if call.body != nil {
		encoded, err := json.Marshal(call.body)
		if err != nil {
			return nil, &provider.Error{Kind: provider.KindInvalid, Op: call.op, Details: "the request cannot be written as JSON"}
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, call.method, c.endpoint+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", call.op, err)
	}
	req.URL.RawQuery = canonicalQuery(call.query) // as it is signed: url.Values would write a space as a plus sign
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json;charset=utf8")
	}
	if domain != "" {
		req.Header.Set(headerDomain, domain)
	}
	return req, nil
}
