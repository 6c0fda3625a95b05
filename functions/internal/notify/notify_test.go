// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package notify

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

var message = sweep.Message{Account: "prod", Provider: "outscale", User: "deploy", Keys: []sweep.MessageKey{{
	AccessKey: "ABCD…6789", Class: sweep.ClassOverAge, Reason: "old", SwitchedOffFrom: time.Date(2026, 12, 2, 3, 0, 0, 0, time.UTC),
}}}

// served starts a receiver that answers with a status.
func served(t *testing.T, status int) (address string, got *http.Request, body *string) {
	t.Helper()
	got, body = &http.Request{}, new(string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		*got, *body = *r, string(text)
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	return server.URL, got, body
}

func TestAWebhookGetsTheMessageAsJSON(t *testing.T) {
	address, got, body := served(t, http.StatusAccepted)
	if err := To(address, func(string) string { return "" })(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	var m sweep.Message
	if err := json.Unmarshal([]byte(*body), &m); err != nil || !reflect.DeepEqual(m, message) || got.Method != http.MethodPost ||
		got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %s %s, %v", got.Method, *body, err)
	}
}

func TestAMessageThatIsNotAcceptedIsAnError(t *testing.T) {
	for _, status := range []int{http.StatusMovedPermanently, http.StatusForbidden, http.StatusInternalServerError} {
		address, _, _ := served(t, status)
		if err := To(address, func(string) string { return "" })(t.Context(), message); err == nil {
			t.Errorf("HTTP %d passes for accepted", status)
		}
	}
}

func TestATopicGetsASignedPublish(t *testing.T) {
	address, got, body := served(t, http.StatusOK)
	env := map[string]string{
		"AWS_ENDPOINT_URL_SNS": address, "AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK",
		"AWS_REGION": "eu-west-3",
	}
	const arn = "arn:aws:sns:eu-central-1:123456789012:keys"
	if err := To(arn, func(name string) string { return env[name] })(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	signature := got.Header.Get("Authorization")
	if !strings.Contains(signature, "/eu-central-1/sns/aws4_request") || !strings.Contains(*body, "Action=Publish") ||
		!strings.Contains(*body, "keys") {
		t.Errorf("got %s and %s", signature, *body)
	}
}

// The path of a webhook is often all that protects it, and errors end up in reports and logs.
func TestAnErrorDoesNotNameTheWebhook(t *testing.T) {
	err := To("http://127.0.0.1:1/hooks/T0SECRET?key=T0SECRET", func(string) string { return "" })(t.Context(), message)
	if err == nil || strings.Contains(err.Error(), "T0SECRET") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}
