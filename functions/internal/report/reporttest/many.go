// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package reporttest

import (
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// Now is when the made-up runs begin.
var Now = time.Date(2026, 11, 29, 2, 0, 7, 0, time.UTC)

// About is what the made-up runs say of themselves.
var About = report.About{Function: "revoke-expired-keys", Version: "v1.2.3", RunID: "2026-11-29T02:00:00Z", Digest: "0123456789ab"}

// Hostile are names that must stay text.
func Hostile() []string {
	return []string{
		Script, `"><img src=x onerror="document.title='hacked'">`, "</script><script>document.title='hacked'</script>", "<!--<script>",
		"=HYPERLINK(\"http://evil\")", "\u202egnp.exe", strings.Repeat("w", 64), "a&amp;b", "${alert(1)}",
		strings.Repeat("300 letters ", 25), strings.Repeat("W", 300), "dep\u200bloy", "a\u2028b\u2029c", `{"a":"]}","__proto__":[1]}`,
		"נפרס דפלוי (א) ;=1+1",
		"../../etc/passwd", "déploiement 部署",
	}
}

// Keys makes n keys of every class and outcome, a few to a user, as a run of an account finds them.
func Keys(account, mode string, n int) iter.Seq2[sweep.Finding, error] {
	return func(yield func(sweep.Finding, error) bool) {
		for i := range n {
			if !yield(key(account, mode, i, n), nil) {
				return
			}
		}
	}
}

func key(account, mode string, i, n int) sweep.Finding {
	const day = 24 * time.Hour
	hash := uint64(i+1) * 0x9E3779B97F4A7C15
	pick := func(of uint64) int {
		hash = hash*6364136223846793005 + 1442695040888963407
		return int((hash >> 33) % of)
	}
	hostile := Hostile()
	user := fmt.Sprintf("%s-%05d", []string{"deploy", "backup", "ci-runner", "terraform", "monitoring"}[pick(5)], pick(uint64(n/4+3)))
	if i%11 == 3 {
		user = hostile[(i/11)%len(hostile)]
	}
	if n < 1000 && i%5 == 2 { // so that a page of few keys has them all
		user = hostile[(i/5)%len(hostile)]
	}
	f := sweep.Finding{
		Account: account, AccessKey: fmt.Sprintf("AK%018d", i), User: user, Active: pick(5) > 0,
		Created: Now.Add(-time.Duration(pick(900*24)+1) * time.Hour), Expires: Now.Add(time.Duration(pick(400)-60) * day),
	}
	switch kind := pick(20); {
	case i == 0:
		f.User, f.Class, f.Reason, f.Action = "", sweep.ClassOwn, "signs the calls of this run", sweep.ActionKeep
	case kind < 2:
		f.Class, f.Reason, f.Action = sweep.ClassOrphan, "made by the secrets engine, and its ledger has no such key", sweep.ActionDeactivate
		f.Used = Now.Add(-time.Duration(pick(300)+40) * day)
	case kind < 3:
		f.Class, f.Reason, f.Action = sweep.ClassExpired, "created by the secrets engine, expired since 2026-10-02", sweep.ActionRemove
		f.Expires = Now.Add(-58 * day)
	case kind < 5:
		f.Class, f.Action, f.Expires = sweep.ClassNoExpiration, sweep.ActionFlag, time.Time{}
		f.Reason = "never expires, although the account's access policy demands an expiration date"
	case kind < 6:
		f.Class, f.Action, f.Active = sweep.ClassOrphan, sweep.ActionWait, false
		f.Reason = "made by the secrets engine, and its ledger has no such key: switched off, in quarantine until 2026-12-04T02:00:00Z"
	case kind < 7:
		f.Class, f.Action = sweep.ClassExempt, sweep.ActionFlag
		f.Reason = "its tag says: keep until 2099-12-31, and MAX_EXEMPTION (365 days) until 2027-05-01"
	case kind < 13:
		f.Class, f.Reason, f.Action = sweep.ClassLeased, `leased by the role "deploy"`, sweep.ActionKeep
	case kind < 15:
		f.Class, f.Reason, f.Action = sweep.ClassYoung, "younger than MIN_AGE", sweep.ActionKeep
		f.Created = Now.Add(-time.Duration(pick(50)+1) * time.Minute)
	default:
		f.Class, f.Reason, f.Action = sweep.ClassForeign, "not made by the secrets engine", sweep.ActionKeep
		if pick(3) == 0 {
			f.Expires = time.Time{}
		}
	}
	switch i % 1009 { // dates that no clock of ours would give
	case 5:
		f.Created = time.Time{}
	case 6:
		f.Created, f.Expires = Now.Add(90*day), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	case 7:
		f.Created = time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)
	}
	if f.Action.Changes() {
		f.Outcome = sweep.OutcomePlanned
		if mode == settings.Enforce {
			f.Outcome = sweep.OutcomeDeactivated
			if f.Action == sweep.ActionRemove {
				f.Outcome = sweep.OutcomeDeleted
			}
			switch pick(12) {
			case 0:
				f.Outcome, f.Detail = sweep.OutcomeFailed, "OUTSCALE answered 503 to DeleteAccessKey (request "+
					"7f3a9d0c-5b2e-4f55-9a5e-3b0a1f2c4d5e): the service is not available"
			case 1:
				f.Outcome, f.Detail = sweep.OutcomeDrifted, "it has changed since the plan"
			}
		}
	}
	return f
}

