// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	signingService = "oapi"
	signingTime    = "20060102T150405Z"
	maxClockSkew   = 15 * time.Minute
)

// signing is one of the two ways in which OUTSCALE's clients sign. They differ in names alone.
type signing struct {
	algorithm string
	prefix    string // of the secret, from which the key is derived
	terminal  string // the end of the scope
	date      string // header
	service   string // in the scope of a call to the API
}

// signings: the SDKs for Go sign as AWS's clients do; osc-cli and the SDK for Python as OUTSCALE's documentation shows.
var signings = []signing{
	{"AWS4-HMAC-SHA256", "AWS4", "aws4_request", "X-Amz-Date", signingService},
	{"OSC4-HMAC-SHA256", "OSC4", "osc4_request", "X-Osc-Date", "api"},
}

// authorization is a parsed Authorization header.
type authorization struct {
	signing
	accessKey     string
	day           string
	region        string
	scoped        string // the service in the scope
	signedHeaders []string
	signature     string
}

var errMalformedAuthorization = errors.New("malformed Authorization header")

// parseAuthorization reads "AWS4-HMAC-SHA256 Credential=AK/day/region/service/aws4_request, SignedHeaders=a;b, Signature=hex".
func parseAuthorization(header string) (authorization, error) {
	algorithm, rest, _ := strings.Cut(header, " ")
	i := slices.IndexFunc(signings, func(s signing) bool { return s.algorithm == algorithm })
	if i < 0 {
		return authorization{}, errMalformedAuthorization
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != signings[i].terminal || fields["SignedHeaders"] == "" || fields["Signature"] == "" {
		return authorization{}, errMalformedAuthorization
	}
	return authorization{
		signing: signings[i], accessKey: scope[0], day: scope[1], region: scope[2], scoped: scope[3],
		signedHeaders: strings.Split(fields["SignedHeaders"], ";"),
		signature:     fields["Signature"],
	}, nil
}

// verify reports whether the request was signed with the secret, for this service and about now. The payload hash is
// that of the body received: a hash sent along, UNSIGNED-PAYLOAD included, is not believed.
func (auth authorization) verify(r *http.Request, body []byte, secret string, now time.Time) bool {
	stamp := r.Header.Get(auth.date)
	signedAt, err := time.Parse(signingTime, stamp)
	if err != nil || now.Sub(signedAt).Abs() > maxClockSkew || signedAt.Format("20060102") != auth.day {
		return false
	}
	if !auth.isFor(r) || !slices.IsSorted(auth.signedHeaders) {
		return false
	}
	if !slices.Contains(auth.signedHeaders, "host") || !slices.Contains(auth.signedHeaders, strings.ToLower(auth.date)) {
		return false
	}

	scope := strings.Join([]string{auth.day, auth.region, auth.scoped, auth.terminal}, "/")
	hashed := sha256.Sum256([]byte(canonicalRequest(r, auth.signedHeaders, body)))
	text := strings.Join([]string{auth.algorithm, stamp, scope, hex.EncodeToString(hashed[:])}, "\n")
	expected := mac(signingKey(auth.signing, secret, auth.day, auth.region, auth.scoped), text)
	given, err := hex.DecodeString(auth.signature)
	return err == nil && hmac.Equal(expected, given)
}

// isFor reports whether the scope names the service that was called. EIM is called iam by AWS's clients and eim by osc-cli.
func (auth authorization) isFor(r *http.Request) bool {
	if isEIM(r) {
		return auth.scoped == "iam" || auth.scoped == "eim"
	}
	return auth.scoped == auth.service
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func signingKey(s signing, secret, day, region, service string) []byte {
	key := []byte(s.prefix + secret)
	for _, part := range []string{day, region, service, s.terminal} {
		key = mac(key, part)
	}
	return key
}

func canonicalRequest(r *http.Request, signedHeaders []string, body []byte) string {
	payload := sha256.Sum256(body)
	var headers strings.Builder
	for _, name := range signedHeaders {
		headers.WriteString(name + ":" + canonicalHeader(r, name) + "\n")
	}
	return strings.Join([]string{
		r.Method,
		canonicalPath(r.URL),
		canonicalQuery(r.URL),
		headers.String(),
		strings.Join(signedHeaders, ";"),
		hex.EncodeToString(payload[:]),
	}, "\n")
}

// canonicalHeader: net/http moves Host and Content-Length out of the header map.
func canonicalHeader(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	var values []string
	for _, value := range r.Header.Values(name) {
		values = append(values, strings.Join(strings.Fields(value), " "))
	}
	return strings.Join(values, ",")
}

// canonicalPath escapes the escaped path once more: of AWS's services only S3 signs it escaped once. Repeated slashes count as
// one: osc-cli sends two after the host and signs one.
func canonicalPath(u *url.URL) string {
	return escape(singleSlashes(cmp.Or(u.EscapedPath(), "/")), "/")
}

var slashes = regexp.MustCompile("//+")

func singleSlashes(path string) string { return slashes.ReplaceAllString(path, "/") }

func canonicalQuery(u *url.URL) string {
	var pairs []string
	for name, values := range u.Query() {
		for _, value := range values {
			pairs = append(pairs, escape(name, "")+"="+escape(value, ""))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape percent-encodes all but RFC 3986's unreserved characters and those of keep.
func escape(s, keep string) string {
	const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	var b strings.Builder
	for _, c := range []byte(s) {
		if strings.IndexByte(unreserved, c) >= 0 || strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
	}
	return b.String()
}
