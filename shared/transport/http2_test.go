// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// http2Cloud speaks HTTP/2 frame by frame, so that it can end a call in every way that the protocol has.
type http2Cloud struct {
	url   string
	base  *http.Transport
	whole atomic.Int64  // requests that have arrived whole, and were perhaps carried out
	gone  chan struct{} // a connection was closed by both sides
	mu    sync.Mutex
	conns []net.Conn
}

// ending is how a cloud ends the nth request, from 0, that has arrived whole.
type ending func(n int64, stream uint32, framer *http2.Framer) error

func newHTTP2Cloud(t *testing.T, end ending) *http2Cloud {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS() // for its certificate
	t.Cleanup(server.Close)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: server.TLS.Certificates, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	cloud := &http2Cloud{
		url:  "https://" + listener.Addr().String() + "/api/v1/CreateAccessKey",
		base: base(t, TLS{CACert: encodePEM("CERTIFICATE", server.Certificate().Raw)}),
		gone: make(chan struct{}, 100),
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		for _, conn := range cloud.connections() {
			_ = conn.Close()
		}
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			cloud.mu.Lock()
			cloud.conns = append(cloud.conns, conn)
			cloud.mu.Unlock()
			serving.Go(func() { cloud.serve(conn, end) })
		}
	})
	return cloud
}

func (c *http2Cloud) connections() []net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.conns)
}

// serve answers one connection until it is closed.
func (c *http2Cloud) serve(conn net.Conn, end ending) {
	defer func() { _ = conn.Close(); c.gone <- struct{}{} }()
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
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = framer.WritePing(true, f.Data)
			}
		case *http2.HeadersFrame, *http2.DataFrame:
			if f.Header().Flags.Has(http2.FlagDataEndStream) { // the same bit in both
				err = end(c.whole.Add(1)-1, f.Header().StreamID, framer)
			}
		}
	}
}

// succeeds answers 200.
func succeeds(_ int64, stream uint32, framer *http2.Framer) error {
	var block bytes.Buffer
	if err := hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"}); err != nil {
		return err
	}
	return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
}

// resets ends a request with RST_STREAM.
func resets(code http2.ErrCode) ending {
	return func(_ int64, stream uint32, framer *http2.Framer) error { return framer.WriteRSTStream(stream, code) }
}

// goesAway says of every request that it was not looked at, and takes no more on this connection.
func goesAway(code http2.ErrCode) ending {
	return func(_ int64, _ uint32, framer *http2.Framer) error { return framer.WriteGoAway(0, code, nil) }
}

// firstThen ends the first request in one way and all others in another.
func firstThen(first, then ending) ending {
	return func(n int64, stream uint32, framer *http2.Framer) error {
		if n == 0 {
			return first(n, stream, framer)
		}
		return then(n, stream, framer)
	}
}

// requests are the requests of both clouds: with a body, and without one.
func requests(t *testing.T, ctx context.Context, url string) map[string]*http.Request {
	t.Helper()
	empty, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*http.Request{"with a body": newRequest(t, ctx, url), "without a body": empty}
}

// net/http repeats a request beneath this package where the server has reset its stream with PROTOCOL_ERROR, whatever was done by
// then: without a limit, a pace or a breaker.
func TestACallWhoseHTTP2StreamIsResetIsSentOnce(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeProtocol, http2.ErrCodeInternal, http2.ErrCodeCancel, http2.ErrCodeEnhanceYourCalm} {
		for _, body := range []string{"with a body", "without a body"} {
			t.Run(code.String()+", "+body, func(t *testing.T) {
				cloud := newHTTP2Cloud(t, resets(code))
				rt := chainTo(cloud.base)
				_, err := rt.RoundTrip(requests(t, t.Context(), cloud.url)[body])
				if n := cloud.whole.Load(); n != 1 {
					t.Errorf("the call was perhaps carried out %d times", n)
				}
				var notSent *NotSentError
				if err == nil || errors.As(err, &notSent) {
					t.Errorf("got %v, want one that says nothing of the call's fate", err)
				}
			})
		}
	}
}

