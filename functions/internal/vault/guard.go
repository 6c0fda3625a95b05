// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// maxAnswer is the most that is read of one answer, in bytes. A page of the ledger is a few
// hundred kilobytes, and the function's memory small.
const maxAnswer = 16 << 20

// guard keeps Vault's client from what it would do by itself: take the token along to wherever
// a redirect points, read an answer to its end, however long it is, repeat what is no HTTP in an error,
// and ask for a lease twice.
type guard struct {
	next http.RoundTripper
	once http.RoundTripper // with a new connection for each request
}

// RoundTrip implements http.RoundTripper.
func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := runEnded(req.Context()); err != nil {
		return nil, err
	}
	next := g.next
	if isLease(req.Context()) {
		next = g.once
	}
	var connected atomic.Bool
	resp, err := next.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})))
	if err != nil && connected.Load() { // before, an error quotes an address, a header or a certificate, and no answer
		err = transport.Unquoted(err)
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.StatusCode != http.StatusNotModified {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("VAULT_ADDR answers with a redirect (HTTP %d), which is never followed, since the token would go along: "+
			"name the address that it points to, or let standby nodes forward requests", resp.StatusCode)
	}
	resp.Body = &bounded{ReadCloser: resp.Body, left: maxAnswer}
	return resp, nil
}

// bounded is a body that fails where it is longer than an answer can be. Cut in silence, a
// list would pass for a shorter one.
type bounded struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	var one [1]byte // tells whether there is more
	if b.left <= 0 {
		p = one[:]
	} else if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left <= 0 && n > 0 {
		return 0, fmt.Errorf("the answer is longer than %d bytes, which no answer of Vault is: see VAULT_ADDR", maxAnswer)
	}
	b.left -= int64(n)
	if err != nil {
		err = transport.Unquoted(err) // one of a trailer quotes it
	}
	return n, err
}
