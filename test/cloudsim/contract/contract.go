// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package contract holds requests and answers against OUTSCALE's own OpenAPI description, which ships inside the SDK's
// module, so that neither this project's client nor its simulated cloud can drift from the API unseen.
package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

const (
	sdkModule = "github.com/outscale/osc-sdk-go/v2"

	// faultHeader marks answers that the simulated cloud has distorted on purpose.
	faultHeader = "X-Cloudsim-Fault"
)

// text is the description as it is written, read once a process.
var text = sync.OnceValues(func() ([]byte, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", sdkModule).Output()
	if err != nil {
		return nil, fmt.Errorf("finding the module %s: %w", sdkModule, err)
	}
	return os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "api", "openapi.yaml"))
})

// description is loaded once a process: the file has 37,000 lines. It is not validated as a document, since some of its
// examples (dates without quotes) are not valid themselves; its schemas are what counts.
var description = sync.OnceValues(func() (*openapi3.T, error) {
	written, err := text()
	if err != nil {
		return nil, err
	}
	return openapi3.NewLoader().LoadFromData(written)
})

// exampleDate is a date in an example. They stand there without quotes: a YAML parser would make other texts of them.
var exampleDate = regexp.MustCompile(`(?m)^ +(?:Creation|Expiration|LastModification)Date: ([0-9].*)$`)

// ExampleDates are the dates in the description's examples, each once.
func ExampleDates(tb testing.TB) []string {
	tb.Helper()
	written, err := text()
	if err != nil {
		tb.Fatal(err)
	}
	var dates []string
	for _, match := range exampleDate.FindAllSubmatch(written, -1) {
		dates = append(dates, string(match[1]))
	}
	slices.Sort(dates)
	return slices.Compact(dates)
}

// Judge reports what breaks the API's description to its test.
type Judge struct {
	tb  testing.TB
	doc *openapi3.T
}

// New returns a judge that reports to tb. It fails tb at once if the description cannot be loaded.
func New(tb testing.TB) *Judge {
	tb.Helper()
	doc, err := description()
	if err != nil {
		tb.Fatalf("loading OUTSCALE's API description: %v", err)
	}
	return &Judge{tb: tb, doc: doc}
}

// Wrap judges every request on its way to next and every answer on its way back, and changes neither. Answers that the
// simulated cloud marks as distorted are let through.
func (j *Judge) Wrap(next http.RoundTripper) http.RoundTripper { return checked{j, next} }

type checked struct {
	spec *Judge
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t checked) RoundTrip(r *http.Request) (*http.Response, error) {
	op := path.Base(r.URL.Path)
	operation := t.spec.operation(op)
	if operation == nil {
		t.spec.tb.Errorf("%s %s: the API has no such call", r.Method, r.URL.Path)
		return t.next.RoundTrip(r)
	}

	sent, body, err := withBody(r)
	if err != nil {
		return nil, err
	}
	t.spec.request(op, operation, body)
	response, err := t.next.RoundTrip(sent)
	if err != nil {
		return nil, err
	}
	t.spec.response(op, operation, response)
	return response, nil
}

func (j *Judge) operation(op string) *openapi3.Operation {
	item := j.doc.Paths.Value("/" + op)
	if item == nil {
		return nil
	}
	return item.Post
}

// withBody reads the request's body and returns a copy of the request that can still be sent.
func withBody(r *http.Request) (*http.Request, []byte, error) {
	if r.Body == nil {
		return r, nil, nil
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, nil, err
	}
	sent := r.Clone(r.Context())
	sent.Body = io.NopCloser(bytes.NewReader(body))
	return sent, body, nil
}

func (j *Judge) request(op string, operation *openapi3.Operation, body []byte) {
	j.tb.Helper()
	if err := check(operation.RequestBody.Value.Content, body); err != nil {
		j.tb.Errorf("%s: the request breaks the API's description: %v", op, err)
	}
}

func (j *Judge) response(op string, operation *openapi3.Operation, r *http.Response) {
	j.tb.Helper()
	if r.Header.Get(faultHeader) != "" {
		return
	}
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), failing{err}))
	if err != nil {
		return // the caller meets the same error and decides
	}
	if r.StatusCode == http.StatusOK {
		err = check(operation.Responses.Status(http.StatusOK).Value.Content, body)
	} else {
		err = j.checkError(body)
	}
	if err != nil {
		j.tb.Errorf("%s: the answer with status %d breaks the API's description: %v", op, r.StatusCode, err)
	}
}

// failing ends a body as the original ended: with its error, or with io.EOF.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}

func check(content openapi3.Content, body []byte) error {
	media := content.Get("application/json")
	if media == nil {
		return errors.New("the description has no JSON here")
	}
	return checkSchema(media.Schema.Value, body)
}

// checkError asks for more than the description, where everything in an error is optional: an error says what it is.
func (j *Judge) checkError(body []byte) error {
	if err := checkSchema(j.doc.Components.Schemas["ErrorResponse"].Value, body); err != nil {
		return err
	}
	var parsed struct{ Errors []struct{ Type, Code string } }
	if err := json.Unmarshal(body, &parsed); err != nil {
		return err
	}
	if len(parsed.Errors) == 0 || parsed.Errors[0].Code == "" || parsed.Errors[0].Type == "" {
		return errors.New("the error has no type and code")
	}
	return nil
}

// checkSchema names the place and the reason of a violation but not the value: it may be a secret.
func checkSchema(schema *openapi3.Schema, body []byte) error {
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	err := schema.VisitJSON(value)
	if violation, ok := errors.AsType[*openapi3.SchemaError](err); ok {
		return fmt.Errorf("at /%s: %s", strings.Join(violation.JSONPointer(), "/"), violation.Reason)
	}
	return err
}
