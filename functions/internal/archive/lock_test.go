// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package archive

import (
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// store is as much of an S3 store as a lock needs. Some know conditions, some pass over them, and some refuse them.
type store struct {
	conditions string // "", "ignored" or "refused"
	mu         sync.Mutex
	objects    map[string]string
	onPut      func() // before something is stored
	onStored   func() // before that is answered
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.Host + r.URL.Path
	if r.Method == http.MethodPut && s.onPut != nil {
		s.onPut()
	}
	if s.answer(w, r, name); r.Method == http.MethodPut && s.onStored != nil {
		s.onStored()
	}
}

func (s *store) answer(w http.ResponseWriter, r *http.Request, name string) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	text, there := s.objects[name]
	fail := func(status int, code string) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code></Error>")
	}
	conditional := r.Header.Get("If-None-Match")+r.Header.Get("If-Match") != ""
	why := s3Refuses(r, body)
	switch {
	case why != "":
		fail(http.StatusForbidden, "SignatureDoesNotMatch: "+why)
	case r.Header.Get("X-Amz-Sdk-Checksum-Algorithm") != "": // which many stores do not know
		fail(http.StatusBadRequest, "InvalidRequest")
	case r.Method == http.MethodPut && conditional && s.conditions == "refused":
		fail(http.StatusNotImplemented, "NotImplemented")
	case r.Method == http.MethodPut && s.conditions == "" && (r.Header.Get("If-None-Match") == "*" && there ||
		r.Header.Get("If-Match") != "" && r.Header.Get("If-Match") != etag(text)):
		fail(http.StatusPreconditionFailed, "PreconditionFailed")
	case r.Method == http.MethodPut:
		s.objects[name] = string(body)
		w.Header().Set("ETag", etag(string(body)))
	case there:
		w.Header().Set("ETag", etag(text))
		_, _ = io.WriteString(w, text)
	default:
		fail(http.StatusNotFound, "NoSuchKey")
	}
}

func etag(text string) string { return fmt.Sprintf("%q", fmt.Sprintf("%x", md5.Sum([]byte(text)))) }