// RFC 9113, section 8.7: what was refused with REFUSED_STREAM, and streams above the last one that GOAWAY names, were not processed.
func TestACallThatTheServerSaysItNeverLookedAtIsRepeated(t *testing.T) {
	cases := map[string]ending{
		"GOAWAY as it shuts down": goesAway(http2.ErrCodeNo),
		"REFUSED_STREAM":          resets(http2.ErrCodeRefusedStream),
	}
	for name, end := range cases {
		for _, body := range []string{"with a body", "without a body"} {
			t.Run(name+", "+body, func(t *testing.T) {
				cloud := newHTTP2Cloud(t, firstThen(end, succeeds))
				var attempts, signatures atomic.Int64
				rt := chainTo(cloud.base, func(o *Options) {
					sign := o.Sign
					o.Sign = func(req *http.Request, body []byte) error { signatures.Add(1); return sign(req, body) }
					o.Observe = func(*http.Response, error) { attempts.Add(1) }
				})
				resp, err := rt.RoundTrip(requests(t, t.Context(), cloud.url)[body])
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Fatalf("got %v and %v", resp, err)
				}
				if cloud.whole.Load() != 2 || attempts.Load() != 2 || signatures.Load() != 2 {
					t.Errorf("%d requests arrived in %d attempts with %d signatures, want two of each: each attempt is paced and signed anew",
						cloud.whole.Load(), attempts.Load(), signatures.Load())
				}
			})
		}
	}
}

func TestACallThatTheServerNeverLooksAtFailsAsOneThatWasNotSent(t *testing.T) {
	cloud := newHTTP2Cloud(t, resets(http2.ErrCodeRefusedStream))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := chainTo(cloud.base).RoundTrip(newRequest(t, ctx, cloud.url))
	var notSent *NotSentError
	if !errors.As(err, &notSent) || !strings.Contains(err.Error(), "REFUSED_STREAM") {
		t.Errorf("got %v, want one that says that nothing was done, and why", err)
	}
	if n := cloud.whole.Load(); n < 2 || n > 20 {
		t.Errorf("it was sent %d times in two seconds", n)
	}
}

// net/http's own exception: a server that ends a new connection with an error would do so again.
func TestAGoAwayWithAnErrorSaysNothingOfTheFirstCallOfAConnection(t *testing.T) {
	cloud := newHTTP2Cloud(t, goesAway(http2.ErrCodeInternal))
	_, err := chainTo(cloud.base).RoundTrip(newRequest(t, t.Context(), cloud.url))
	var notSent *NotSentError
	if err == nil || errors.As(err, &notSent) || cloud.whole.Load() != 1 {
		t.Errorf("got %v after %d requests", err, cloud.whole.Load())
	}
}

// net/http finds that out when it has chosen the connection, and would send the call over another.
func TestACallWhoseConnectionIsClosedBeforeItBeginsIsRepeated(t *testing.T) {
	cloud := newHTTP2Cloud(t, succeeds)
	var attempts atomic.Int64
	rt := chainTo(cloud.base, func(o *Options) { o.Observe = func(*http.Response, error) { attempts.Add(1) } })
	if _, err := rt.RoundTrip(newRequest(t, t.Context(), cloud.url)); err != nil {
		t.Fatal(err)
	}
	first, ok := cloud.connections()[0].(*tls.Conn)
	if !ok {
		t.Fatal("no TLS")
	}
	var once sync.Once
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		once.Do(func() {
			if err := first.CloseWrite(); err != nil {
				t.Error(err)
			}
			<-cloud.gone
		})
	}})
	if _, err := rt.RoundTrip(newRequest(t, ctx, cloud.url)); err != nil {
		t.Errorf("got %v", err)
	}
	if attempts.Load() != 3 || cloud.whole.Load() != 2 {
		t.Errorf("%d attempts and %d requests, want three and two", attempts.Load(), cloud.whole.Load())
	}
}
