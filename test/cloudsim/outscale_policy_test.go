// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAPolicyBoundsTheLifeOfNewKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, root := newCloud()
		a.SetPolicy(Policy{MaxAccessKeyExpirationSeconds: 3600})

		root.mustRefuse(t, "CreateAccessKey", `{}`, 400, codePolicy)
		root.mustRefuse(t, "CreateAccessKey", fields("ExpirationDate", in(time.Hour+time.Millisecond)), 400, codePolicy)
		root.mustRefuse(t, "CreateAccessKey", fields("ExpirationDate", in(0)), 400, codePolicy)
		root.mustSucceed(t, "CreateAccessKey", fields("ExpirationDate", in(time.Hour)))
		root.mustSucceed(t, "CreateAccessKey", fields("ExpirationDate", in(time.Second)))
	})
}

func TestAPolicyIsOnlyTightenedAsFarAsTheKeysAllow(t *testing.T) {
	cases := map[string]struct {
		keys     []KeySpec
		seconds  int64
		trusted  bool
		secure   bool
		keepRoot bool
		refused  bool
	}{
		"strictly above every remaining life":     {keys: []KeySpec{{Expires: time.Unix(0, 0)}}, seconds: 3601},
		"equal to a remaining life":               {seconds: 3600, refused: true},
		"below a remaining life":                  {seconds: 60, refused: true},
		"below that of an INACTIVE key of a user": {keys: []KeySpec{{User: "u", Inactive: true, Expires: time.Now().AddDate(50, 0, 0)}}, seconds: 7200, refused: true},
		"while a key never expires":               {keepRoot: true, seconds: 7200, refused: true},
		"with a trusted session":                  {seconds: 7200, trusted: true},
		"a trusted session without a bound":       {seconds: 0, trusted: true, refused: true},
		"secure mode without trusted sessions":    {seconds: 7200, secure: true, refused: true},
		"no bound":                                {keepRoot: true, seconds: 0},
		"more than a hundred years":               {seconds: 3153600001, refused: true},
		"less than nothing":                       {seconds: -1, refused: true},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, root := newCloud()
				dated := root.as(a.AddKey(KeySpec{Expires: time.Now().Add(time.Hour)}))
				if !test.keepRoot {
					a.DeleteKey(root.creds.AccessKey)
				}
				for _, spec := range test.keys {
					a.AddKey(spec)
				}
				body := fields("MaxAccessKeyExpirationSeconds", test.seconds, "RequireTrustedEnv", test.trusted, "RequireTrustedEnvSecureMode", test.secure)
				if test.refused {
					dated.mustRefuse(t, "UpdateApiAccessPolicy", body, 400, codePolicy)
					return
				}
				dated.mustSucceed(t, "UpdateApiAccessPolicy", body)
				got := dated.mustSucceed(t, "ReadApiAccessPolicy", "{}").ApiAccessPolicy
				want := Policy{test.seconds, test.trusted, test.secure}
				if view := (Policy{got.MaxAccessKeyExpirationSeconds, got.RequireTrustedEnv, got.RequireTrustedEnvSecureMode}); view != want || a.Policy() != want {
					t.Errorf("got %+v", *got)
				}
			})
		})
	}
}

func TestAnUpdateReplacesTheWholePolicy(t *testing.T) {
	whole := fields("MaxAccessKeyExpirationSeconds", 7200, "RequireTrustedEnv", true, "RequireTrustedEnvSecureMode", true, "Fourth", "kept")
	without := fields("MaxAccessKeyExpirationSeconds", 7200, "RequireTrustedEnv", true)
	for name, test := range map[string]struct {
		rules         Rules
		body, refused string
		secure        bool
		fourth        string
	}{
		"all is sent":                        {body: whole, secure: true, fourth: `"kept"`},
		"a part is missing":                  {body: without, refused: codeMissing, fourth: `"before"`},
		"a part is missing, and is set to 0": {rules: Rules{PolicyForgets: true}, body: without},
		"a field of a later API":             {rules: Rules{NoSecureMode: true}, body: whole, refused: codeParameter, fourth: `"before"`},
	} {
		t.Run(name, func(t *testing.T) {
			c, a, root := newCloud()
			c.rules = test.rules
			a.SetPolicyField("Fourth", `"before"`)
			dated := root.as(a.AddKey(KeySpec{Expires: time.Now().Add(time.Hour)}))
			a.DeleteKey(root.creds.AccessKey)
			if test.refused != "" {
				dated.mustRefuse(t, "UpdateApiAccessPolicy", test.body, 400, test.refused)
			} else {
				dated.mustSucceed(t, "UpdateApiAccessPolicy", test.body)
			}
			if a.PolicyField("Fourth") != test.fourth || a.Policy().RequireTrustedEnvSecureMode != test.secure {
				t.Errorf("got %+v and %q", a.Policy(), a.PolicyField("Fourth"))
			}
		})
	}
}

func TestInSecureModeOnlyATrustedKeySigns(t *testing.T) {
	_, a, root := newCloud()
	trusted := root.as(a.AddKey(KeySpec{Trusted: true, Expires: time.Now().Add(time.Hour)}))
	a.SetPolicy(Policy{MaxAccessKeyExpirationSeconds: 7200, RequireTrustedEnv: true, RequireTrustedEnvSecureMode: true})
	trusted.mustSucceed(t, "CreateAccessKey", fields("ExpirationDate", in(time.Hour)))
	root.mustRefuse(t, "CreateAccessKey", fields("ExpirationDate", in(time.Hour)), 401, codeNotAllowed)
	keys := trusted.mustSucceed(t, "ReadAccessKeys", "{}").AccessKeys
	if len(keys) != 3 || !*keys[1].Trusted || *keys[0].Trusted || *keys[2].Trusted {
		t.Errorf("got %+v", keys)
	}
}