// Account is a made-up account with n keys.
func Account(name, mode string, n int) report.Account {
	result := sweep.AccountResult{
		Account: name, Provider: "outscale", AccountID: "123456789012", Region: "eu-west-2", Mount: "outscale", Instance: "INSTANCEAAAAAAAA",
		Unseen: "the keys of the account itself (root) were not seen: this cloud does not list them to a user's key",
	}
	a := report.Account{
		About: About, Mode: mode, Started: Now, Took: 12345 * time.Millisecond, Result: result, Findings: Keys(name, mode, n),
	}
	if mode == settings.Report {
		a.ModeWhy = "the event asks for it"
	}
	return a
}

// Index is a made-up run over accounts in every state.
func Index(mode string, accounts int) report.Index {
	x := report.Index{About: About, Mode: mode, Started: Now, Took: 83 * time.Second, Unmatched: []string{"KEEP_USERS ^app$"}}
	for i := range accounts {
		name := fmt.Sprintf("account-%05d", i)
		switch i {
		case 0:
			name = "production"
		case 1:
			name = Script
		default:
			if hostile := Hostile(); i >= 9 && i < 9+len(hostile) {
				name = hostile[i-9]
			}
		}
		s := report.Sum{
			Account: name, Provider: "outscale", AccountID: fmt.Sprintf("%012d", 123456789012+i), Region: "eu-west-2", Started: Now, Reached: true,
			Seen: 40 + i%60, NeverExpires: i % 5, LastGood: Now.Add(-24 * time.Hour),
		}
		switch i % 9 {
		case 1:
			s.Look, s.Planned = 3, 2
		case 2:
			s.Planned, s.PlannedByClass = 31, map[sweep.Class]int{sweep.ClassOrphan: 30, sweep.ClassExpired: 1}
			s.Tripped = "the plan changes 31 keys, and MAX_KEYS is 20"
		case 3:
			s.Problem = `account "` + name + `": opening it: the cloud refuses the key (AccessDenied, request 7f3a9d0c-5b2e-4f55): see ` +
				`the role of the functions`
		case 4:
			s.Planned, s.SwitchedOff, s.Deleted, s.PlannedByClass = 3, 2, 1, map[sweep.Class]int{sweep.ClassOrphan: 2, sweep.ClassExpired: 1}
		case 5:
			s.Planned, s.Failed = 2, 2
		case 6:
			s.Reached, s.Seen, s.NeverExpires, s.LastGood = false, 0, 0, time.Time{}
		}
		if mode == settings.Report {
			s.SwitchedOff, s.Deleted = 0, 0
		}
		x.Sums = append(x.Sums, s)
	}
	if mode == settings.Enforce {
		x.Verdict = "the plans of all accounts are allowed together"
		x.Approval = &report.Approval{
			Asked: Now.Add(time.Minute), Answered: Now.Add(7 * time.Hour),
			Answer: `Jane Doe, change CHG-4711 <script>document.title='hacked'</script>`,
		}
	}
	return x
}

