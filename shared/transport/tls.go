// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// TLS is whom a configuration trusts, and how it presents itself.
type TLS = provider.TLS

// connectTimeout bounds each of the steps to a connection.
const connectTimeout = 5 * time.Second

// An HTTP/2 connection over which nothing has come for pingAfter is asked for a sign of life, and given up
// after pingTimeout without one.
const (
	pingAfter   = 5 * time.Second
	pingTimeout = 5 * time.Second
)

// Base returns the innermost transport: TLS 1.2 or later, with verification that
// cannot be turned off.
func Base(t TLS) (*http.Transport, error) {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 64 // a burst of revokes must not open a connection a call
	// A create on a connection that has silently died is ambiguous, and costs a look at
	// the cloud: idle ones are given up early.
	base.IdleConnTimeout = 30 * time.Second
	// Before a connection stands nothing was sent, which is worth knowing soon.
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}
	base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &counted{Conn: conn}, nil
	}
	base.TLSHandshakeTimeout = connectTimeout
	// An HTTP/2 connection carries all calls at once. Where the network behind it has died, each would wait for
	// its own limit and be given the same connection again: one that is silent is asked, and dropped.
	base.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	base.OnProxyConnectResponse = connectAnswer
	base.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}

	if t.CACert != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(t.CACert)) {
			return nil, errors.New("ca_cert holds no PEM certificate")
		}
		base.TLSClientConfig.RootCAs = pool
	}
	if (t.ClientCert == "") != (t.ClientKey == "") {
		return nil, errors.New("client_cert and client_key go together: set both or neither")
	}
	if t.ClientCert != "" {
		pair, err := tls.X509KeyPair([]byte(t.ClientCert), []byte(t.ClientKey))
		if err != nil {
			return nil, fmt.Errorf("client_cert and client_key are not a PEM certificate and its key: %w", err)
		}
		base.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	return base, nil
}

// isCertificateError tells failures of the TLS handshake that happen before any
// request is written. Of malformed records only the first of a connection carries
// it (crypto/tls); a later one may follow a request.
func isCertificateError(err error) bool {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &verification) || errors.As(err, &record) && record.Conn != nil
}
