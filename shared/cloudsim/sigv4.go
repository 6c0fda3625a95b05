// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	signingAlgorithm = "AWS4-HMAC-SHA256"
	signingService   = "oapi"
	signingTerminal  = "aws4_request"
	signingTime      = "20060102T150405Z"
	maxClockSkew     = 15 * time.Minute
)

// authorization is a parsed Authorization header.
type authorization struct {
	accessKey     string
	day           string
	region        string
	service       string
	signedHeaders []string
	signature     string
}

var errMalformedAuthorization = errors.New("malformed Authorization header")

// parseAuthorization reads "AWS4-HMAC-SHA256 Credential=AK/day/region/service/aws4_request, SignedHeaders=a;b, Signature=hex".
func parseAuthorization(header string) (authorization, error) {
	rest, ok := strings.CutPrefix(header, signingAlgorithm+" ")
	if !ok {
		return authorization{}, errMalformedAuthorization
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != signingTerminal || fields["SignedHeaders"] == "" || fields["Signature"] == "" {
		return authorization{}, errMalformedAuthorization
	}
	return authorization{
		accessKey: scope[0], day: scope[1], region: scope[2], service: scope[3],
		signedHeaders: strings.Split(fields["SignedHeaders"], ";"),
		signature:     fields["Signature"],
	}, nil
}

// verify reports whether the request was signed with the secret, for this service and about now. The payload hash is
// that of the body received: a hash sent along, UNSIGNED-PAYLOAD included, is not believed.
func (auth authorization) verify(r *http.Request, body []byte, secret string, now time.Time) bool {
	stamp := r.Header.Get("X-Amz-Date")
	signedAt, err := time.Parse(signingTime, stamp)
	if err != nil || now.Sub(signedAt).Abs() > maxClockSkew || signedAt.Format("20060102") != auth.day {
		return false
	}
	if auth.service != signingService || !slices.IsSorted(auth.signedHeaders) {
		return false
	}
	if !slices.Contains(auth.signedHeaders, "host") || !slices.Contains(auth.signedHeaders, "x-amz-date") {
		return false
	}

	scope := strings.Join([]string{auth.day, auth.region, auth.service, signingTerminal}, "/")
	hashed := sha256.Sum256([]byte(canonicalRequest(r, auth.signedHeaders, body)))
	text := strings.Join([]string{signingAlgorithm, stamp, scope, hex.EncodeToString(hashed[:])}, "\n")
	expected := mac(signingKey(secret, auth.day, auth.region, auth.service), text)
	given, err := hex.DecodeString(auth.signature)
	return err == nil && hmac.Equal(expected, given)
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func signingKey(secret, day, region, service string) []byte {
	key := []byte("AWS4" + secret)
	for _, part := range []string{day, region, service, signingTerminal} {
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

// canonicalPath escapes the escaped path once more: of AWS's services only S3 signs it escaped once.
func canonicalPath(u *url.URL) string {
	path := u.EscapedPath()
	if path == "" {
		return "/"
	}
	return escape(path, "/")
}

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
