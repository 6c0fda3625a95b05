// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
)

// NotSentError is the failure of a call that certainly never reached the cloud, or that the cloud has not looked at, so that it changed
// nothing there.
type NotSentError struct {
	Err error

	connects bool // there was no connection that took it, and there may be one in a moment
}

// Error implements error.
func (e *NotSentError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *NotSentError) Unwrap() error { return e.Err }

// sending watches whether one attempt got a connection: before that, nothing of it can have been
// sent. What the error looks like says less: a proxy that refuses, and a handshake that is cut, end
// with the errors of a connection that died in the middle of a call.
type sending struct{ asked, connected atomic.Bool }

// watch has net/http tell of the attempt's connection. It may still do so when the attempt is over.
func (s *sending) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { s.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { s.connected.Store(true) },
	})
}

// failure says of an error whether the attempt was sent. A RoundTripper that is not net/http's tells
// nothing of connections: then the error's type must do, and errs on the side of "may have been sent",
// which costs one look at the cloud and not a lost key.
func (s *sending) failure(err error) error {
	neverSent := s.asked.Load() && !s.connected.Load() || !s.asked.Load() && neverConnected(err)
	switch {
	case neverSent:
		return &NotSentError{Err: err, connects: mayConnect(err)}
	case neverLookedAt(err):
		return &NotSentError{Err: err, connects: true}
	default:
		return Unquoted(err)
	}
}

// neverLookedAt tells that an HTTP/2 server has said that it did not look at a call, as each does that shuts down (RFC 9113, section 8.7),
// or that the connection was closed before the call began. net/http repeats such calls itself, were it not for what signing does, and has
// no types for its errors then.
func neverLookedAt(err error) bool {
	said := err.Error()
	cause, refused := strings.CutPrefix(said, "http2: Transport: cannot retry err [")
	return refused && (strings.Contains(cause, "graceful shutdown GOAWAY]") || strings.Contains(cause, "; REFUSED_STREAM")) ||
		said == "net/http: cannot rewind body after connection loss" // no request for which it wants to rewind a body was written
}

// neverConnected tells errors from before a connection stood (name look-up,
// connection refused, proxy, certificate) from those after.
func neverConnected(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect") {
		return true
	}
	return isCertificateError(err)
}

// mayConnect tells that trying again may help. It does not where certificates or a proxy's rules are
// in the way.
func mayConnect(err error) bool {
	var proxy *ProxyError
	var op *net.OpError
	switch {
	case errors.As(err, &proxy):
		return proxy.busy()
	case errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error"): // TLS alerts (crypto/tls)
		return false
	default:
		return !isCertificateError(err)
	}
}
