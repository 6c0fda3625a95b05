// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

const (
	algorithm = "SDK-HMAC-SHA256"

	headerDate   = "X-Sdk-Date"
	headerDomain = "X-Domain-Id"
	headerToken  = "X-Security-Token"

	signingDate = "20060102T150405Z"
	// scopeEnd ends the scope of the older dialect.
	scopeEnd = "sdk_request"
	// service is IAM's name in the older dialect.
	service = "iam"
)

// The ways in which the family's clouds want a signature to be written, as Config.Signature
// says them. Both sign the same canonical request.
const (
	// SignatureSDK is Huawei Cloud's own: the secret key signs, and the header names the
	// access key (API Request Signing Guide).
	SignatureSDK = "sdk"
	// SignatureOTC is the older one, of which Open Telekom Cloud's own client makes use: a
	// key derived for day, region and service signs (gophertelekomcloud).
	SignatureOTC = "otc"
)

// signedHeaders are those of a request that its signature covers, where they are
// present, in the order of the alphabet. User-Agent is not among them: proxies rewrite it.
var signedHeaders = []string{"content-type", "host", "x-domain-id", "x-sdk-date", "x-security-token"}

// signer signs requests of one access key.
type signer struct {
	accessKey string
	secret    provider.Secret
	token     provider.Secret
	region    string
	write     func(s signer, at time.Time, headers, hash string) string
}

// Signer signs single requests with the key of a configuration, for those who call the API past the Client.
func Signer(c Config) (transport.Signer, error) { return sign(c) }

// sign returns what signs each attempt with a date of its own.
func sign(c Config) (transport.Signer, error) {
	s := signer{accessKey: c.AccessKey, secret: c.SecretKey, token: c.SecurityToken, region: c.Region}
	switch c.Signature {
	case "", SignatureSDK:
		s.write = signer.access
	case SignatureOTC:
		s.write = signer.credential
	default:
		return nil, fmt.Errorf(
			"signature %q is not known: use %s, or %s for a cloud of the Open Telekom Cloud family",
			c.Signature,
			SignatureSDK,
			SignatureOTC,
		)
	}
	return func(req *http.Request, body []byte) error {
		s.sign(req, body, time.Now())
		return nil
	}, nil
}

func (s signer) sign(req *http.Request, body []byte, at time.Time) {
	at = at.UTC()
	req.Header.Set(headerDate, at.Format(signingDate))
	if s.token != "" {
		req.Header.Set(headerToken, s.token.Reveal())
	}
	canonical, headers := canonicalRequest(req, body)
	req.Header.Set("Authorization", s.write(s, at, headers, hexHash([]byte(canonical))))
}

// access writes Huawei Cloud's own dialect.
func (s signer) access(at time.Time, headers, hash string) string {
	text := strings.Join([]string{algorithm, at.Format(signingDate), hash}, "\n")
	signature := keyedHash([]byte(s.secret.Reveal()), text)
	return fmt.Sprintf("%s Access=%s, SignedHeaders=%s, Signature=%x", algorithm, s.accessKey, headers, signature)
}

// credential writes the older dialect.
func (s signer) credential(at time.Time, headers, hash string) string {
	key := []byte("SDK" + s.secret.Reveal())
	scope := []string{at.Format("20060102"), s.region, service, scopeEnd}
	for _, part := range scope {
		key = keyedHash(key, part)
	}
	text := strings.Join([]string{algorithm, at.Format(signingDate), strings.Join(scope, "/"), hash}, "\n")
	return fmt.Sprintf("%s Credential=%s/%s, SignedHeaders=%s, Signature=%x",
		algorithm, s.accessKey, strings.Join(scope, "/"), headers, keyedHash(key, text))
}

// canonicalRequest is the request in the one form that both sides hash, and the names
// of the headers in it.
func canonicalRequest(req *http.Request, body []byte) (canonical, headers string) {
	var names []string
	var lines strings.Builder
	for _, name := range signedHeaders {
		value := req.Header.Get(name)
		if name == "host" {
			value = req.Host
		}
		if value == "" {
			continue
		}
		names = append(names, name)
		lines.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	headers = strings.Join(names, ";")
	return strings.Join([]string{
		req.Method, canonicalPath(req.URL.Path), canonicalQuery(req.URL.Query()), lines.String(), headers, hexHash(body),
	}, "\n"), headers
}

// canonicalPath always ends in a slash, also where the request's path does not.
func canonicalPath(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		parts[i] = escape(part)
	}
	return strings.TrimSuffix(strings.Join(parts, "/"), "/") + "/"
}

// canonicalQuery is sorted by name and value.
func canonicalQuery(query url.Values) string {
	var pairs []string
	for name, values := range query {
		for _, value := range values {
			pairs = append(pairs, escape(name)+"="+escape(value))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape leaves RFC 3986's unreserved characters alone, and nothing else.
func escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

func hexHash(data []byte) string {
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:])
}

func keyedHash(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text)) // a hash takes everything
	return mac.Sum(nil)
}
