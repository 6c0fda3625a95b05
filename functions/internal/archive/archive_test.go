// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package archive

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// bucketServer is as much of S3 as one object needs.
func bucketServer(t *testing.T) Archive {
	t.Helper()
	objects := map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, there := objects[r.URL.Path]
		switch {
		case r.Method == http.MethodPut:
			body, _ := io.ReadAll(r.Body)
			objects[r.URL.Path] = string(body)
		case there:
			_, _ = io.WriteString(w, text)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `<Error><Code>NoSuchKey</Code></Error>`)
		}
	}))
	t.Cleanup(server.Close)
	return FromEnvironment(func(name string) string {
		return map[string]string{
			"REPORT_BUCKET": "bucket", "AWS_ENDPOINT_URL_S3": server.URL, "AWS_REGION": "eu-west-3",
			"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK",
		}[name]
	})
}

func TestStateComesBackAsItWas(t *testing.T) {
	for name, place := range map[string]Archive{"in a directory": Directory(t.TempDir()), "in a bucket": bucketServer(t)} {
		t.Run(name, func(t *testing.T) {
			store := State[sweep.State]{place, "state/"}
			if got, err := store.Load(t.Context(), "a/../b"); err != nil || !reflect.DeepEqual(got, sweep.State{}) {
				t.Errorf("of nothing: %+v and error %v", got, err)
			}
			want := sweep.State{Cursor: "u", LedgerKeys: 7, Inactive: map[string]time.Time{"K": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
			if err := store.Save(t.Context(), "a/../b", want); err != nil {
				t.Fatal(err)
			}
			if got, err := store.Load(t.Context(), "a/../b"); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v and error %v", got, err)
			}
		})
	}
}

func TestAReportAppearsWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	_, err := Directory(dir).Put(t.Context(), "reports/x.json", "application/json", func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return errors.New("the disk is full")
	})
	left, globErr := filepath.Glob(filepath.Join(dir, "reports", "*"))
	hidden, hiddenErr := filepath.Glob(filepath.Join(dir, "reports", ".*"))
	if err == nil || len(left)+len(hidden) > 0 || globErr != nil || hiddenErr != nil {
		t.Errorf("got %v, left %v %v", err, left, hidden)
	}
}

func TestDamagedStateIsAnErrorAndNotABeginning(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state", "a.json"), []byte(`{"cursor":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (State[sweep.State]{Directory(dir), "state/"}).Load(t.Context(), "a"); err == nil {
		t.Error("it was taken for none")
	}
}

func TestWithoutABucketNothingIsKept(t *testing.T) {
	if got := FromEnvironment(func(string) string { return "" }); got != nil {
		t.Errorf("got %v", got)
	}
}

func TestABucketThatRefusesIsAnError(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `<Error><Code>AccessDenied</Code></Error>`)
	}))
	defer server.Close()
	bucket := FromEnvironment(func(name string) string {
		return map[string]string{
			"REPORT_BUCKET": "b", "AWS_ENDPOINT_URL_S3": server.URL, "AWS_REGION": "r", "AWS_ACCESS_KEY_ID": "AK",
			"AWS_SECRET_ACCESS_KEY": "SK",
		}[name]
	})
	if text, err := bucket.Get(t.Context(), "state/a.json"); err == nil || text != nil {
		t.Errorf("got %q and error %v: a state that cannot be read is not a new one", text, err)
	}
	if _, err := bucket.Put(t.Context(), "x", "text/plain", func(io.Writer) error { return nil }); err == nil {
		t.Error("stored")
	}
}
