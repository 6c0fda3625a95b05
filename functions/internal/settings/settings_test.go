// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestWithoutAnySettingARunReports(t *testing.T) {
	sweep, err := ReadSweep(environment(), SweepEvent{})
	if err != nil || sweep.Mode != Report || sweep.Foreign != Report || sweep.AllowEmptyLedger {
		t.Errorf("got %+v and error %v", sweep, err)
	}
	policy, err := ReadPolicySync(environment(), PolicySyncEvent{})
	if err != nil || policy.Mode != Report || policy.AllowLoosen || policy.Shorten || policy.TuneMaxLease {
		t.Errorf("got %+v and error %v", policy, err)
	}
}

func TestEverySettingIsRead(t *testing.T) {
	got, err := ReadSweep(environment(
		"MODE", "enforce", "ACCOUNTS", "a, b", "MIN_AGE", "10m", "GRACE", "0", "QUARANTINE", "3d", "MAX_AGE", "30d", "USED_WITHIN", "1d",
		"FOREIGN", "enforce", "KEEP_USERS", "ci-*,root", "KEEP_KEYS", "AK1", "MAX_KEYS", "7", "MAX_PERCENT", "100", "USER_MAX_KEYS", "5",
		"MAX_EXEMPTION", "30d", "NOTIFY", "https://example.com/keys", "NOTICE", "2d",
		"ALLOW_EMPTY_LEDGER", "true", "WORKERS", "32", "RESERVE", "2s", "REPORT_IDS", "whole",
		"RUN_MAX_KEYS", "70", "RUN_MAX_PERCENT", "3", "TOLERATED_FAILURES", "5", "APPROVAL", "true", "CONCURRENCY", "40",
	), SweepEvent{Phase: PhaseList})
	const day = 24 * time.Hour
	want := Sweep{
		Run:    Run{Mode: Enforce, Accounts: []string{"a", "b"}, Workers: 32, Reserve: 2 * time.Second, ReportIDs: WholeIDs},
		MinAge: 10 * time.Minute, Quarantine: 3 * day, MaxAge: 30 * day, UsedWithin: day,
		Foreign: Enforce, KeepUsers: []string{"ci-*", "root"}, KeepKeys: []string{"AK1"}, MaxKeys: 7, MaxPercent: 100, UserMaxKeys: 5,
		MaxExemption: 30 * day, Notify: "https://example.com/keys", Notice: 2 * day,
		AllowEmptyLedger: true,
		RunMaxKeys:       70, RunMaxPercent: 3, Tolerated: 5, Approval: true, Concurrency: 40,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v\nand error %v", got, want, err)
	}
	policy, err := ReadPolicySync(environment(
		"MODE", "enforce", "ACCOUNTS", "a", "WANTED_MAX", "24h", "POLICY_FLOOR", "6h", "RATCHET", "false", "SHORTEN_KEYS", "true",
		"TUNE_MAX_LEASE", "true", "RESERVE", "3s",
	), PolicySyncEvent{})
	wantPolicy := PolicySync{
		Run: Run{Mode: Enforce, Accounts: []string{"a"}, Workers: 4, Reserve: 3 * time.Second, ReportIDs: MaskedIDs}, Wanted: day,
		Floor: 6 * time.Hour, Shorten: true, TuneMaxLease: true,
	}
	if err != nil || !reflect.DeepEqual(policy, wantPolicy) {
		t.Errorf("got  %+v\nwant %+v\nand error %v", policy, wantPolicy, err)
	}
}