// bucket opens a bucket of a store, with more settings.
func (s *store) bucket(t *testing.T, settings map[string]string) *Bucket {
	t.Helper()
	if s.objects == nil {
		s.objects = map[string]string{}
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	env := map[string]string{
		"REPORT_BUCKET": "bucket", "AWS_ENDPOINT_URL_S3": server.URL, "AWS_REGION": storeRegion,
		"AWS_ACCESS_KEY_ID": storeKey, "AWS_SECRET_ACCESS_KEY": storeSecret,
	}
	for name, value := range settings {
		env[name] = strings.ReplaceAll(value, "{port}", server.URL[strings.LastIndex(server.URL, ":")+1:])
	}
	return FromEnvironment(func(name string) string { return env[name] }).(*Bucket)
}

type locker interface {
	Lock(ctx context.Context, job string) (func(), error)
}

func TestTwoRunsOfOneJobExcludeEachOther(t *testing.T) {
	dir := Directory(t.TempDir())
	for name, place := range map[string]locker{
		"in a directory": dir,
		"in a bucket":    (&store{}).bucket(t, nil),
		"in one of a store that passes over condition": (&store{conditions: "ignored"}).bucket(t, nil),
		"in one of a store that refuses conditions":    (&store{conditions: "refused"}).bucket(t, nil),
	} {
		t.Run(name, func(t *testing.T) {
			release, err := place.Lock(t.Context(), "revoke-expired-keys")
			if err != nil {
				t.Fatal(err)
			}
			var locked *LockedError
			if _, err := place.Lock(t.Context(), "revoke-expired-keys"); !errors.As(err, &locked) {
				t.Errorf("a second run: got %v", err)
			}
			other, err := place.Lock(t.Context(), "sync-policy")
			if err != nil {
				t.Fatalf("another job: %v", err)
			}
			other()
			release()
			if release, err = place.Lock(t.Context(), "revoke-expired-keys"); err != nil {
				t.Fatalf("the run after it: %v", err)
			}
			release()
		})
	}
}

func TestOfManyAtOnceOneGetsTheLock(t *testing.T) {
	const many = 8
	for conditions, name := range map[string]string{"": "of a store that knows conditions", "ignored": "of one that passes over them"} {
		t.Run(name, func(t *testing.T) {
			s := &store{conditions: conditions}
			// All have read that there is no lock before the first of them writes one, and have written theirs before one reads again.
			s.onPut, s.onStored = gate(many), gate(many)
			bucket := s.bucket(t, nil)
			var got atomic.Int32
			var group sync.WaitGroup
			for range many {
				group.Go(func() {
					_, err := bucket.Lock(t.Context(), "revoke-expired-keys") // held until the process ends
					var locked *LockedError
					switch {
					case err == nil:
						got.Add(1)
					case !errors.As(err, &locked):
						t.Error(err)
					}
				})
			}
			group.Wait()
			if got.Load() != 1 {
				t.Errorf("%d have it", got.Load())
			}
		})
	}
}

// A store that knows conditions refuses a lock that was written after somebody else's was read, and is held.
func TestALockIsWrittenOverNobodyElses(t *testing.T) {
	s := &store{}
	first, second := make(chan struct{}), make(chan struct{})
	puts := make(chan struct{}, 1)
	s.onPut = func() {
		select {
		case puts <- struct{}{}: // the first
			<-second
		default:
		}
	}
	bucket := s.bucket(t, nil)
	go func() {
		defer close(first)
		var locked *LockedError
		if _, err := bucket.Lock(t.Context(), "revoke-expired-keys"); !errors.As(err, &locked) {
			t.Errorf("the one that was slower: got %v", err)
		}
	}()
	for len(puts) == 0 {
		runtime.Gosched()
	}
	if _, err := bucket.Lock(t.Context(), "revoke-expired-keys"); err != nil {
		t.Error(err)
	}
	close(second)
	<-first
}

// A machine that slept may wake when its lock has ended and another run has one.
func TestALockThatIsSomebodyElsesByNowIsLeftToHim(t *testing.T) {
	for _, conditions := range []string{"", "ignored", "refused"} {
		s := &store{conditions: conditions}
		bucket := s.bucket(t, nil)
		release, err := bucket.Lock(t.Context(), "revoke-expired-keys")
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(lockRecord{Holder: "another", Until: time.Now().Add(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		for name := range s.objects {
			s.objects[name] = string(text)
		}
		release()
		var locked *LockedError
		if _, err := bucket.Lock(t.Context(), "revoke-expired-keys"); !errors.As(err, &locked) {
			t.Errorf("of a store with conditions %q: got %v", conditions, err)
		}
	}
}

// gate lets nobody pass before all have come.
func gate(all int) func() {
	var missing sync.WaitGroup
	missing.Add(all)
	return func() {
		missing.Done()
		missing.Wait()
	}
}

func TestTheLockOfAKilledRunEnds(t *testing.T) {
	t.Run("in a bucket, after its life", func(t *testing.T) {
		s := &store{}
		bucket := s.bucket(t, nil)
		for until, taken := range map[time.Duration]bool{time.Minute: false, -time.Second: true} {
			text, err := json.Marshal(lockRecord{Holder: "killed", Until: time.Now().Add(until)})
			if err != nil {
				t.Fatal(err)
			}
			host := strings.TrimPrefix(*bucket.client.Options().BaseEndpoint, "http://")
			s.objects[host+"/bucket/state/lock-revoke-expired-keys.json"] = string(text)
			release, err := bucket.Lock(t.Context(), "revoke-expired-keys")
			if (err == nil) != taken {
				t.Errorf("%s before its end: got %v", until, err)
			}
			if err == nil {
				release()
			}
		}
	})
	t.Run("in a directory, with the process", func(t *testing.T) {
		dir := os.Getenv("CLOUDKEYS_TEST_LOCK")
		if dir != "" { // the child: it holds the lock until it is killed
			if _, err := Directory(dir).Lock(t.Context(), "revoke-expired-keys"); err != nil {
				t.Fatal(err)
			}
			fmt.Println("locked")
			select {}
		}
		dir = t.TempDir()
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTheLockOfAKilledRunEnds$/^in_a_directory", "-test.v")
		child.Env = append(os.Environ(), "CLOUDKEYS_TEST_LOCK="+dir)
		says, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		for text := ""; !strings.Contains(text, "locked"); {
			buffer := make([]byte, 1000)
			n, err := says.Read(buffer)
			if text += string(buffer[:n]); err != nil {
				t.Fatalf("%v after %q", err, text)
			}
		}
		var locked *LockedError
		if _, err := Directory(dir).Lock(t.Context(), "revoke-expired-keys"); !errors.As(err, &locked) {
			t.Errorf("while it lives: got %v", err)
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // it was killed
		release, err := Directory(dir).Lock(t.Context(), "revoke-expired-keys")
		if err != nil {
			t.Fatal(err)
		}
		release()
	})
}

// OOS and MinIO take the bucket in the path; OBS wants it in the host's name. Both are reached over TLS, where a body is not signed.
func TestABucketOfAnotherStore(t *testing.T) {
	for style, want := range map[string]string{"": "localhost/bucket/x y.json", "virtual": "bucket.localhost/x y.json"} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(scheme+" "+style, func(t *testing.T) {
				s := &store{objects: map[string]string{}}
				server := httptest.NewServer(s)
				if scheme == "https" {
					server = httptest.NewTLSServer(s)
				}
				t.Cleanup(server.Close)
				bucket := s.bucket(t, map[string]string{"REPORT_BUCKET_STYLE": style, "AWS_ENDPOINT_URL_S3": scheme + "://localhost"})
				options := bucket.client.Options()
				transport := server.Client().Transport.(*http.Transport).Clone()
				transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // whatever the bucket's host is called
				transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
				}
				options.HTTPClient = &http.Client{Transport: transport}
				bucket.client = s3.New(options)
				place, err := bucket.Put(t.Context(), "x y.json", "application/json", func(w io.Writer) error {
					_, err := io.WriteString(w, "{}")
					return err
				})
				if err != nil || place != "s3://bucket/x y.json" {
					t.Fatalf("got %s and %v", place, err)
				}
				if text, there := s.objects[want]; !there || text != "{}" {
					t.Errorf("the store has %q, want %s", s.objects, want)
				}
				if text, err := bucket.Get(t.Context(), "x y.json"); err != nil || string(text) != "{}" {
					t.Errorf("it gives back %q and %v", text, err)
				}
				if text, err := bucket.Get(t.Context(), "nothing.json"); err != nil || text != nil {
					t.Errorf("of what is not there it gives back %q and %v", text, err)
				}
			})
		}
	}
}
