// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// HuaweiJudge reports what breaks the documentation of Huawei's IAM to its test. There is no description that ships with a
// module, so the table in huawei_calls.go repeats what the vendor's pages say.
type HuaweiJudge struct{ tb testing.TB }

// NewHuawei returns a judge that reports to tb.
func NewHuawei(tb testing.TB) *HuaweiJudge { return &HuaweiJudge{tb} }

// Wrap judges every request on its way to next and every answer on its way back, and changes neither. Answers that the
// simulated cloud marks as distorted are let through.
func (j *HuaweiJudge) Wrap(next http.RoundTripper) http.RoundTripper { return judgedHuawei{j, next} }

type judgedHuawei struct {
	spec *HuaweiJudge
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t judgedHuawei) RoundTrip(r *http.Request) (*http.Response, error) {
	sent, body, err := withBody(r)
	if err != nil {
		return nil, err
	}
	call, err := findHuawei(r, body)
	if err == nil {
		err = call.checkRequest(r, body)
	}
	if err != nil {
		t.spec.tb.Errorf("%s %s: the request breaks the documentation: %v", r.Method, r.URL.Path, err)
	}
	response, err := t.next.RoundTrip(sent)
	if err != nil {
		return nil, err
	}
	if call != nil {
		t.spec.response(call, r, response)
	}
	return response, nil
}

// huaweiCall is one call as documented. Fields are written as paths: "credential.user_id" is a string that may be absent,
// "users[].name!" one that every element must have; "#" stands behind a number's name, "?" behind a boolean's, "{}" behind
// that of an object with any content.
type huaweiCall struct {
	method   string
	path     string // an id is "*"
	auth     string // the one of auth.identity.methods, where two calls share a path
	query    []string
	request  []string
	status   int
	response []string
}

func findHuawei(r *http.Request, body []byte) (*huaweiCall, error) {
	for _, call := range huaweiCalls() {
		pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(call.path), `\*`, `[0-9A-Za-z]+`) + "$"
		if call.method != r.Method || !regexp.MustCompile(pattern).MatchString(r.URL.Path) {
			continue
		}
		if call.auth == "" || slices.Equal(authMethods(body), []string{call.auth}) {
			return &call, nil
		}
	}
	return nil, errors.New("IAM has no such call")
}

func authMethods(body []byte) []string {
	var in struct {
		Auth struct{ Identity struct{ Methods []string } }
	}
	if json.Unmarshal(body, &in) != nil {
		return nil
	}
	return in.Auth.Identity.Methods
}

func (call *huaweiCall) checkRequest(r *http.Request, body []byte) error {
	for name := range r.URL.Query() {
		if !slices.Contains(call.query, name) {
			return fmt.Errorf("the query has no %q", name)
		}
	}
	if len(call.request) == 0 {
		if len(body) > 0 {
			return errors.New("the call has no body")
		}
		return nil
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return errors.New("Content-Type is not application/json")
	}
	return fits(call.request, body)
}

func (j *HuaweiJudge) response(call *huaweiCall, r *http.Request, answer *http.Response) {
	j.tb.Helper()
	if answer.Header.Get(faultHeader) != "" {
		return
	}
	body, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	answer.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), failing{err}))
	if err != nil {
		return // the caller meets the same error and decides
	}
	if err := call.checkResponse(r, answer, body); err != nil {
		j.tb.Errorf("%s %s: the answer with status %d breaks the documentation: %v", r.Method, r.URL.Path, answer.StatusCode, err)
	}
}

func (call *huaweiCall) checkResponse(r *http.Request, answer *http.Response, body []byte) error {
	switch {
	case answer.Header.Get("X-Request-Id") == "":
		return errors.New("it has no X-Request-Id")
	case answer.StatusCode >= http.StatusBadRequest && r.Method == http.MethodHead:
		return nil
	case answer.StatusCode >= http.StatusBadRequest:
		return fitsError(body)
	case answer.StatusCode != call.status:
		return fmt.Errorf("success is %d", call.status)
	case len(call.response) == 0 && len(body) > 0:
		return errors.New("it has a body")
	case len(call.response) == 0:
		return nil
	}
	return fits(call.response, body)
}

// fitsError accepts the forms in which IAM and its gateway word errors.
func fitsError(body []byte) error {
	forms := [][]string{
		{"error.message!", "error.code!#", "error.title!", "error.error_code", "error.error_msg"},
		{"error_msg!", "error_code!", "request_id"},
	}
	old, flat := fits(forms[0], body), fits(forms[1], body)
	if old != nil && flat != nil {
		return errors.New("it is worded in none of the known forms")
	}
	return nil
}

// fits holds a body against paths. It names places, never values: they may be secrets.
func fits(paths []string, body []byte) error {
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return errors.New("it is not JSON")
	}
	known := map[string]string{} // kind by place
	for _, path := range paths {
		place, kind, must := parsePath(path)
		known[place] = kind
		if must && !present(value, strings.Split(place, ".")) {
			return fmt.Errorf("%s is missing", place)
		}
	}
	return checkValue(known, "", value)
}

func parsePath(path string) (place, kind string, must bool) {
	kind = "string"
	for suffix, name := range map[string]string{"#": "number", "?": "boolean", "{}": "object"} {
		if rest, ok := strings.CutSuffix(path, suffix); ok {
			path, kind = rest, name
		}
	}
	place, must = strings.CutSuffix(path, "!")
	return place, kind, must
}

// present reports whether a place exists, in every element of a list.
func present(value any, steps []string) bool {
	if len(steps) == 0 {
		return true
	}
	name, list := strings.CutSuffix(steps[0], "[]")
	object, ok := value.(map[string]any)
	if !ok {
		return false
	}
	inner, ok := object[name]
	if !ok || !list {
		return ok && present(inner, steps[1:])
	}
	elements, ok := inner.([]any)
	return ok && !slices.ContainsFunc(elements, func(e any) bool { return !present(e, steps[1:]) })
}

// checkValue refuses values at places that are not known, and values of another kind. A null fits every kind.
func checkValue(known map[string]string, place string, value any) error {
	if kind, ok := known[place]; ok {
		return checkKind(place, kind, value)
	}
	switch value := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			if err := checkValue(known, strings.TrimPrefix(place+"."+name, "."), value[name]); err != nil {
				return err
			}
		}
		return nil
	case []any:
		for _, element := range value {
			if err := checkValue(known, place+"[]", element); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%s is not documented", place)
}

func checkKind(place, kind string, value any) error {
	ok := value == nil
	switch value.(type) {
	case string:
		ok = kind == "string"
	case float64:
		ok = kind == "number"
	case bool:
		ok = kind == "boolean"
	case map[string]any:
		ok = kind == "object"
	}
	if !ok {
		return fmt.Errorf("%s is not a %s", place, kind)
	}
	return nil
}
