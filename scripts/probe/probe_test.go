// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// playedOutscale are the two ways in which cloudsim answers each question that has a switch.
var playedOutscale = map[string]struct {
	rules    cloudsim.Rules
	question string
	observed string
}{
	"Rules.ActivationDelay":       {cloudsim.Rules{ActivationDelay: 7 * time.Second}, "A new key signs", "within 10 s"},
	"Rules.ListingDelay":          {cloudsim.Rules{ListingDelay: 7 * time.Second}, "A new key is listed", "within 10 s"},
	"Rules.DeleteActiveUserKeys":  {cloudsim.Rules{DeleteActiveUserKeys: true}, "Deleting an ACTIVE key of a user", accepted},
	"Rules.KeepDateOnUpdate":      {cloudsim.Rules{KeepDateOnUpdate: true}, "An update of the state without a date", "keeps the date"},
	"Rules.UnknownForDeadKeys":    {cloudsim.Rules{UnknownForDeadKeys: true}, "A call with an INACTIVE key", "refused (400, 4120)"},
	"Rules.AnyScopeRegion":        {cloudsim.Rules{AnyScopeRegion: true}, "A signature for another region", accepted},
	"Rules.DryRunRefuses":         {cloudsim.Rules{DryRunRefuses: true}, "A permitted dry run", "refused (412"},
	"Rules.QuotaExceededSpelling": {cloudsim.Rules{QuotaExceededSpelling: true}, "The error of the eleventh key", "QuotaExceeded"},
	"Rules.NoSecureMode":          {cloudsim.Rules{NoSecureMode: true}, "The fields of the access policy", "MaxAccessKeyExpirationSeconds, RequireTrustedEnv"},
	"Rules.PolicyForgets":         {cloudsim.Rules{PolicyForgets: true}, "An update of the policy without one of its fields", "accepted (200)"},
	"Rules.RefuseExpiredDelete":   {cloudsim.Rules{RefuseExpiredDelete: true}, "Deleting an expired key, INACTIVE", refused},
}

func TestOutscale(t *testing.T) {
	t.Run("as assumed, nothing differs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newOutscaleProbe(t, cloudsim.Rules{})
			p.run()
			if strings.Contains(p.table(), "differs:") || strings.Contains(p.table(), "no answer") {
				t.Error(p.table())
			}
			p.mustBeClean()
		})
	})
	for flip, played := range playedOutscale {
		t.Run(flip, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newOutscaleProbe(t, played.rules)
				p.run()
				p.mustDiffer(played.question, played.observed, flip)
				p.mustBeClean()
			})
		})
	}
}

var playedHuawei = map[string]struct {
	rules    cloudsim.HuaweiRules
	question string
	observed string
}{
	"HuaweiRules.UserDelay":           {cloudsim.HuaweiRules{UserDelay: 7 * time.Second}, "A new user is known", "within 10 s"},
	"HuaweiRules.KeyDelay":            {cloudsim.HuaweiRules{KeyDelay: 7 * time.Second}, "A new key is found", "within 10 s"},
	"HuaweiRules.ActivationDelay":     {cloudsim.HuaweiRules{ActivationDelay: 12 * time.Second}, "A new key signs", "within 20 s"},
	"HuaweiRules.RevocationDelay":     {cloudsim.HuaweiRules{RevocationDelay: 7 * time.Second}, "A deleted key is refused", "within 10 s"},
	"HuaweiRules.UnknownUserIs400":    {cloudsim.HuaweiRules{UnknownUserIs400: true}, "The keys of a user that does not exist", "refused (400)"},
	"HuaweiRules.NullErrorCodes":      {cloudsim.HuaweiRules{NullErrorCodes: true}, "The code of that error", "null"},
	"HuaweiRules.InactiveKeyIs401":    {cloudsim.HuaweiRules{InactiveKeyIs401: true}, "A call with an inactive key", "refused (401)"},
	"HuaweiRules.DomainIDOptional":    {cloudsim.HuaweiRules{DomainIDOptional: true}, "A call without X-Domain-Id", accepted},
	"HuaweiRules.OldDialectOnly":      {cloudsim.HuaweiRules{OldDialectOnly: true}, "A signature with \"Access=\"", refused},
	"HuaweiRules.FreeKeyDescriptions": {cloudsim.HuaweiRules{FreeKeyDescriptions: true}, "A key's description with @#", accepted},
	"HuaweiRules.ShortUserNames":      {cloudsim.HuaweiRules{ShortUserNames: true}, "A user name of 40 characters", refused},
}

