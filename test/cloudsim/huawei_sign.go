// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	sdkAlgorithm = "SDK-HMAC-SHA256"
	sdkDate      = "X-Sdk-Date"
	sdkTerminal  = "sdk_request"
)

// sdkAuthorization is a parsed Authorization header of Huawei's. Scope is set in the older dialect only, which clouds of
// the OTC family use: the day, a region and a service that may be empty, "sdk_request".
type sdkAuthorization struct {
	accessKey     string
	scope         []string
	signedHeaders []string
	signature     string
}

// parseSDKAuthorization reads "SDK-HMAC-SHA256 Access=AK, SignedHeaders=a;b, Signature=hex", or the older dialect with
// "Credential=AK/day/region/service/sdk_request" for "Access=AK".
func parseSDKAuthorization(header string) (sdkAuthorization, bool) {
	rest, ok := strings.CutPrefix(header, sdkAlgorithm+" ")
	if !ok {
		return sdkAuthorization{}, false
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	auth := sdkAuthorization{
		accessKey:     fields["Access"],
		signedHeaders: strings.Split(fields["SignedHeaders"], ";"),
		signature:     fields["Signature"],
	}
	if credential := strings.Split(fields["Credential"], "/"); len(credential) == 5 && credential[4] == sdkTerminal {
		auth.accessKey, auth.scope = credential[0], credential[1:]
	}
	return auth, auth.accessKey != "" && auth.signature != "" && slices.Contains(auth.signedHeaders, strings.ToLower(sdkDate))
}

// verify reports whether the request was signed with the secret. The hash is that of the body received.
func (auth sdkAuthorization) verify(r *http.Request, body []byte, secret string) bool {
	if !slices.IsSorted(auth.signedHeaders) {
		return false
	}
	stamp := r.Header.Get(sdkDate)
	hashed := sha256.Sum256([]byte(sdkCanonicalRequest(r, auth.signedHeaders, body)))
	text := []string{sdkAlgorithm, stamp, hex.EncodeToString(hashed[:])}
	key := []byte(secret)
	if auth.scope != nil {
		if !strings.HasPrefix(stamp, auth.scope[0]) {
			return false
		}
		text = slices.Insert(text, 2, strings.Join(auth.scope, "/"))
		key = []byte("SDK" + secret)
		for _, part := range auth.scope {
			key = mac(key, part)
		}
	}
	given, err := hex.DecodeString(auth.signature)
	return err == nil && hmac.Equal(mac(key, strings.Join(text, "\n")), given)
}

// sdkSignedAt reads X-Sdk-Date.
func sdkSignedAt(r *http.Request) (time.Time, bool) {
	at, err := time.Parse(signingTime, r.Header.Get(sdkDate))
	return at, err == nil
}

func sdkCanonicalRequest(r *http.Request, signedHeaders []string, body []byte) string {
	payload := sha256.Sum256(body)
	var headers strings.Builder
	for _, name := range signedHeaders {
		headers.WriteString(name + ":" + sdkCanonicalHeader(r, name) + "\n")
	}
	return strings.Join([]string{
		r.Method,
		sdkCanonicalPath(r.URL),
		sdkCanonicalQuery(r.URL.Query()),
		headers.String(),
		strings.Join(signedHeaders, ";"),
		hex.EncodeToString(payload[:]),
	}, "\n")
}

// sdkCanonicalHeader only trims a value: spaces within it stay.
func sdkCanonicalHeader(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	return strings.TrimSpace(strings.Join(r.Header.Values(name), ","))
}

// sdkCanonicalPath ends in a slash, whether the request's path does or not.
func sdkCanonicalPath(u *url.URL) string {
	path := escape(u.Path, "/")
	if !strings.HasSuffix(path, "/") {
		path += "/"
	}
	return path
}

// sdkCanonicalQuery sorts by name, then by value.
func sdkCanonicalQuery(query url.Values) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(query)) {
		for _, value := range slices.Sorted(slices.Values(query[name])) {
			pairs = append(pairs, escape(name, "")+"="+escape(value, ""))
		}
	}
	return strings.Join(pairs, "&")
}
