// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"
)

// tlsServer is a cloud behind TLS, and a base that trusts it.
func tlsServer(t *testing.T, handler http.HandlerFunc) (*httptest.Server, *http.Transport) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	b := base(t, TLS{CACert: string(authority)})
	t.Cleanup(b.CloseIdleConnections)
	return server, b
}

// proxyServer answers CONNECT with these statuses in turn, the last one for ever; 200 lets the call through.
func proxyServer(t *testing.T, statuses ...int) (*url.URL, *atomic.Int64) {
	t.Helper()
	var calls atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := statuses[min(int(calls.Add(1)), len(statuses))-1]
		if status != http.StatusOK {
			w.Header().Set("Proxy-Authenticate", `Basic realm="x"`)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `<html>"no"</html>`)
			return
		}
		cloud, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(cloud, client); _ = cloud.Close() }()
		go func() { _, _ = io.Copy(client, cloud); _ = client.Close() }()
	}))
	t.Cleanup(proxy.Close)
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword("me", "hunter2")
	return address, &calls
}

func TestAProxysRefusalIsNamedAndNothingWasSent(t *testing.T) {
	cases := map[string]struct {
		statuses []int
		calls    int64  // 0: until its time is up
		says     string // empty: the call comes through
	}{
		"busy for a moment":        {[]int{503, 502, 504, 200}, 4, ""},
		"busy for long":            {[]int{503}, 0, "answers 503 Service Unavailable: it cannot reach the cloud now"},
		"it wants a login":         {[]int{407}, 1, "answers 407 Proxy Authentication Required: it wants a login"},
		"it forbids the address":   {[]int{403}, 1, "answers 403 Forbidden: it does not let calls to this address through"},
		"it knows no such method":  {[]int{405}, 1, "answers 405"},
		"it has an internal error": {[]int{500}, 1, "answers 500"},
		"a strange success":        {[]int{204}, 1, "answers 204"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			var served atomic.Int64
			server, b := tlsServer(t, func(w http.ResponseWriter, _ *http.Request) { served.Add(1) })
			address, calls := proxyServer(t, test.statuses...)
			b.Proxy = http.ProxyURL(address)
			budget := 30 * time.Second
			if test.says != "" {
				budget = 4 * time.Second // what is refused is refused until then
			}
			ctx, cancel := context.WithTimeout(t.Context(), budget)
			defer cancel()
			resp, err := chainTo(b).RoundTrip(newRequest(t, ctx, server.URL))
			if asked := calls.Load(); asked != test.calls && (test.calls != 0 || asked < 3) {
				t.Errorf("the proxy was asked %d times, want %d", asked, test.calls)
			}
			if test.says == "" {
				if err != nil || resp.StatusCode != 200 || served.Load() != 1 {
					t.Errorf("got %v", err)
				}
				return
			}
			var notSent *NotSentError
			var refused *ProxyError
			if !errors.As(err, &notSent) || !errors.As(err, &refused) || served.Load() != 0 {
				t.Fatalf("got %v, want one that says that nothing was sent", err)
			}
			if text := err.Error(); !strings.Contains(text, "the proxy "+address.Host+" "+test.says) || strings.Contains(text, "hunter2") {
				t.Errorf("got %q", text)
			}
		})
	}
}

// resetting is a listener whose first connections are cut before a handshake is through.
type resetting struct {
	net.Listener
	times atomic.Int64
}

// Accept implements net.Listener.
func (l *resetting) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || l.times.Add(-1) < 0 {
			return conn, err
		}
		_, _ = conn.Read(make([]byte, 1))
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}

func TestAHandshakeThatIsCutHasSentNothing(t *testing.T) {
	for times, through := range map[int64]bool{2: true, 100: false} {
		t.Run(fmt.Sprintf("%d times", times), func(t *testing.T) {
			var served atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
			listener := &resetting{Listener: server.Listener}
			listener.times.Store(times)
			server.Listener = listener
			server.StartTLS()
			t.Cleanup(server.Close)
			authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			b := base(t, TLS{CACert: string(authority)})
			t.Cleanup(b.CloseIdleConnections)
			budget := 30 * time.Second
			if !through {
				budget = 2 * time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), budget)
			defer cancel()
			_, err := chainTo(b).RoundTrip(newRequest(t, ctx, server.URL))
			var notSent *NotSentError
			if through != (err == nil) || err != nil && !errors.As(err, &notSent) {
				t.Errorf("got %v, want it through: %v", err, through)
			}
			if through != (served.Load() == 1) {
				t.Errorf("served %d times", served.Load())
			}
		})
	}
}