func TestHuawei(t *testing.T) {
	t.Run("as assumed, nothing differs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newHuaweiProbe(t, cloudsim.HuaweiRules{})
			p.run()
			if strings.Contains(p.table(), "differs:") || strings.Contains(p.table(), "no answer") {
				t.Error(p.table())
			}
			p.mustBeClean()
		})
	})
	for flip, played := range playedHuawei {
		t.Run(flip, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newHuaweiProbe(t, played.rules)
				p.run()
				p.mustDiffer(played.question, played.observed, flip)
				p.mustBeClean()
			})
		})
	}
}

// An account whose policy says something is not asked what it does with half of it.
func TestThePolicyStaysAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newOutscaleProbe(t, cloudsim.Rules{PolicyForgets: true})
		account := p.sim.AddAccount("123456789012")
		policy := cloudsim.Policy{MaxAccessKeyExpirationSeconds: 86_400, RequireTrustedEnv: true}
		account.SetPolicy(policy)
		account.SetPolicyField("Fourth", "false")
		p.run()
		p.mustAnswer("An update of the policy without one of its fields", "not asked: the policy has RequireTrustedEnv set")
		p.mustAnswer("The fields of the access policy", "Fourth, MaxAccessKeyExpirationSeconds, RequireTrustedEnv, RequireTrustedEnvSecureMode")
		p.mustAnswer("A key that the API has made is Trusted", "no")
		p.mustAnswer("The name of a user in capitals is that user", "no")
		if account.Policy() != policy || account.PolicyField("Fourth") != "false" {
			t.Errorf("the policy is now %+v", account.Policy())
		}
	})
}

func TestWhateverHappensItCleansUp(t *testing.T) {
	tests := map[string]func(p *probe) context.Context{
		"after a signal": func(p *probe) context.Context {
			ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Second)
			p.t.Cleanup(cancel)
			return ctx
		},
		"where the answer that made the user is lost": func(p *probe) context.Context {
			p.sim.Order(cloudsim.Fault{Op: "CreateUser", Kind: cloudsim.DropAnswer, Times: 1})
			return p.t.Context()
		},
		"where the cloud fails in the middle, and for a while": func(p *probe) context.Context {
			p.sim.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Skip: 2, Times: 8})
			return p.t.Context()
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newOutscaleProbe(t, cloudsim.Rules{})
				_, _ = p.session.ask(prepare(p), io.Discard)
				p.mustBeClean()
			})
		})
	}
	t.Run("what cannot be removed is named", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newOutscaleProbe(t, cloudsim.Rules{})
			p.sim.Order(cloudsim.Fault{Op: "DeleteUser", Kind: cloudsim.Refuse, Status: http.StatusForbidden})
			_, err := p.session.ask(t.Context(), io.Discard)
			if err == nil || !strings.Contains(err.Error(), "do it by hand") {
				t.Errorf("%v", err)
			}
		})
	})
}

