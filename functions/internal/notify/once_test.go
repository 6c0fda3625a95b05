// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package notify

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// resetting starts a gateway that resets the stream of the first message that has arrived whole, and accepts the others. The default
// transport trusts it for the test.
func resetting(t *testing.T, code http2.ErrCode) (address string, arrived *atomic.Int64) {
	t.Helper()
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS() // for its certificate
	t.Cleanup(certified.Close)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	former := http.DefaultTransport
	trusting := former.(*http.Transport).Clone()
	trusting.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	trusting.TLSClientConfig.RootCAs.AddCert(certified.Certificate())
	http.DefaultTransport = trusting
	arrived = &atomic.Int64{}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		http.DefaultTransport = former
		trusting.CloseIdleConnections()
		_ = listener.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serve(conn, code, arrived) })
		}
	})
	return "https://" + listener.Addr().String(), arrived
}

// serve answers one connection until the client closes it.
func serve(conn net.Conn, code http2.ErrCode, arrived *atomic.Int64) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	err := framer.WriteSettings()
	for err == nil {
		var frame http2.Frame
		if frame, err = framer.ReadFrame(); err != nil {
			return
		}
		stream := frame.Header().StreamID
		_, settings := frame.(*http2.SettingsFrame)
		switch {
		case settings && frame.Header().Flags == 0:
			err = framer.WriteSettingsAck()
		case stream == 0 || !frame.Header().Flags.Has(http2.FlagDataEndStream):
		case arrived.Add(1) == 1:
			err = framer.WriteRSTStream(stream, code)
		default:
			var block bytes.Buffer
			if err = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"}); err == nil {
				err = framer.WriteHeaders(http2.HeadersFrameParam{
					StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true,
				})
			}
		}
	}
}

// Over HTTP/2, net/http repeats a request whose body it can have again, whatever was done by then: the owner would be told as often.
func TestAMessageWhoseStreamIsResetIsSentOnce(t *testing.T) {
	cases := map[string]struct {
		target string // empty: the gateway itself
		code   http2.ErrCode
	}{
		"to a webhook, by an error":      {"", http2.ErrCodeProtocol},
		"to a webhook, by a refusal":     {"", http2.ErrCodeRefusedStream},
		"to a topic of SNS, by an error": {"arn:aws:sns:eu-central-1:123456789012:keys", http2.ErrCodeProtocol},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			address, arrived := resetting(t, test.code)
			target := test.target
			if target == "" {
				target = address
			}
			env := map[string]string{"AWS_ENDPOINT_URL_SNS": address, "AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK"}
			err := To(target, func(name string) string { return env[name] })(t.Context(), message)
			if err == nil || arrived.Load() != 1 {
				t.Errorf("the message was sent %d times, with the error %v", arrived.Load(), err)
			}
		})
	}
}