func TestAConnectionThatIsCutWithinACallMayHaveSentIt(t *testing.T) {
	server, b := tlsServer(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	_, err := chainTo(b).RoundTrip(newRequest(t, t.Context(), server.URL))
	var notSent *NotSentError
	if err == nil || errors.As(err, &notSent) {
		t.Errorf("got %v, want one that says nothing of the call's fate", err)
	}
}

// A gateway closes idle connections, also at the moment at which a call has been given one.
func TestACallWhoseHTTP1ConnectionDies(t *testing.T) {
	closing := func(conn net.Conn, _ net.Conn, closed <-chan struct{}) { // by the server, and the client has seen it
		if c, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite()
		}
		<-closed
	}
	dying := func(_ net.Conn, client net.Conn, _ <-chan struct{}) { _ = countedBeneath(client).Conn.Close() }
	cases := map[string]struct {
		die       func(server, client net.Conn, closed <-chan struct{}) // nil: the server reads the call, and closes
		attempts  int64
		ambiguous bool
	}{
		"closed by the server before a byte is written":       {closing, 3, false},
		"dead before a byte is written":                       {dying, 3, false},
		"closed without an answer after the call was written": {nil, 2, true},
	}
	for name, test := range cases {
		for _, encrypted := range []bool{true, false} {
			for _, body := range []string{"with a body", "without a body"} {
				t.Run(fmt.Sprintf("%s, %s, TLS %v", name, body, encrypted), func(t *testing.T) {
					var whole, attempts atomic.Int64
					conns, closed := make(chan net.Conn, 100), make(chan struct{}, 100)
					server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if _, err := io.ReadAll(r.Body); err != nil {
							t.Error(err)
						}
						if whole.Add(1) == 2 && test.ambiguous {
							panic(http.ErrAbortHandler)
						}
					}))
					server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
						switch state {
						case http.StateNew:
							conns <- conn
						case http.StateClosed:
							closed <- struct{}{}
						}
					}
					var trust TLS
					if encrypted {
						server.StartTLS()
						trust.CACert = encodePEM("CERTIFICATE", server.Certificate().Raw)
					} else {
						server.Start()
					}
					t.Cleanup(server.Close)
					b := base(t, trust)
					t.Cleanup(b.CloseIdleConnections)
					rt := chainTo(b, func(o *Options) { o.Observe = func(*http.Response, error) { attempts.Add(1) } })
					if _, err := rt.RoundTrip(newRequest(t, t.Context(), server.URL)); err != nil {
						t.Fatal(err)
					}
					var once sync.Once
					ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
						once.Do(func() {
							if !info.Reused {
								t.Error("a new connection")
							}
							if test.die != nil {
								test.die(<-conns, info.Conn, closed)
							}
						})
					}})
					_, err := rt.RoundTrip(requests(t, ctx, server.URL)[body])
					var notSent *NotSentError
					if (err != nil) != test.ambiguous || errors.As(err, &notSent) {
						t.Errorf("got %v, want one that says nothing of the call's fate: %v", err, test.ambiguous)
					}
					if attempts.Load() != test.attempts || whole.Load() != 2 {
						t.Errorf("%d attempts and %d requests, want %d and two", attempts.Load(), whole.Load(), test.attempts)
					}
				})
			}
		}
	}
}

// wire carries connections until it is cut: those that there are then are silent, as a network is that has died. New ones work.
type wire struct {
	to *bufconn.Listener
	mu sync.Mutex
	on []*carried
}

// dial implements http.Transport.DialContext.
func (w *wire) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	conn, err := w.to.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	c := &carried{Conn: conn}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on = append(w.on, c)
	return c, nil
}

func (w *wire) cut() (connections int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.on {
		c.dead.Store(true)
	}
	return len(w.on)
}

// carried is one connection on the wire.
type carried struct {
	net.Conn
	dead atomic.Bool
}

// Write implements net.Conn. What is written to a dead network waits in the system's buffer, and is no error.
func (c *carried) Write(b []byte) (int, error) {
	if c.dead.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// Read implements net.Conn. Nothing comes out of a dead network.
func (c *carried) Read(b []byte) (n int, err error) {
	for {
		if n, err = c.Conn.Read(b); err != nil || !c.dead.Load() {
			return n, err
		}
	}
}

// Calls come every five seconds, so that the connection is never idle: only a sign of life that does not come tells that it is dead.
func TestAnHTTP2ConnectionWhoseNetworkHasDiedIsDroppedWithinTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var protocol atomic.Int64
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { protocol.Store(int64(r.ProtoMajor)) }))
		_ = server.Listener.Close() // a goroutine that waits at a socket would keep the time from passing
		w := &wire{to: bufconn.Listen(64 << 10)}
		server.Listener, server.EnableHTTP2 = w.to, true
		server.StartTLS()
		defer server.Close()
		authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		b := base(t, TLS{CACert: string(authority)})
		defer b.CloseIdleConnections()
		b.DialContext = w.dial
		rt := chainTo(b)
		send := func() error {
			_, err := rt.RoundTrip(newRequest(t, t.Context(), "https://127.0.0.1"))
			return err
		}
		for range 3 {
			if err := send(); err != nil || protocol.Load() != 2 {
				t.Fatalf("got %v over HTTP/%d", err, protocol.Load())
			}
			pass(5 * time.Second)
		}
		if n := w.cut(); n != 1 {
			t.Fatalf("%d connections", n)
		}
		died := time.Now()
		calls := time.NewTicker(5 * time.Second)
		defer calls.Stop()
		through := make(chan time.Duration, 100)
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				if send() == nil {
					through <- time.Since(died)
				}
			})
			<-calls.C
		}
		group.Wait()
		if len(through) == 0 {
			t.Fatal("no call came through within 100 s")
		}
		if first := <-through; first > 10*time.Second+time.Millisecond {
			t.Errorf("the first call came through after %s", first)
		}
		if n := len(through) + 1; n < 18 {
			t.Errorf("%d of 20 calls came through", n)
		}
	})
}

func TestARetryAfterDateIsReadByTheClockThatWroteIt(t *testing.T) {
	ahead := http.Header{"Date": {"Mon, 02 Jan 2040 10:00:00 GMT"}, "Retry-After": {"Mon, 02 Jan 2040 10:00:07 GMT"}}
	if got := retryAfter(&http.Response{Header: ahead}); got != 7*time.Second {
		t.Errorf("got %s", got)
	}
}
