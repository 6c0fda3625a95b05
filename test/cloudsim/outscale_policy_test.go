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
		keepRoot bool
		refused  bool
	}{
		"strictly above every remaining life":     {keys: []KeySpec{{Expires: time.Unix(0, 0)}}, seconds: 3601},
		"equal to a remaining life":               {seconds: 3600, refused: true},
		"below a remaining life":                  {seconds: 60, refused: true},
		"below that of an INACTIVE key of a user": {keys: []KeySpec{{User: "u", Inactive: true, Expires: time.Now().AddDate(50, 0, 0)}}, seconds: 7200, refused: true},
		"while a key has no date":                 {keepRoot: true, seconds: 7200, refused: true},
		"with a trusted session":                  {seconds: 7200, trusted: true},
		"a trusted session without a bound":       {seconds: 0, trusted: true, refused: true},
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
				body := fields("MaxAccessKeyExpirationSeconds", test.seconds, "RequireTrustedEnv", test.trusted)
				if test.refused {
					dated.mustRefuse(t, "UpdateApiAccessPolicy", body, 400, codePolicy)
					return
				}
				dated.mustSucceed(t, "UpdateApiAccessPolicy", body)
				got := dated.mustSucceed(t, "ReadApiAccessPolicy", "{}").ApiAccessPolicy
				if *got != (shownPolicy{test.seconds, test.trusted}) || a.Policy() != Policy(*got) {
					t.Errorf("got %+v", *got)
				}
			})
		})
	}
}
