// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// base returns the innermost transport, closed at the end of the test.
func base(t *testing.T, settings TLS) *http.Transport {
	t.Helper()
	transport, err := Base(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// newCertificate returns a self-signed client certificate and its key.
func newCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encodePEM("CERTIFICATE", der), encodePEM("PRIVATE KEY", keyDER)
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// startTLS serves over TLS and returns the address and the server's certificate.
func startTLS(t *testing.T, config *tls.Config) (url, ca string) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
	}))
	server.TLS = config
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // failed handshakes are wanted
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, encodePEM("CERTIFICATE", server.Certificate().Raw)
}

func TestBaseRefusesWhatItCannotUse(t *testing.T) {
	certificate, key := newCertificate(t)
	_, foreignKey := newCertificate(t)
	cases := map[string]struct {
		settings TLS
		want     string
	}{
		"an authority that is no PEM":            {TLS{CACert: "rubbish"}, "ca_cert holds no PEM certificate"},
		"a key for an authority":                 {TLS{CACert: key}, "ca_cert holds no PEM certificate"},
		"a client certificate without its key":   {TLS{ClientCert: certificate}, "go together"},
		"a client key without its certificate":   {TLS{ClientKey: key}, "go together"},
		"a client certificate that is no PEM":    {TLS{ClientCert: "rubbish", ClientKey: key}, "not a PEM certificate"},
		"a client key that is no PEM":            {TLS{ClientCert: certificate, ClientKey: "rubbish"}, "not a PEM certificate"},
		"a client key of another certificate":    {TLS{ClientCert: certificate, ClientKey: foreignKey}, "not a PEM certificate"},
		"a certificate and its key interchanged": {TLS{ClientCert: key, ClientKey: certificate}, "not a PEM certificate"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Base(test.settings)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			for line := range strings.Lines(key + foreignKey) {
				if len(line) > 40 && strings.Contains(err.Error(), strings.TrimSpace(line)) {
					t.Errorf("the error shows a private key: %v", err)
				}
			}
		})
	}
}

func TestVerificationCannotBeTurnedOff(t *testing.T) {
	certificate, key := newCertificate(t)
	for _, settings := range []TLS{{}, {CACert: certificate}, {ClientCert: certificate, ClientKey: key}} {
		config := base(t, settings).TLSClientConfig
		if config.InsecureSkipVerify || config.MinVersion != tls.VersionTLS12 {
			t.Errorf("got InsecureSkipVerify %v and MinVersion %x", config.InsecureSkipVerify, config.MinVersion)
		}
	}
}

func TestTLSWithAServer(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	url, ca := startTLS(t, nil)
	oldURL, oldCA := startTLS(t, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	certificate, key := newCertificate(t)
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM([]byte(certificate))
	strictURL, strictCA := startTLS(t, &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients})

	cases := map[string]struct {
		url      string
		settings TLS
		works    bool
		notSent  bool
	}{
		"the configured authority is trusted":              {url: url, settings: TLS{CACert: ca}, works: true},
		"an unknown authority is not":                      {url: url, notSent: true},
		"another authority is not":                         {url: url, settings: TLS{CACert: certificate}, notSent: true},
		"a certificate of another host is not":             {url: strings.Replace(url, "127.0.0.1", "localhost", 1), settings: TLS{CACert: ca}, notSent: true},
		"TLS 1.1 is too old":                               {url: oldURL, settings: TLS{CACert: oldCA}, notSent: true},
		"a server without TLS is found out":                {url: strings.Replace(plain.URL, "http://", "https://", 1), notSent: true},
		"a client certificate is presented":                {url: strictURL, settings: TLS{CACert: strictCA, ClientCert: certificate, ClientKey: key}, works: true},
		"a call without the client certificate is refused": {url: strictURL, settings: TLS{CACert: strictCA}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			rt := chainTo(base(t, test.settings))
			resp, err := rt.RoundTrip(newRequest(t, t.Context(), test.url))
			if test.works {
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Fatalf("got %v", err)
				}
				return
			}
			var notSent *NotSentError
			if err == nil || errors.As(err, &notSent) != test.notSent {
				t.Errorf("got error %v; known as not sent: want %v", err, test.notSent)
			}
		})
	}
}
