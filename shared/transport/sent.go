// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
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

// NoAnswer classifies a call that ended without an answer; harmless tells that nobody needs to know whether it was carried out.
func NoAnswer(op string, harmless bool, err error) error {
	e := &provider.Error{Kind: provider.KindAmbiguous, Op: op, Err: err}
	var notSent *NotSentError
	var held *BreakerOpenError
	switch {
	case errors.As(err, &held):
		e.Kind = held.Why.Kind()
	case errors.As(err, &notSent), harmless:
		e.Kind = provider.KindUnreachable
	}
	return e
}

// sending watches whether one attempt got a connection, and whether it was written to that: before, nothing of it
// can have been sent. What the error looks like says less: a proxy that refuses, a handshake that is cut, and a
// connection that had died before it was used, end with the errors of one that died in the middle of a call.
type sending struct {
	asked, connected atomic.Bool
	given            atomic.Pointer[givenConn] // nil: nobody counts what is written to its connection for it alone
}

// givenConn is a connection, and what had been written to it when an attempt was given it.
type givenConn struct {
	conn   *counted
	before int64
}

// watch has net/http tell of the attempt's connection. It may still do so when the attempt is over.
func (s *sending) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { s.asked.Store(true) },
		GotConn: func(info httptrace.GotConnInfo) {
			var given *givenConn
			if conn := countedBeneath(info.Conn); conn != nil {
				given = &givenConn{conn, conn.written.Load()}
			}
			s.given.Store(given)
			s.connected.Store(true)
		},
	})
}

// failure says of an error whether the attempt was sent. A RoundTripper that is not net/http's tells
// nothing of connections: then the error's type must do, and errs on the side of "may have been sent",
// which costs one look at the cloud and not a lost key.
func (s *sending) failure(err error) error {
	neverSent := s.asked.Load() && (!s.connected.Load() || s.unwritten()) || !s.asked.Load() && NeverConnected(err)
	switch {
	case neverSent:
		return &NotSentError{Err: err, connects: mayConnect(err)}
	case neverLookedAt(err):
		return &NotSentError{Err: err, connects: true}
	default:
		return Unquoted(err)
	}
}

// shortestCall is less than any signed call is long, in bytes, and more than the alert with which TLS closes a connection.
const shortestCall = 80

// unwritten tells that the server cannot have the attempt whole, since too little was written for that. net/http writes nothing of
// an attempt over HTTP/1 any more when it has failed, and would repeat such a one itself, were it not for what signing does.
func (s *sending) unwritten() bool {
	given := s.given.Load()
	return given != nil && given.conn.written.Load()-given.before < shortestCall
}

// counted is a connection that counts the bytes that are written to it.
type counted struct {
	net.Conn
	written atomic.Int64
}

// Write implements net.Conn.
func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}

// countedBeneath is what counts a connection's bytes beneath TLS; nil where nothing does, and for HTTP/2, whose connections carry
// several calls, and may still write one that was given up.
func countedBeneath(conn net.Conn) *counted {
	for {
		encrypted, ok := conn.(*tls.Conn)
		if !ok {
			break
		}
		if encrypted.ConnectionState().NegotiatedProtocol == "h2" {
			return nil
		}
		conn = encrypted.NetConn()
	}
	c, _ := conn.(*counted)
	return c
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

// NeverConnected tells errors from before a connection stood (name look-up,
// connection refused, proxy, certificate) from those after.
func NeverConnected(err error) bool {
	var op *net.OpError // the outermost, which tells of a proxy where the dial of one failed
	if errors.As(err, &op) && slices.Contains([]string{"dial", "proxyconnect", "socks connect"}, op.Op) {
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
