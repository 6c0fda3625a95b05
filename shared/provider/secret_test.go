// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

const plain = "S3CR3TS3CR3TS3CR3TS3CR3TS3CR3TS3CR3TS3CR"

// holder has a secret where structs have them.
type holder struct {
	Name    string
	Secret  Secret
	Pointer *Secret
	List    []Secret
	Map     map[string]Secret
	Key     *IssuedKey
}

func newHolder() holder {
	secret := Secret(plain)
	return holder{
		Name: "deploy", Secret: secret, Pointer: &secret, List: []Secret{secret},
		Map: map[string]Secret{"x": secret}, Key: &IssuedKey{Secret: secret},
	}
}

func mustHide(t *testing.T, how, view string) {
	t.Helper()
	hex := fmt.Sprintf("%x", plain)
	if strings.Contains(view, plain) || strings.Contains(strings.ToLower(view), hex) {
		t.Errorf("%s shows the secret: %s", how, view)
	}
}

func TestASecretIsNeverPrinted(t *testing.T) {
	secret := Secret(plain)
	key := IssuedKey{Key: Key{ID: "AK"}, Secret: secret}
	values := []any{secret, &secret, []Secret{secret}, key, &key, newHolder(), struct{ S any }{secret}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%#q", "%x", "%X", "% x", "%d", "%t", "%c", "%U", "%10.3s"} {
		for _, value := range values {
			mustHide(t, fmt.Sprintf("%s of %T", verb, value), fmt.Sprintf(verb, value))
		}
		if got := fmt.Sprintf(verb, secret); got != "[redacted]" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	mustHide(t, "String", secret.String())
	mustHide(t, "Sprint", fmt.Sprint(secret, key))
	mustHide(t, "Errorf", fmt.Errorf("refused: %v", key).Error())
}

func TestASecretIsNeverLogged(t *testing.T) {
	secret := Secret(plain)
	args := []any{"secret", secret, "key", IssuedKey{Secret: secret}, "holder", newHolder()}
	t.Run("by log/slog", func(t *testing.T) {
		var out bytes.Buffer
		slog.New(slog.NewJSONHandler(&out, nil)).Info("message", args...)
		slog.New(slog.NewTextHandler(&out, nil)).Info("message", args...)
		mustHide(t, "slog", out.String())
		if strings.Count(out.String(), "secret=[redacted]") != 1 || !strings.Contains(out.String(), `"secret":"[redacted]"`) {
			t.Errorf("got %s", out.String())
		}
	})
	for _, asJSON := range []bool{false, true} {
		t.Run(fmt.Sprintf("by hclog with JSON %v", asJSON), func(t *testing.T) {
			var out bytes.Buffer
			hclog.New(&hclog.LoggerOptions{Output: &out, JSONFormat: asJSON}).Info("message", args...)
			mustHide(t, "hclog", out.String())
			if !strings.Contains(out.String(), "[redacted]") {
				t.Errorf("got %s", out.String())
			}
		})
	}
}

func TestASecretIsNeverMarshalled(t *testing.T) {
	inJSON, err := json.Marshal(newHolder())
	if err != nil {
		t.Fatal(err)
	}
	inXML, err := xml.Marshal(IssuedKey{Secret: plain})
	if err != nil {
		t.Fatal(err)
	}
	mustHide(t, "JSON", string(inJSON))
	mustHide(t, "XML", string(inXML))
	if n := strings.Count(string(inJSON), "[redacted]"); n != 5 {
		t.Errorf("got %d secrets redacted in %s, want 5", n, inJSON)
	}
}

func TestRevealIsTheWayToTheValue(t *testing.T) {
	if got := Secret(plain).Reveal(); got != plain {
		t.Errorf("got %q", got)
	}
}

func TestWhatACloudSaysIsMadeFitForAMessage(t *testing.T) {
	clean := Cleaner(Secret(plain), "") // an empty one would stand between any two characters
	for said, want := range map[string]string{
		"":                                   "",
		"no such key":                        "no such key",
		"the key " + plain + " is refused":   "the key [redacted] is refused",
		"a line\nand\x1b[31m a\u202e second": "a line and [31m a  second",
		strings.Repeat("x", MaxSaid):         strings.Repeat("x", MaxSaid),
		strings.Repeat("x", MaxSaid+1):       strings.Repeat("x", MaxSaid) + "…",
		"x" + strings.Repeat("é", MaxSaid):   "x" + strings.Repeat("é", MaxSaid/2-1) + "…", // not half a character
	} {
		if got := clean(said); got != want {
			t.Errorf("%q became %q, want %q", said, got, want)
		}
	}
}
