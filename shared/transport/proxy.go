// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// ProxyError is a proxy that did not let a call through. The cloud has not seen it.
type ProxyError struct {
	Proxy  string // its host and port: its address may hold a password
	Status int    // what it answered to CONNECT
}

// Error says who has refused what, and what to do.
func (e *ProxyError) Error() string {
	said := fmt.Sprintf("the proxy %s answers %d %s", e.Proxy, e.Status, http.StatusText(e.Status))
	switch {
	case e.Status == http.StatusProxyAuthRequired:
		return said + ": it wants a login, which HTTPS_PROXY can name as in http://user:password@host:port"
	case e.busy():
		return said + ": it cannot reach the cloud now"
	default:
		return said + ": it does not let calls to this address through; name those that need no proxy in NO_PROXY"
	}
}

// busy tells that the proxy may let the call through in a moment.
func (e *ProxyError) busy() bool {
	switch e.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	default:
		return false
	}
}

// connectAnswer makes a ProxyError of a proxy's refusal, of which net/http would repeat the text alone.
func connectAnswer(_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return &ProxyError{Proxy: proxy.Host, Status: answer.StatusCode}
}
