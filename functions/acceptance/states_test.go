// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/run"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// machine is RevokeStateMachine of template.yaml, executed by moto.
type machine struct {
	*cloudOfFunctions
	fleet    *fleet
	arn      string
	approval string
}

// newMachine executes the definition with the waits before a retry cut short, and with what replaced names replaced besides.
func newMachine(t testing.TB, f *fleet, environments int, settings map[string]string, replaced ...string) *machine {
	t.Helper()
	env := f.environment()
	env["REPORT_BUCKET"], env["RUN_MAX_PERCENT"], env["RUN_MAX_KEYS"], env["CONCURRENCY"] = "reports", "100", "100000",
		strconv.Itoa(environments)
	maps.Copy(env, settings)
	m := &machine{cloudOfFunctions: newCloudOfFunctions(t, environments, env), fleet: f}
	m.approval = m.queue("approval", nil)
	definition, err := os.ReadFile("../revoke.asl.json")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(append(replaced, "${Partition}", "aws", "${FunctionArn}",
		"arn:aws:lambda:"+awsRegion+":123456789012:function:revoke", "${Bucket}", "reports",
		"${ApprovalQueueUrl}", m.approval, `"IntervalSeconds": 30`, `"IntervalSeconds": 1`, `"IntervalSeconds": 10`,
		`"IntervalSeconds": 1`)...).Replace(string(definition))
	m.post("/moto-api/config", map[string]any{"stepfunctions": map[string]any{"execute_state_machine": true}})
	var made struct{ StateMachineArn string }
	m.call("states", "CreateStateMachine", map[string]any{
		"name": "revoke", "definition": text, "roleArn": "arn:aws:iam::123456789012:role/revoke", "type": "STANDARD",
	}, &made)
	m.arn = made.StateMachineArn
	m.open()
	return m
}

// execution is what DescribeExecution tells.
type execution struct{ Status, Output, Error, Cause string }

func (m *machine) start(input string) (arn string) {
	m.t.Helper()
	var started struct{ ExecutionArn string }
	m.call("states", "StartExecution", map[string]any{"stateMachineArn": m.arn, "name": "run-1", "input": input}, &started)
	return started.ExecutionArn
}

// wait returns an execution when it has ended.
func (m *machine) wait(arn string, limit time.Duration) execution {
	m.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(limit); ; {
		var e execution
		m.call("states", "DescribeExecution", map[string]any{"executionArn": arn}, &e)
		if e.Status != "RUNNING" {
			return e
		}
		select {
		case <-tick.C:
		case <-end:
			m.t.Fatalf("the execution has not ended after %s", limit)
		}
	}
}

// mustHideSecrets searches the history of an execution, and what the function has written,
// for secrets and whole ids of keys.
func (m *machine) mustHideSecrets(arn string) {
	m.t.Helper()
	var history struct{ Events []json.RawMessage }
	m.call("states", "GetExecutionHistory", map[string]any{"executionArn": arn, "maxResults": 1000}, &history)
	if len(history.Events) < 5 {
		m.t.Errorf("the history has %d events", len(history.Events))
	}
	text := m.written()
	for _, event := range history.Events {
		text += string(event)
	}
	hidden := append(m.fleet.sim.Secrets(), fleetToken, m.env["VAULT_SECRET_ID"])
	for _, member := range m.fleet.members {
		hidden = append(hidden, member.leased, member.foreign, member.own.AccessKey)
		if member.orphan != "" {
			hidden = append(hidden, member.orphan)
		}
	}
	for _, secret := range hidden {
		if strings.Contains(text, secret) {
			m.t.Errorf("%s shows in the history, or in the log", secret)
			return
		}
	}
}

func (m *machine) verdict() run.Verdict {
	m.t.Helper()
	text, err := m.invoke(`{"phase": "decide", "run_id": "run-1"}`)
	if err != nil {
		m.t.Fatal(err)
	}
	return decode[run.Verdict](m.t, text)
}

func TestAStateMachineSweeps2000AccountsOnceEach(t *testing.T) {
	t.Parallel()
	const accounts, orphans = 2000, 500
	f := newFleetWith(t, accounts, accounts/orphans)
	m := newMachine(t, f, 3, nil)
	began := time.Now()
	arn := m.start(`{}`)
	if got := m.wait(arn, 10*time.Minute); got.Status != "SUCCEEDED" {
		t.Fatalf("got %+v", got)
	}
	t.Logf("%d accounts in %s", accounts, time.Since(began))
	f.mustBeSwept(every)
	f.mustHaveLeased()
	if deletions := f.sim.CountCalls("DeleteAccessKey"); deletions != orphans {
		t.Errorf("%d keys were deleted by %d calls", orphans, deletions)
	}
	m.mustHideSecrets(arn)
}