// Policy is a made-up policy sync over accounts with n keys each.
func Policy(mode string, n int) report.Policy {
	const day = 24 * time.Hour
	r := policysync.Result{Mode: mode, Started: Now, Took: 9 * time.Second, Tuned: 9 * day}
	for i, action := range []policysync.Action{
		policysync.ActionRatchet, policysync.ActionBlocked, policysync.ActionTighten, policysync.ActionNone, policysync.ActionReport,
		policysync.ActionNone,
	} {
		a := policysync.AccountResult{
			Account: []string{"production", "legacy", "staging", "sandbox", "huawei-eu", "broken"}[i], Provider: "outscale",
			AccountID: "123456789012", Region: "eu-west-2",
			Before: 100 * day, Wanted: 10 * day, After: 100 * day, Action: action,
		}
		switch action {
		case policysync.ActionRatchet:
			a.After, a.Reason = 64*day+time.Minute, "keys live longer than the wanted 240h: the policy is lowered as far as they allow"
		case policysync.ActionBlocked:
			a.Reason = "3 keys never expire, and a policy demands an expiration date of every key"
		case policysync.ActionTighten:
			a.After, a.Reason = 10*day, "no key lives longer than wanted"
		case policysync.ActionReport:
			a.Provider, a.Before, a.Wanted, a.After = "huawei", 0, 0, 0
			a.Reason = "this cloud has no access policy and ends no key by itself: the account's max_ttl bounds the leases"
		default:
			a.Before, a.After, a.Reason = 10*day, 10*day, "the policy is what is wanted"
			if a.Account == "broken" {
				a.Problem = `account "broken": opening it: the cloud refuses the key`
			}
		}
		if n > 0 && action != policysync.ActionReport && a.Problem == "" {
			fillPolicy(&a, n)
		}
		r.Accounts = append(r.Accounts, a)
	}
	return report.Policy{About: report.About{
		Function: "sync-policy", Version: "v1.2.3", RunID: About.RunID,
		Digest: "ba9876543210",
	}, Result: r}
}

func fillPolicy(a *policysync.AccountResult, n int) {
	const day = 24 * time.Hour
	blocked := a.Action == policysync.ActionRatchet || a.Action == policysync.ActionBlocked
	for i := range n {
		left := time.Duration(i*37%9+1) * day
		if blocked && i%3 == 0 {
			left = time.Duration(i*53%54+11) * day
		}
		group, inTheWay := policysync.LifeGroup(left), left > a.Wanted
		expires := Now.Add(left)
		if a.Action == policysync.ActionBlocked && i%9 == 0 {
			group, inTheWay, expires = 8, true, time.Time{}
		}
		a.Lives.Keys[group]++
		if !inTheWay {
			continue
		}
		a.Lives.InTheWay[group]++
		if a.BlockerCount++; len(a.Blockers) < 100 {
			a.Blockers = append(a.Blockers, policysync.Blocker{
				AccessKey: fmt.Sprintf("AK%018d", i), User: append(Hostile(), "backup", "ci-runner")[i%11], Active: i%4 > 0, Expires: expires,
				Reason: "it lives until 2027-01-12T02:00:07Z, longer than the wanted 240h", Advice: "ask its owner to give it an earlier " +
					"date, or to delete it",
			})
		}
	}
}

// Refused are the keys of an account whose plan is over a cap.
func Refused(account string, n int) iter.Seq2[sweep.Finding, error] {
	return func(yield func(sweep.Finding, error) bool) {
		for f, err := range Keys(account, settings.Report, n) {
			if f.Action.Changes() {
				f.Outcome = sweep.OutcomeRefused
			}
			if !yield(f, err) {
				return
			}
		}
	}
}