func TestItAsksBeforehand(t *testing.T) {
	environment := map[string]string{"OSC_ACCESS_KEY": "A", "OSC_SECRET_KEY": "S", "OSC_REGION": "eu-west-2", "OSC_ENDPOINT_API": "http://127.0.0.1:1/api/v1"}
	var out strings.Builder
	err := run(t.Context(), func(name string) string { return environment[name] }, strings.NewReader("no\n"), &out)
	if err == nil || !strings.Contains(err.Error(), "nothing was done") || !strings.Contains(out.String(), "it makes one user") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestTheAccountIsNamedByTheEnvironment(t *testing.T) {
	for _, environment := range []map[string]string{
		{},
		{"OSC_ACCESS_KEY": "A", "OSC_SECRET_KEY": "S"},
		{"HW_ACCESS_KEY": "A", "HW_SECRET_KEY": "S"},
		{"OSC_ACCESS_KEY": "A", "OSC_SECRET_KEY": "S", "OSC_REGION": "eu-west-2", "HUAWEICLOUD_SDK_AK": "B"},
	} {
		if _, err := fromEnvironment(func(name string) string { return environment[name] }, nil); err == nil {
			t.Errorf("%v was accepted", environment)
		}
	}
}

func TestTheTableIsTheSameForTheSameAnswers(t *testing.T) {
	rows := []row{
		{question: question{text: "One", assumed: "yes", flip: "Rules.One"}, observed: "no"},
		{question: question{text: "Another", assumed: "yes"}, observed: "yes"},
		{question: question{text: "Third"}, observed: "no answer: x", failed: true},
	}
	want := `question  assumed  observed      differs
--------  -------  --------      -------
One       yes      no            differs: Rules.One
Another   yes      yes
Third     -        no answer: x  ?
`
	if got := table(rows); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// probe is a run against a simulated account.
type probe struct {
	t       *testing.T
	sim     *cloudsim.Cloud
	session *session
	left    func() []string
	rows    []row
	said    strings.Builder
}

func newOutscaleProbe(t *testing.T, rules cloudsim.Rules) *probe {
	t.Helper()
	sim := cloudsim.New(cloudsim.WithRegion("eu-west-2"), cloudsim.WithRules(rules))
	account := sim.AddAccount("123456789012")
	account.AddUser("somebody")
	root := account.RootKey()
	return newProbe(t, sim, account.Users, map[string]string{"OSC_ACCESS_KEY": root.AccessKey, "OSC_SECRET_KEY": root.SecretKey, "OSC_REGION": "eu-west-2"})
}

func newHuaweiProbe(t *testing.T, rules cloudsim.HuaweiRules) *probe {
	t.Helper()
	sim := cloudsim.New(cloudsim.WithHuaweiRules(rules))
	domain := sim.AddDomain("acme")
	domain.AddUser("somebody")
	root := domain.RootKey()
	return newProbe(t, sim, domain.Users, map[string]string{"HW_ACCESS_KEY": root.AccessKey, "HW_SECRET_KEY": root.SecretKey, "HW_REGION_NAME": "ap-southeast-1"})
}

func newProbe(t *testing.T, sim *cloudsim.Cloud, users func() []string, environment map[string]string) *probe {
	t.Helper()
	s, err := fromEnvironment(func(name string) string { return environment[name] }, sim.Transport())
	if err != nil {
		t.Fatal(err)
	}
	return &probe{t: t, sim: sim, session: s, left: users}
}

func (p *probe) run() {
	p.t.Helper()
	var err error
	if p.rows, err = p.session.ask(p.t.Context(), &p.said); err != nil {
		p.t.Fatal(err)
	}
}

func (p *probe) table() string { return table(p.rows) }

func (p *probe) mustAnswer(text, want string) {
	p.t.Helper()
	for _, r := range p.rows {
		if r.text == text && r.observed != want {
			p.t.Errorf("%s: %s, want %s", text, r.observed, want)
		}
		if r.text == text {
			return
		}
	}
	p.t.Errorf("nobody asks %q", text)
}

func (p *probe) mustDiffer(text, observed, flip string) {
	p.t.Helper()
	for _, r := range p.rows {
		if r.text != text {
			continue
		}
		if !strings.HasPrefix(r.observed, observed) || r.verdict() != "differs: "+flip {
			p.t.Errorf("%s: %s, %s", r.text, r.observed, r.verdict())
		}
		return
	}
	p.t.Errorf("nobody asks %q", text)
}

// mustBeClean looks that nothing of the probe is left, and that it showed no secret.
func (p *probe) mustBeClean() {
	p.t.Helper()
	for _, user := range p.left() {
		if strings.HasPrefix(user, userPrefix) {
			p.t.Errorf("user %s is left", user)
		}
	}
	for _, secret := range p.sim.Secrets() {
		if strings.Contains(p.said.String()+p.table(), secret) {
			p.t.Error("a secret was shown")
		}
	}
}