func TestThresholdsOutOfOrderRefuseToStart(t *testing.T) {
	cases := map[string]struct {
		env  []string
		want string
	}{
		"thresholds out of order refuse to start":  {[]string{"MIN_AGE", "2d", "MAX_AGE", "1d"}, "MAX_AGE (24h0m0s) must be longer than MIN_AGE"},
		"equal thresholds are out of order":        {[]string{"MIN_AGE", "1d", "MAX_AGE", "1d"}, "MAX_AGE"},
		"over-age before a use is forgotten":       {[]string{"USED_WITHIN", "91d"}, "USED_WITHIN"},
		"a minimum age below the engine's budgets": {[]string{"MIN_AGE", "1m"}, "MIN_AGE is \"1m\": it must be 5m0s or more"},
		"a percentage above 100": {
			[]string{"MAX_PERCENT", "101"}, "MAX_PERCENT is \"101\": it must be a whole number from 1 to 100",
		},
		"a percentage of nothing":               {[]string{"MAX_PERCENT", "0"}, "MAX_PERCENT"},
		"a percentage with a fraction":          {[]string{"MAX_PERCENT", "12.5"}, "MAX_PERCENT"},
		"an unknown mode":                       {[]string{"MODE", "yes"}, "MODE is \"yes\": it must be report or enforce"},
		"an unknown treatment of foreign keys":  {[]string{"FOREIGN", "delete"}, "FOREIGN"},
		"a number without unit":                 {[]string{"QUARANTINE", "7"}, "QUARANTINE is \"7\": it is no duration"},
		"a negative duration":                   {[]string{"QUARANTINE", "-1h"}, "QUARANTINE"},
		"negative days":                         {[]string{"QUARANTINE", "-1d"}, "QUARANTINE"},
		"days beyond counting":                  {[]string{"MAX_AGE", "999999999d"}, "MAX_AGE"},
		"a regular expression":                  {[]string{"KEEP_USERS", "^app$;db-*"}, "KEEP_USERS"},
		"names between semicolons":              {[]string{"KEEP_USERS", "app;db"}, "KEEP_USERS"},
		"a list in JSON that is none":           {[]string{"KEEP_USERS", "[\"app\""}, "KEEP_USERS"},
		"a list in JSON of what is no name":     {[]string{"KEEP_USERS", "[\"app\", 1]"}, "KEEP_USERS"},
		"an account that leads out of the path": {[]string{"ACCOUNTS", "../config/default"}, "ACCOUNTS"},
		"an account in capitals":                {[]string{"ACCOUNTS", "Prod"}, "ACCOUNTS"},
		"the same account twice":                {[]string{"ACCOUNTS", "a,b,a"}, "ACCOUNTS"},
		"a message over plain http":             {[]string{"NOTIFY", "http://example.com"}, "NOTIFY"},
		"a message to a queue":                  {[]string{"NOTIFY", "arn:aws:sqs:eu-west-3:123456789012:q"}, "NOTIFY"},
		"no notice at all":                      {[]string{"NOTICE", "0"}, "NOTICE"},
		"a pattern that cannot match":           {[]string{"KEEP_USERS", "ci-["}, "KEEP_USERS is \"ci-[\": \"ci-[\" is no pattern"},
		"a yes instead of true":                 {[]string{"ALLOW_EMPTY_LEDGER", "yes"}, "ALLOW_EMPTY_LEDGER"},
		"a run's percentage above 100":          {[]string{"RUN_MAX_PERCENT", "101"}, "RUN_MAX_PERCENT"},
		"more than all failures":                {[]string{"TOLERATED_FAILURES", "101"}, "TOLERATED_FAILURES"},
		"no accounts at once":                   {[]string{"CONCURRENCY", "0"}, "CONCURRENCY"},
		"no workers":                            {[]string{"WORKERS", "0"}, "WORKERS"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := ReadSweep(environment(test.env...), SweepEvent{})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
	policyCases := map[string][]string{
		"a wanted life of parts of a second":   {"WANTED_MAX", "90s500ms"},
		"a wanted life that no key could live": {"WANTED_MAX", "30s"},
		"beyond a hundred years":               {"WANTED_MAX", "900000h"},
		"a wanted life below the floor":        {"WANTED_MAX", "2h"},
		"a floor of nothing":                   {"POLICY_FLOOR", "0"},
		"both directions at once":              {"ALLOW_LOOSEN", "true", "TUNE_MAX_LEASE", "true"},
		"an unknown mode of the sync":          {"MODE", "dry-run"},
	}
	for name, env := range policyCases {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadPolicySync(environment(env...), PolicySyncEvent{}); err == nil || !strings.Contains(err.Error(), env[0]) {
				t.Errorf("got %v, want %s named", err, env[0])
			}
		})
	}
}

func TestTheModeIsOnlyEverLowered(t *testing.T) {
	cases := map[string]struct {
		env   []string
		event string
		want  string // empty: an error
	}{
		"an event without mode leaves it":        {[]string{"MODE", "enforce"}, "", Enforce},
		"an event lowers it":                     {[]string{"MODE", "enforce"}, Report, Report},
		"an event never raises it":               {[]string{"MODE", "report"}, Enforce, ""},
		"an event never raises the default":      {nil, Enforce, ""},
		"an event with an unknown mode":          {[]string{"MODE", "enforce"}, "Enforce", ""},
		"a local run reports":                    {[]string{"MODE", "enforce", "AWS_SAM_LOCAL", "true"}, "", Report},
		"a local run reports whatever the event": {[]string{"MODE", "enforce", "AWS_SAM_LOCAL", "true"}, Enforce, Report},
		"a local run enforces when told twice": {
			[]string{"MODE", "enforce", "AWS_SAM_LOCAL", "true", "ALLOW_LOCAL_ENFORCE", "true"}, "", Enforce,
		},
		"permission alone does not enforce":     {[]string{"AWS_SAM_LOCAL", "true", "ALLOW_LOCAL_ENFORCE", "true"}, "", Report},
		"permission in other words is none":     {[]string{"MODE", "enforce", "AWS_SAM_LOCAL", "true", "ALLOW_LOCAL_ENFORCE", "1"}, "", Report},
		"permission is not needed in the cloud": {[]string{"MODE", "enforce"}, Enforce, Enforce},
		"a local run's event can lower it itself": {
			[]string{"MODE", "enforce", "AWS_SAM_LOCAL", "true", "ALLOW_LOCAL_ENFORCE", "true"}, Report, Report,
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			sweep, err := ReadSweep(environment(test.env...), SweepEvent{Mode: test.event})
			policy, policyErr := ReadPolicySync(environment(test.env...), PolicySyncEvent{Mode: test.event})
			if sweep.Mode != test.want || policy.Mode != test.want || (err == nil) != (test.want != "") || (policyErr == nil) != (err == nil) {
				t.Errorf("got %q and %q, errors %v and %v, want %q", sweep.Mode, policy.Mode, err, policyErr, test.want)
			}
			lowered := err == nil && test.want == Report && slices.Contains(test.env, "enforce")
			if (sweep.ModeWhy != "") != lowered {
				t.Errorf("the reason is %q", sweep.ModeWhy)
			}
		})
	}
}