func TestABreakerOverAllAccountsChangesNothing(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]map[string]string{
		"by their number": {"RUN_MAX_KEYS": "39"},
		"by their share":  {"RUN_MAX_PERCENT": "16"}, // one of six in each account
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 40)
			m := newMachine(t, f, 2, settings)
			arn := m.start(`{}`)
			got := m.wait(arn, 5*time.Minute)
			if got.Status != "FAILED" || got.Error != "BreakerTripped" || !strings.Contains(got.Cause, "RUN_MAX_") {
				t.Errorf("got %+v", got)
			}
			f.mustBeSwept(none)
			if n := f.sim.CountCalls("UpdateAccessKey") + f.sim.CountCalls("DeleteAccessKey"); n != 0 {
				t.Errorf("%d calls changed keys", n)
			}
			if items := m.moto.object(t, "s3://reports/runs/run-1/changes.json"); strings.TrimSpace(items) != "[]" {
				t.Errorf("the items to apply are %s", items)
			}
			m.mustHideSecrets(arn)
		})
	}
}

func TestAnExecutionThatIsToReportChangesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 5)
	m := newMachine(t, f, 2, nil)
	got := m.wait(m.start(`{"mode": "report"}`), 5*time.Minute)
	if verdict := decode[run.Verdict](t, got.Output); got.Status != "SUCCEEDED" || verdict.Verdict != run.VerdictReport ||
		verdict.Planned != 5 {
		t.Errorf("got %+v", got)
	}
	f.mustBeSwept(none)
}

func TestAPersonDecides(t *testing.T) {
	t.Parallel()
	for operation, test := range map[string]struct {
		status string
		swept  func(*member) bool
	}{
		"SendTaskSuccess": {"SUCCEEDED", every},
		"SendTaskFailure": {"FAILED", none},
	} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 5)
			m := newMachine(t, f, 2, map[string]string{"APPROVAL": "true"})
			arn := m.start(`{}`)
			asked := m.mustAsk()
			f.mustBeSwept(none)
			answer := map[string]any{"taskToken": asked.TaskToken, "output": `{"approved_by": "Jane Doe"}`}
			if operation == "SendTaskFailure" {
				answer = map[string]any{"taskToken": asked.TaskToken, "error": "Rejected", "cause": "too many"}
			}
			m.call("states", operation, answer, nil)
			if got := m.wait(arn, 5*time.Minute); got.Status != test.status ||
				got.Status == "FAILED" && (got.Error != "NotApproved" || !strings.Contains(got.Cause, "Rejected")) {
				t.Errorf("got %+v", got)
			}
			f.mustBeSwept(test.swept)
			if len(asked.Verdict.Lines) != 5 {
				t.Errorf("the approver is told %q", asked.Verdict.Lines)
			}
			page := m.kept(asked.Verdict.Page)
			if approved := strings.Contains(page, "nobody has checked it: <q>Jane Doe</q>"); approved != (test.status == "SUCCEEDED") {
				t.Errorf("the run's page is %s", page)
			}
			// The emulator keeps the cause of a failure to itself.
			if refused := strings.Contains(page, "nobody has checked it: <q>Rejected"); refused != (test.status == "FAILED") {
				t.Errorf("the run's page is %s", page)
			}
			if strings.Contains(page, "This run is not over, or it ended early") || strings.Contains(page, "A person was asked on") ||
				!strings.Contains(page, `href="./account-00000.html"`) {
				t.Errorf("the run's page is %s", page)
			}
			if asked.Verdict.Planned != 5 || asked.Verdict.Changing != 5 || asked.Verdict.Accounts != 5 {
				t.Errorf("asked %+v", asked)
			}
		})
	}
}

// TestNobodyAnswersInTime has a person be asked for three seconds. The execution must not take the timeout's own name for its error:
// names that begin with States. are not allowed there.
func TestNobodyAnswersInTime(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	m := newMachine(t, f, 2, map[string]string{"APPROVAL": "true"}, `"TimeoutSeconds": 43200`, `"TimeoutSeconds": 3`)
	arn := m.start(`{}`)
	asked := m.mustAsk()
	if got := m.wait(arn, 5*time.Minute); got.Status != "FAILED" || got.Error != "NotApproved" ||
		!strings.Contains(got.Cause, "States.Timeout") {
		t.Errorf("got %+v", got)
	}
	f.mustBeSwept(none)
	if page := m.kept(asked.Verdict.Page); !strings.Contains(page, "Nobody approved:") ||
		strings.Contains(page, "This run is not over, or it ended early") {
		t.Errorf("the run's page is %s", page)
	}
}

