// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package archive

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Whom the store of the tests knows.
const (
	storeRegion, storeKey, storeSecret = "eu-west-2", "AKSTORE", "SKSTORE"
)

var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ` +
	`SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$`)

// s3Refuses judges a request as S3 does, by "Authenticating Requests: Using the Authorization Header" of its reference and apart from
// any SDK; empty: it is signed with the key of the store, host and body included.
func s3Refuses(r *http.Request, body []byte) (why string) {
	parts := authorization.FindStringSubmatch(r.Header.Get("Authorization"))
	if parts == nil || parts[1] != storeKey || parts[3] != storeRegion {
		return "the credential is of another key, region or service: " + r.Header.Get("Authorization")
	}
	day, signed := parts[2], strings.Split(parts[4], ";")
	sum := sha256.Sum256(body)
	sent := r.Header.Get("X-Amz-Content-Sha256")
	if sent != hex.EncodeToString(sum[:]) && (sent != "UNSIGNED-PAYLOAD" || r.TLS == nil) {
		return "the body is not the one whose hash was sent: " + sent
	}
	for _, name := range []string{"host", "x-amz-content-sha256", "x-amz-date"} {
		if !slices.Contains(signed, name) {
			return name + " is not signed"
		}
	}
	var headers strings.Builder
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length": // net/http keeps it elsewhere
			value = r.Header.Get("Content-Length")
		}
		headers.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	canonical := strings.Join([]string{
		r.Method, r.URL.EscapedPath(), strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20"), headers.String(), parts[4], sent,
	}, "\n")
	scope := day + "/" + storeRegion + "/s3/aws4_request"
	hashed := sha256.Sum256([]byte(canonical))
	key := []byte("AWS4" + storeSecret)
	toSign := "AWS4-HMAC-SHA256\n" + r.Header.Get("X-Amz-Date") + "\n" + scope + "\n" + hex.EncodeToString(hashed[:])
	for _, step := range []string{day, storeRegion, "s3", "aws4_request", toSign} {
		mac := hmac.New(sha256.New, key)
		_, _ = io.WriteString(mac, step)
		key = mac.Sum(nil)
	}
	if hex.EncodeToString(key) != parts[5] || !strings.HasPrefix(r.Header.Get("X-Amz-Date"), day) {
		return "the signature is another one"
	}
	return ""
}

func TestTheStoreOfTheTestsJudgesSignatures(t *testing.T) {
	put := func(settings map[string]string) error {
		_, err := new(store).bucket(t, settings).Put(t.Context(), "a folder/ü+~.json", "application/json", func(w io.Writer) error {
			_, err := io.WriteString(w, "{}")
			return err
		})
		return err
	}
	if err := put(nil); err != nil {
		t.Error(err)
	}
	for name, value := range map[string]string{"AWS_SECRET_ACCESS_KEY": "another", "AWS_ACCESS_KEY_ID": "another", "AWS_REGION": "eu-west-1"} {
		if err := put(map[string]string{name: value}); err == nil || !strings.Contains(err.Error(), "SignatureDoesNotMatch") {
			t.Errorf("%s=%s: got %v", name, value, err)
		}
	}
}