// With approval asked for, nothing is changed outside the approved run, whoever calls.
func TestASweepOutsideTheApprovedRunReports(t *testing.T) {
	for phase, want := range map[string]string{"": Report, PhasePlan: Enforce, PhaseDecide: Enforce, PhaseApply: Enforce} {
		event := SweepEvent{Phase: phase, Accounts: []string{"a"}, Plans: []string{"x"}}
		got, err := ReadSweep(environment("MODE", "enforce", "APPROVAL", "true", "RUN_MAX_KEYS", "1"), event)
		if err != nil || got.Mode != want || (got.ModeWhy != "") != (want == Report) {
			t.Errorf("phase %q: got %s because %q, and error %v", phase, got.Mode, got.ModeWhy, err)
		}
	}
}

func TestAPatternMayHoldACommaInJSON(t *testing.T) {
	got, err := ReadSweep(environment("KEEP_USERS", `["smith,john1", "ci-*"]`), SweepEvent{})
	if err != nil || !slices.Equal(got.KeepUsers, []string{"smith,john1", "ci-*"}) {
		t.Errorf("got %q and error %v", got.KeepUsers, err)
	}
}

func TestAnEventNamesAccountsAsVaultDoes(t *testing.T) {
	for name, event := range map[string]SweepEvent{
		"one that leads out of the path":   {Accounts: []string{"../config/default"}},
		"the same one twice":               {Accounts: []string{"a", "a"}},
		"one with a slash":                 {Accounts: []string{"a/b"}},
		"an empty one":                     {Accounts: []string{""}},
		"a cursor of an account not swept": {Accounts: []string{"a"}, Resume: map[string]string{"b": "u"}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadSweep(environment(), event); err == nil {
				t.Error("accepted")
			}
			if _, err := ReadPolicySync(environment(), PolicySyncEvent{Accounts: event.Accounts}); err == nil && event.Resume == nil {
				t.Error("accepted by sync-policy")
			}
		})
	}
}

func TestAnEventNarrowsTheAccounts(t *testing.T) {
	got, err := ReadSweep(environment("ACCOUNTS", "a,b"), SweepEvent{Accounts: []string{"b"}})
	if err != nil || !slices.Equal(got.Accounts, []string{"b"}) {
		t.Errorf("got %q and error %v", got.Accounts, err)
	}
	if got, err = ReadSweep(environment(), SweepEvent{Accounts: []string{"b"}}); err != nil || !slices.Equal(got.Accounts, []string{"b"}) {
		t.Errorf("got %q and error %v", got.Accounts, err)
	}
	if _, err = ReadSweep(environment("ACCOUNTS", "a"), SweepEvent{Accounts: []string{"b"}}); err == nil {
		t.Error("an event has widened the accounts")
	}
	if _, err = ReadPolicySync(environment("ACCOUNTS", "a"), PolicySyncEvent{Accounts: []string{"b"}}); err == nil {
		t.Error("an event has widened the accounts")
	}
}

func TestADigestTellsSettingsApart(t *testing.T) {
	digests := map[string]bool{}
	for _, quarantine := range []time.Duration{0, time.Hour, time.Hour} {
		digest, err := Digest(Sweep{Quarantine: quarantine})
		if err != nil || len(digest) != 12 {
			t.Fatalf("got %q and error %v", digest, err)
		}
		digests[digest] = true
	}
	if len(digests) != 2 {
		t.Errorf("got %v", digests)
	}
}

// To write the file anew after a change of the tables, copy what the test prints.
func TestTheDocumentedTableIsTheOneThatIsObeyed(t *testing.T) {
	documented, err := os.ReadFile("../../../docs/functions-settings.md")
	if err != nil {
		t.Fatal(err)
	}
	if got := Table(); got != string(documented) {
		t.Errorf("docs/functions-settings.md should read:\n%s", got)
	}
}

func TestEverySettingIsDocumentedOnce(t *testing.T) {
	sweep, policy := Names()
	for _, all := range [][]string{sweep, policy} {
		if sorted := slices.Sorted(slices.Values(all)); len(slices.Compact(sorted)) != len(all) {
			t.Errorf("a setting stands twice in %q", all)
		}
	}
}

func TestAnAddressThatIsRefusedIsNotRepeated(t *testing.T) {
	_, err := ReadSweep(environment("NOTIFY", "https://user:T0SECRET@example.com"), SweepEvent{})
	if err == nil || strings.Contains(err.Error(), "T0SECRET") || !strings.HasPrefix(err.Error(), "NOTIFY: ") {
		t.Errorf("got %v", err)
	}
}