// TestOneBadAccountOfThreeStopsNobodyElse has a third of the accounts fail, which is over any share that a map tolerates by itself, and
// over what an operator may say is too many.
func TestOneBadAccountOfThreeStopsNobodyElse(t *testing.T) {
	t.Parallel()
	for tolerated, want := range map[string]execution{"": {Status: "SUCCEEDED"}, "33": {Status: "FAILED", Error: "BreakerTripped"}} {
		t.Run("tolerated failures "+tolerated, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 3)
			bad := f.members[1]
			f.sim.Order(cloudsim.Fault{Op: "ReadUsers", Account: bad.account.ID(), Kind: cloudsim.Refuse, Status: 400})
			m := newMachine(t, f, 2, map[string]string{"TOLERATED_FAILURES": tolerated})
			got := m.wait(m.start(`{}`), 5*time.Minute)
			if got.Status != want.Status || got.Error != want.Error || (want.Error != "") != strings.Contains(got.Cause, "TOLERATED_FAILURES") {
				t.Errorf("got %+v", got)
			}
			f.mustBeSwept(func(m *member) bool { return m != bad && want.Error == "" })
			if got := m.verdict(); got.Failed != 1 || got.Accounts != 3 || got.Changing != 2 {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// question is what a person is asked.
type question struct {
	TaskToken string `json:"task_token"`
	Verdict   run.Verdict
}

func (m *machine) mustAsk() question {
	m.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(5 * time.Minute); ; {
		var answer struct{ Messages []struct{ Body string } }
		m.call("sqs", "ReceiveMessage", map[string]any{"QueueUrl": m.approval}, &answer)
		if len(answer.Messages) > 0 {
			return decode[question](m.t, answer.Messages[0].Body)
		}
		select {
		case <-tick.C:
		case <-end:
			m.t.Fatal("nobody was asked")
		}
	}
}

// TestAStateMachineGoesOn has one account that nobody can plan, and environments that are
// killed: one that plans, one in the middle of a change.
func TestAStateMachineGoesOn(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 30)
	poisoned, planned, applied := f.members[7], f.members[11], f.members[22]
	f.sim.Order(cloudsim.Fault{Op: "ReadUsers", Account: poisoned.account.ID(), Kind: cloudsim.Refuse, Status: 400})
	m := newMachine(t, f, 2, nil)
	kills := f.killOnce(m.cloudOfFunctions, map[*member]string{planned: "ReadUsers", applied: "DeleteAccessKey"})
	arn := m.start(`{}`)
	if got := m.wait(arn, 5*time.Minute); got.Status != "SUCCEEDED" {
		t.Errorf("got %+v", got)
	}
	if kills.Load() != 2 {
		t.Errorf("%d environments were killed", kills.Load())
	}
	f.mustBeSwept(func(m *member) bool { return m != poisoned })
	if got := m.verdict(); got.Failed != 1 || got.Accounts != 30 {
		t.Errorf("got %+v", got)
	}
	m.mustHideSecrets(arn)
}

// killOnce ends the environment that first makes such a call for a member, before the cloud
// does what it asks for.
func (f *fleet) killOnce(c *cloudOfFunctions, where map[*member]string) *atomic.Int64 {
	kills := &atomic.Int64{}
	var once sync.Map
	f.sim.OnCall(func(call cloudsim.Call) {
		for m, op := range where {
			if call.Account != m.account.ID() || call.Op != op {
				continue
			}
			if _, done := once.LoadOrStore(m, true); !done {
				c.killWhere(m.name)
				kills.Add(1)
			}
		}
	})
	return kills
}

// TestALargeAccountIsPlannedInParts has more users than can be looked at in the time of one
// invocation.
func TestALargeAccountIsPlannedInParts(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	large := f.members[1]
	var orphans []string
	for i := range 140 {
		user := fmt.Sprintf("user-%03d", i)
		large.account.AddUser(user)
		orphans = append(orphans, large.account.AddKey(cloudsim.KeySpec{
			User: user, Tag: keylabel.New(fleetInstance, keylabel.KindLease).String(), Created: time.Now().Add(-3 * time.Hour),
		}).AccessKey)
	}
	f.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Account: large.account.ID(), Kind: cloudsim.Delay, Delay: 100 * time.Millisecond})
	m := newMachine(t, f, 2, map[string]string{
		"AWS_LAMBDA_FUNCTION_TIMEOUT": "18", "RESERVE": "8s", "WORKERS": "1", "MAX_PERCENT": "100",
		"MAX_KEYS": "1000",
	})
	if got := m.wait(m.start(`{}`), 5*time.Minute); got.Status != "SUCCEEDED" {
		t.Fatalf("got %+v", got)
	}
	f.mustBeSwept(every)
	for _, id := range orphans {
		if _, left := large.account.Key(id); left {
			t.Error("an orphan is left")
		}
	}
	if second := m.moto.object(t, "s3://reports/runs/run-1/plans/"+large.name+"/1.json"); second == "" {
		t.Error("the account was planned in one part")
	}
}
