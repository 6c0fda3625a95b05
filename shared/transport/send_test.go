// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// bodyOf is a body that reads as the function does.
type bodyOf func(p []byte) (int, error)

func (f bodyOf) Read(p []byte) (int, error) { return f(p) }
func (f bodyOf) Close() error               { return nil }

func answerWith(body io.ReadCloser) *script {
	return &script{play: func(int, *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: body}, nil
	}}
}

func send(t *testing.T, s *sender, ctx context.Context) (*http.Response, error) {
	t.Helper()
	return s.RoundTrip(newRequest(t, ctx, "https://cloud.test/"))
}

func TestAnAttemptHasATimeLimit(t *testing.T) {
	hang := func(r *http.Request) error {
		<-r.Context().Done()
		return r.Context().Err()
	}
	cases := map[string]func(r *http.Request) (*http.Response, error){
		"without an answer": func(r *http.Request) (*http.Response, error) { return nil, hang(r) },
		"within a body that stalls": func(r *http.Request) (*http.Response, error) {
			stalled := bodyOf(func([]byte) (int, error) { return 0, hang(r) })
			return &http.Response{StatusCode: 200, Body: struct {
				io.Reader
				io.Closer
			}{io.MultiReader(strings.NewReader("half"), stalled), stalled}}, nil
		},
	}
	for name, play := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cloud := &script{play: func(_ int, r *http.Request) (*http.Response, error) { return play(r) }}
				start := time.Now()
				_, err := call(t, t.Context(), chainTo(cloud))
				var notSent *NotSentError
				if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &notSent) {
					t.Errorf("got %v, want a deadline that says nothing of the call's fate", err)
				}
				if time.Since(start) != 15*time.Second || cloud.count() != 1 {
					t.Errorf("ended after %s and %d attempts, want 15s and one", time.Since(start), cloud.count())
				}
			})
		})
	}
}

func TestABodyThatStallsOnARealConnection(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		<-release
	}))
	defer server.Close()
	defer close(release)
	rt := chainTo(base(t, TLS{}), func(o *Options) { o.Timeout = 2 * time.Second })
	_, err := rt.RoundTrip(newRequest(t, t.Context(), server.URL))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "reading the answer: ") {
		t.Errorf("got %v", err)
	}
}

func TestABodyThatIsCutInTheMiddleIsAnError(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	_, err := chainTo(base(t, TLS{})).RoundTrip(newRequest(t, t.Context(), server.URL))
	var notSent *NotSentError
	if !errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &notSent) {
		t.Errorf("got %v", err)
	}
}

func TestTheSizeOfAnAnswerIsLimited(t *testing.T) {
	zeros := bodyOf(func(p []byte) (int, error) { return len(p), nil })
	cases := map[string]struct {
		size int64
		fits bool
	}{
		"exactly the limit":          {maxAnswer, true},
		"one byte more":              {maxAnswer + 1, false},
		"an answer that never stops": {1 << 40, false},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			s := &sender{next: answerWith(io.NopCloser(io.LimitReader(zeros, test.size))), timeout: time.Minute}
			resp, err := send(t, s, t.Context())
			if !test.fits {
				if err == nil || err.Error() != "the answer is longer than 4194304 bytes" {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if body := Peek(resp); int64(len(body)) != test.size {
				t.Errorf("got %d bytes", len(body))
			}
		})
	}
}

func TestACallWhoseTimeIsUpIsNotSent(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cloud := plays(status(200))
	_, err := send(t, &sender{next: cloud, timeout: time.Minute}, ctx)
	var notSent *NotSentError
	if !errors.As(err, &notSent) || !errors.Is(err, context.Canceled) || cloud.count() != 0 {
		t.Errorf("got %v and %d attempts", err, cloud.count())
	}
}

func TestAnAnswerKnowsItsRequest(t *testing.T) {
	resp, err := send(t, &sender{next: plays(status(200)), timeout: time.Minute}, t.Context())
	if err != nil || resp.Request == nil || resp.Request.URL.Host != "cloud.test" {
		t.Errorf("got %v and error %v", resp, err)
	}
}

func TestPeekOfABodyThatFailsIsEmpty(t *testing.T) {
	resp := &http.Response{Body: bodyOf(func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF })}
	if got := Peek(resp); got != nil {
		t.Errorf("got %q", got)
	}
}

// A middlebox may mangle an answer in any way, and it may be the one to a create.
func TestAnAnswerThatIsNoHTTPIsNotRepeated(t *testing.T) {
	const secret = "TTqAHPbhWorg9ozx8Dv9MUyzYnOKDppxzHt12345"
	const body = `{"credential":{"access":"P83EVBZJMXCYTMUIAAAA","secret":"` + secret + `"}}`
	for name, raw := range map[string]string{
		"no head at all":                   body + "\r\n\r\n",
		"no empty line before the body":    "HTTP/1.1 201 Created\r\n" + body + "\r\n\r\n",
		"the body in the place of a value": "HTTP/1.1 201 Created\r\nContent-Length: " + body + "\r\n\r\n",
		"a body without its chunks":        "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n" + body + "\r\n\r\n",
		"a body in the place of a trailer": "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n" + body + "\r\n\r\n",
		"a status that is none":            "HTTP/1.1 " + body + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := chainTo(base(t, TLS{})).RoundTrip(newRequest(t, t.Context(), rawServer(t, raw)))
			var notSent *NotSentError
			if err == nil || errors.As(err, &notSent) {
				t.Fatalf("got %v, want an error that says nothing of the call's fate", err)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if strings.Contains(e.Error(), secret[:8]) {
					t.Errorf("got %v", e)
				}
			}
		})
	}
}

// rawServer answers a call with these bytes, HTTP or not.
func rawServer(t *testing.T, answer string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return // the test is over
		}
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, answer)
		}
	}()
	return "http://" + listener.Addr().String()
}
