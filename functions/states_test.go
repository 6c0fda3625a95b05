// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package functions_test

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/handler"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/vault"
)

// state is what of a state these tests look at.
type state struct {
	Type               string
	Next               string
	Resource           string
	TimeoutSeconds     int
	MaxConcurrencyPath string
	ToleratedFailure   float64 `json:"ToleratedFailurePercentage"`
	Retry              []struct {
		ErrorEquals []string
		MaxAttempts int
	}
	ItemProcessor struct{ States map[string]state }
	Parameters    map[string]any
}

// states are all states of the machine, those of its maps included.
func states(t *testing.T) map[string]state {
	t.Helper()
	text, err := os.ReadFile("revoke.asl.json")
	if err != nil {
		t.Fatal(err)
	}
	var machine struct{ States map[string]state }
	if err := json.Unmarshal(text, &machine); err != nil {
		t.Fatal(err)
	}
	all := map[string]state{}
	for name, s := range machine.States {
		all[name] = s
		for inner, s := range s.ItemProcessor.States {
			all[inner] = s
		}
	}
	return all
}

func TestEveryMapOfTheStateMachineIsBounded(t *testing.T) {
	maps := 0
	for name, s := range states(t) {
		if s.Type != "Map" {
			continue
		}
		maps++
		// Without a bound, Step Functions start 10,000 at once. No account that fails ends the run:
		// what all of them would change together is decided on by the function.
		if s.MaxConcurrencyPath != "$.concurrency" || s.ToleratedFailure != 100 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if maps != 2 {
		t.Errorf("%d maps", maps)
	}
}

// TestTheStateMachineStopsAtErrorsThatNoRetryHelps also keeps the names of errors: Lambda
// reports the bare name of a type, and a renamed one would be tried again for nothing.
func TestTheStateMachineStopsAtErrorsThatNoRetryHelps(t *testing.T) {
	names := func(errs ...error) []string {
		var all []string
		for _, err := range errs {
			all = append(all, reflect.TypeOf(err).Elem().Name())
		}
		return all
	}
	final := names(&settings.SettingsRefusedError{}, &handler.EventRefusedError{}, &vault.VaultDeniedError{}, &vault.VaultEmptyError{},
		&run.NoProgressError{}, &run.PlanChangedError{}, &run.NotApprovedError{})
	seldom := names(&fleet.FailedError{}, &run.ReportLostError{}, &run.RunFailedError{})
	parsed, _ := read(t)
	timeout, tasks := parsed.Globals.Function.Timeout, 0
	for name, s := range states(t) {
		if !strings.Contains(s.Resource, "lambda") {
			continue
		}
		tasks++
		if s.TimeoutSeconds <= timeout {
			t.Errorf("%s waits for %d s, and the function runs for %d s", name, s.TimeoutSeconds, timeout)
		}
		for i, retry := range s.Retry {
			for _, one := range retry.ErrorEquals {
				known := slices.Contains(final, one) && retry.MaxAttempts == 0 || slices.Contains(seldom, one) && retry.MaxAttempts == 2
				last := one == "States.ALL" && i == len(s.Retry)-1 && retry.MaxAttempts >= 3
				if !known && !last {
					t.Errorf("%s retries %s %d times", name, one, retry.MaxAttempts)
				}
			}
		}
		if len(s.Retry) < 2 {
			t.Errorf("%s: %+v", name, s.Retry)
		}
	}
	if tasks != 6 {
		t.Errorf("%d steps call the function", tasks)
	}
}

func TestThePlaceholdersOfTheStateMachineAreReplaced(t *testing.T) {
	definition, err := os.ReadFile("revoke.asl.json")
	if err != nil {
		t.Fatal(err)
	}
	parsed, _ := read(t)
	substitutions := parsed.Resources["RevokeStateMachine"].Properties.DefinitionSubstitutions
	for name := range substitutions {
		if !strings.Contains(string(definition), "${"+name+"}") {
			t.Errorf("%s is replaced, and stands nowhere", name)
		}
	}
	rest := string(definition)
	for name := range substitutions {
		rest = strings.ReplaceAll(rest, "${"+name+"}", "")
	}
	if strings.Contains(rest, "${") {
		t.Error("a placeholder is left")
	}
}

// When an approval was given is written down before it counts: the function asks for its age.
func TestTheTimeOfAnApprovalIsKnownBeforeItCounts(t *testing.T) {
	all := states(t)
	var way []string
	for name := "AskApproval"; name != "" && len(way) < 9; name = all[name].Next {
		if way = append(way, name); name == "ApplyAll" {
			break
		}
	}
	if want := []string{"AskApproval", "Answer", "KeepAnswer", "Approve", "ApplyAll"}; !slices.Equal(way, want) {
		t.Errorf("the way is %q, want %q", way, want)
	}
}
