// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

func TestNewRefusesWhatItCannotUse(t *testing.T) {
	cases := map[string]struct {
		config Config
		want   string
	}{
		"no access key": {Config{SecretKey: "SK", Region: "eu-west-2"}, "access_key"},
		"no secret key": {Config{AccessKey: "AK", Region: "eu-west-2"}, "secret_key"},
		"a bad region":  {Config{AccessKey: "AK", SecretKey: "SK", Region: "europe"}, "region"},
		"a bad certificate": {
			Config{AccessKey: "AK", SecretKey: "SK", Region: "eu-west-2", TLS: transport.TLS{CACert: "rubbish"}}, "ca_cert",
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := New(test.config); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want one about %s", err, test.want)
			}
		})
	}
}

func TestTheQuotaIsTenKeys(t *testing.T) {
	if got := newWorld(t).client.KeyQuota(); got != 10 {
		t.Errorf("got %d", got)
	}
}

func TestTheSDKPrintsNothing(t *testing.T) {
	var printed bytes.Buffer // the SDK's Debug would print secret keys
	usual := log.Writer()
	log.SetOutput(&printed)
	defer log.SetOutput(usual)
	w := newWorld(t)
	_, err := w.client.CreateKey(t.Context(), provider.KeySpec{})
	mustDo(t, err)
	if printed.Len() > 0 {
		t.Errorf("%d bytes", printed.Len())
	}
}

func TestRequestsAreSignedForTheConfiguredRegion(t *testing.T) {
	for _, region := range []string{"cloudgouv-eu-west-1", "us-east-2", "eu-west-2"} {
		w := newWorld(t, cloudsim.WithRegion(region))
		w.config.Region = region
		w.client = newClient(t, w.config)
		_, err := w.client.ListKeys(t.Context(), "")
		mustDo(t, err)
		if got := w.cloud.Calls()[0].Scope; got != region {
			t.Errorf("the signature's scope has the region %q, want %q", got, region)
		}
	}
}

func TestNoRequestIsUnsignedOrGoesElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		var mu sync.Mutex
		seen := map[string]int{}
		next := w.config.Base
		w.config.Base = roundTrip(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			seen[r.URL.Scheme+"://"+r.URL.Host+strings.TrimSuffix(r.URL.Path, r.URL.Path[strings.LastIndex(r.URL.Path, "/"):])]++
			if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential="+w.config.AccessKey+"/") {
				t.Errorf("%s leaves unsigned", r.URL.Path)
			}
			if !strings.HasPrefix(r.UserAgent(), "cloudkeys-test osc-sdk-go/") {
				t.Errorf("the user agent is %q", r.UserAgent())
			}
			return next.RoundTrip(r)
		})
		w.client = newClient(t, w.config)
		for name, op := range operations(w) {
			if err := op(t.Context(), w.client); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(seen) != 1 || seen["https://api.eu-west-2.outscale.com/api/v1"] == 0 {
			t.Errorf("requests went to %v", seen)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// toServer returns a client of an endpoint that is no OUTSCALE API.
func toServer(t *testing.T, handler http.Handler, path string) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return newClient(t, Config{
		AccessKey: "AK", SecretKey: "SK", Region: "eu-west-2", Endpoint: server.URL + path,
		Timeout: 5 * time.Second, PerSecond: 100,
	})
}

func TestARedirectIsNeverFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s was sent to another address", r.URL.Path)
	}))
	defer elsewhere.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		client := toServer(t, http.RedirectHandler(elsewhere.URL, code), "/api/v1")
		for range 2 { // nor does it say anything of the key
			_, err := client.CreateKey(t.Context(), provider.KeySpec{})
			mustBeKind(t, err, provider.KindUnreachable)
			if err == nil || !strings.Contains(err.Error(), "redirect") {
				t.Errorf("%d: got %v", code, err)
			}
		}
	}
}

func TestAnEndpointWithoutTheAPIIsNamed(t *testing.T) {
	client := toServer(t, cloudsim.New(), "/elsewhere/api/v1")
	_, err := client.ListKeys(t.Context(), "")
	if err == nil || !strings.Contains(err.Error(), "there is no OUTSCALE API at this endpoint") {
		t.Errorf("got %v", err)
	}
}

func TestAnEndpointThatIsNotServedIsUnreachable(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	client := newClient(t, Config{
		AccessKey: "AK", SecretKey: "SK", Region: "eu-west-2", Endpoint: server.URL + "/api/v1",
		Timeout: 5 * time.Second, PerSecond: 100,
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := client.CreateKey(ctx, provider.KeySpec{})
	mustBeKind(t, err, provider.KindUnreachable)
}

func TestAClientIsNeverPrintedWithItsSecret(t *testing.T) {
	w := newWorld(t)
	w.config.Base = nil // the simulated cloud knows all secrets
	client := newClient(t, w.config)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		for _, value := range []any{client, *client, w.config, &w.config} {
			if strings.Contains(fmt.Sprintf(verb, value), w.config.SecretKey.Reveal()) {
				t.Errorf("%s of %T shows the secret key", verb, value)
			}
		}
	}
}

func TestClosingAClientOfTheNetworkGivesItsConnectionsBack(t *testing.T) {
	cloud := cloudsim.New()
	key := cloud.AddAccount(testAccount).RootKey()
	client, err := New(Config{
		AccessKey: key.AccessKey, SecretKey: provider.Secret(key.SecretKey), Region: "eu-west-2", Endpoint: cloud.Start(t),
		Timeout: 5 * time.Second, PerSecond: 100,
	})
	mustDo(t, err)
	_, err = client.AccessPolicy(t.Context())
	mustDo(t, err)
	client.Close()
	_, err = client.AccessPolicy(t.Context()) // and can be used on
	mustDo(t, err)
}

func TestAKeyOfAnotherRegionIsUnclear(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		elsewhere := cloudsim.New(cloudsim.WithRegion("us-east-2"))
		w.config.Region, w.config.Base = "us-east-2", contract.New(t).Wrap(elsewhere.Transport())
		_, err := newClient(t, w.config).ListKeys(t.Context(), "")
		mustBeKind(t, err, provider.KindKeyUnclear)
	})
}
