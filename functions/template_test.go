// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package functions_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/accounts"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/metrics"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/vault"
)

// The functions, by their logical ids.
const (
	revokeID = "RevokeExpiredKeysFunction"
	syncID   = "SyncPolicyFunction"
)

// template is what of template.yaml these tests look at. Values with CloudFormation's own
// tags (!Ref and the like) stay nodes.
type template struct {
	Parameters map[string]struct {
		Default       string   `yaml:"Default"`
		AllowedValues []string `yaml:"AllowedValues"`
		MaxLength     int      `yaml:"MaxLength"`
		Pattern       string   `yaml:"AllowedPattern"`
	} `yaml:"Parameters"`
	Globals struct {
		Function struct {
			Timeout     int         `yaml:"Timeout"`
			Environment environment `yaml:"Environment"`
		} `yaml:"Function"`
	} `yaml:"Globals"`
	Resources map[string]struct {
		Type      string `yaml:"Type"`
		Condition string `yaml:"Condition"`
		Metadata  struct {
			BuildMethod string `yaml:"BuildMethod"`
		} `yaml:"Metadata"`
		Properties struct {
			Namespace        string `yaml:"Namespace"`
			MetricName       string `yaml:"MetricName"`
			TreatMissingData string `yaml:"TreatMissingData"`
			Metrics          []struct {
				ID         string `yaml:"Id"`
				Expression string `yaml:"Expression"`
				MetricStat struct {
					Metric struct {
						Namespace  string `yaml:"Namespace"`
						MetricName string `yaml:"MetricName"`
					} `yaml:"Metric"`
					Stat   string `yaml:"Stat"`
					Period int    `yaml:"Period"`
				} `yaml:"MetricStat"`
			} `yaml:"Metrics"`
			Statistic          string    `yaml:"Statistic"`
			Period             int       `yaml:"Period"`
			EvaluationPeriods  yaml.Node `yaml:"EvaluationPeriods"`
			DatapointsToAlarm  yaml.Node `yaml:"DatapointsToAlarm"`
			Threshold          float64   `yaml:"Threshold"`
			ComparisonOperator string    `yaml:"ComparisonOperator"`
			AlarmActions       yaml.Node `yaml:"AlarmActions"`
			DashboardBody      string    `yaml:"DashboardBody"`

			DefinitionSubstitutions map[string]yaml.Node `yaml:"DefinitionSubstitutions"`

			Role                yaml.Node `yaml:"Role"`
			PermissionsBoundary yaml.Node `yaml:"PermissionsBoundary"`

			Environment environment `yaml:"Environment"`
		} `yaml:"Properties"`
	} `yaml:"Resources"`
	Outputs map[string]yaml.Node `yaml:"Outputs"`
}

type environment struct {
	Variables map[string]yaml.Node `yaml:"Variables"`
}

func read(t *testing.T) (template, string) {
	t.Helper()
	text, err := os.ReadFile("../template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var parsed template
	if err := yaml.Unmarshal(text, &parsed); err != nil {
		t.Fatal(err)
	}
	return parsed, string(text)
}

func TestTheTemplateSetsExactlyWhatTheFunctionsRead(t *testing.T) {
	parsed, _ := read(t)
	sweepNames, policyNames := settings.Names()
	common := slices.Concat(vault.Environment(), accounts.Environment(), archive.Environment(),
		[]string{"ALLOW_LOCAL_ENFORCE", "HTTPS_PROXY", "NO_PROXY"}) // Go's own client reads the last two
	for id, names := range map[string][]string{revokeID: sweepNames, syncID: policyNames} {
		t.Run(id, func(t *testing.T) {
			declared := slices.Collect(maps.Keys(parsed.Globals.Function.Environment.Variables))
			declared = slices.AppendSeq(declared, maps.Keys(parsed.Resources[id].Properties.Environment.Variables))
			readByCode := slices.Concat(common, names)
			slices.Sort(declared)
			slices.Sort(readByCode)
			for _, name := range slices.Compact(declared) {
				if _, found := slices.BinarySearch(readByCode, name); !found {
					t.Errorf("%s is set, and nobody reads it", name)
				}
			}
			for _, name := range slices.Compact(readByCode) {
				if _, found := slices.BinarySearch(declared, name); !found {
					t.Errorf("%s is read, and not set", name)
				}
			}
		})
	}
}

// TestTheNamedVariablesAreThoseThatAreRead keeps the lists of names honest.
func TestTheNamedVariablesAreThoseThatAreRead(t *testing.T) {
	sweepNames, policyNames := settings.Names()
	named := slices.Concat(vault.Environment(), accounts.Environment(), archive.Environment(), sweepNames, policyNames,
		[]string{
			"ALLOW_LOCAL_ENFORCE", "AWS_SAM_LOCAL", "AWS_EXECUTION_ENV", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION", "AWS_ACCESS_KEY_ID",
			"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SNS", "AWS_DEFAULT_REGION", "REPORT_BUCKET_STYLE",
		})
	for _, values := range []map[string]string{
		{"VAULT_ADDR": "https://vault.example.com", "MODE": "enforce", "REPORT_BUCKET": "b"},
		{"OSC_ACCESS_KEY": "AK", "MODE": "enforce", "AWS_SAM_LOCAL": "true"},
		{"HUAWEICLOUD_SDK_AK": "AK", "HUAWEICLOUD_SDK_REGION": "ap-southeast-1"},
	} {
		getenv := func(name string) string {
			if !slices.Contains(named, name) {
				t.Errorf("%s is read, and not named", name)
			}
			return values[name]
		}
		// The answers do not matter here, nor whether the settings fit.
		_, _ = settings.ReadSweep(getenv, settings.SweepEvent{})
		_, _ = settings.ReadPolicySync(getenv, settings.PolicySyncEvent{})
		_, _, _ = vault.ReadConfig(getenv)
		_, _ = accounts.FromEnvironment(getenv)
		_ = archive.FromEnvironment(getenv)
	}
}

// Arming the sweep must not arm the policy sync, nor the other way round.
func TestEachFunctionIsArmedByItself(t *testing.T) {
	parsed, _ := read(t)
	for id, parameter := range map[string]string{revokeID: "RevokeMode", syncID: "SyncMode"} {
		if _, common := parsed.Globals.Function.Environment.Variables["MODE"]; common {
			t.Fatal("MODE is common to both functions")
		}
		if got := parsed.Resources[id].Properties.Environment.Variables["MODE"]; got.Tag != "!Ref" || got.Value != parameter {
			t.Errorf("the mode of %s is %s %s, want %s", id, got.Tag, got.Value, parameter)
		}
	}
	if parsed.Resources[syncID].Condition == "" || !slices.Contains(parsed.Parameters["SyncMode"].AllowedValues, "off") {
		t.Error("the policy sync cannot be left out")
	}
	for _, name := range []string{"POLICY_FLOOR", "ALLOW_LOOSEN"} {
		if node := parsed.Resources[syncID].Properties.Environment.Variables[name]; node.Tag != "!Ref" {
			t.Errorf("%s is no parameter", name)
		}
	}
}

func TestTheTemplatesDefaultsChangeNothing(t *testing.T) {
	parsed, _ := read(t)
	for _, name := range []string{"RevokeMode", "SyncMode", "Foreign"} {
		if p := parsed.Parameters[name]; p.Default != settings.Report || !slices.Contains(p.AllowedValues, settings.Enforce) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	t.Run("and are accepted by the functions", func(t *testing.T) {
		if _, err := settings.ReadSweep(parsed.getenv(revokeID), settings.SweepEvent{}); err != nil {
			t.Error(err)
		}
		if _, err := settings.ReadPolicySync(parsed.getenv(syncID), settings.PolicySyncEvent{}); err != nil {
			t.Error(err)
		}
	})
}

// getenv is a function's environment where every parameter has its default.
func (parsed template) getenv(id string) func(string) string {
	return func(name string) string {
		node, ok := parsed.Resources[id].Properties.Environment.Variables[name]
		if !ok {
			node = parsed.Globals.Function.Environment.Variables[name]
		}
		if node.Tag == "!Ref" {
			return parsed.Parameters[node.Value].Default
		}
		return node.Value
	}
}

// emitted are the metrics of both functions.
func emitted(t *testing.T) map[string]bool {
	t.Helper()
	var out bytes.Buffer
	if err := metrics.Sweep(&out, "f", sweep.Result{Accounts: []sweep.AccountResult{{Provider: "outscale"}}}, true); err != nil {
		t.Fatal(err)
	}
	if err := metrics.PolicySync(&out, "f", policysync.Result{Accounts: []policysync.AccountResult{{Provider: "outscale"}}}); err != nil {
		t.Fatal(err)
	}
	if err := metrics.Decide(&out, "f", false, 0); err != nil {
		t.Fatal(err)
	}
	if err := metrics.Close(&out, "f", 0); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	decoder := json.NewDecoder(&out)
	for decoder.More() {
		line := map[string]any{}
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		for name := range line {
			names[name] = true
		}
	}
	return names
}

func TestEveryAlarmWatchesAMetricThatExists(t *testing.T) {
	parsed, _ := read(t)
	known := emitted(t)
	watched, silence := 0, false
	for id, resource := range parsed.Resources {
		p := resource.Properties
		if resource.Type != "AWS::CloudWatch::Alarm" || strings.HasPrefix(p.Namespace, "AWS/") {
			continue
		}
		for _, m := range p.Metrics { // of an expression
			if m.MetricStat.Metric.MetricName != "" {
				p.Namespace, p.MetricName = m.MetricStat.Metric.Namespace, m.MetricStat.Metric.MetricName
			}
		}
		watched++
		silence = silence || p.TreatMissingData == "breaching"
		if strings.HasPrefix(p.Namespace, "AWS/") {
			continue
		}
		if p.Namespace != metrics.Namespace || !known[p.MetricName] {
			t.Errorf("%s watches %s of %s, which nobody sends", id, p.MetricName, p.Namespace)
		}
	}
	if watched < 4 || !silence {
		t.Errorf("%d alarms, one on silence: %v", watched, silence)
	}
}

func TestEveryMetricOfTheDashboardExists(t *testing.T) {
	parsed, _ := read(t)
	known := emitted(t)
	var body struct {
		Widgets []struct {
			Properties struct {
				Title   string
				Metrics [][]string
			}
		}
	}
	if err := json.Unmarshal([]byte(parsed.Resources["Dashboard"].Properties.DashboardBody), &body); err != nil {
		t.Fatal(err)
	}
	for _, widget := range body.Widgets {
		for _, metric := range widget.Properties.Metrics {
			if !strings.HasPrefix(metric[0], "AWS/") && (metric[0] != metrics.Namespace || !known[metric[1]]) {
				t.Errorf("%s shows %v, which nobody sends", widget.Properties.Title, metric)
			}
		}
	}
}

func TestTheTemplatesTimesFitTogether(t *testing.T) {
	parsed, _ := read(t)
	timeout := parsed.Globals.Function.Timeout
	config, err := settings.ReadSweep(parsed.getenv(revokeID), settings.SweepEvent{})
	if err != nil || config.Reserve >= time.Duration(timeout)*time.Second/2 {
		t.Errorf("the reserve is %s of %d s (%v)", config.Reserve, timeout, err)
	}
}

func TestBothFunctionsAreBuiltByMake(t *testing.T) {
	parsed, _ := read(t)
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	functions := 0
	for id, resource := range parsed.Resources {
		if resource.Type != "AWS::Serverless::Function" {
			continue
		}
		functions++
		if resource.Metadata.BuildMethod != "makefile" || !strings.Contains(string(makefile), "\nbuild-"+id+":") {
			t.Errorf("%s is built by %q, and the Makefile may have no target build-%s", id, resource.Metadata.BuildMethod, id)
		}
	}
	if functions != 2 {
		t.Errorf("%d functions", functions)
	}
}

func TestNoRightIsGivenToEverything(t *testing.T) {
	_, text := read(t)
	for number, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		if trimmed == `Resource: "*"` || strings.HasPrefix(trimmed, "Action: s3:*") && !strings.Contains(text, "Effect: Deny") {
			t.Error("line " + strconv.Itoa(number+1) + ": " + trimmed)
		}
	}
}

// A stack of aws-cn, aws-us-gov or aws-eusc has no ARN that begins with arn:aws:, and an organisation may demand a boundary on
// each role: one that SAM makes by itself has neither that nor the least rights.
func TestTheStackIsDeployableInEveryPartitionAndOrganisation(t *testing.T) {
	parsed, text := read(t)
	machine, err := os.ReadFile("revoke.asl.json")
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"template.yaml": text, "revoke.asl.json": string(machine)} {
		for number, line := range strings.Split(text, "\n") {
			if strings.Contains(line, "arn:aws:") && !strings.Contains(line, "Description") {
				t.Errorf("%s:%d names one partition: %s", file, number+1, strings.TrimSpace(line))
			}
		}
	}
	for id, resource := range parsed.Resources {
		switch p := resource.Properties; resource.Type {
		case "AWS::Serverless::Function":
			if p.Role.Tag != "!GetAtt" {
				t.Errorf("%s has the role that SAM makes, with more rights than it needs", id)
			}
		case "AWS::IAM::Role", "AWS::Serverless::StateMachine":
			if p.PermissionsBoundary.Tag != "!If" {
				t.Errorf("%s takes no permissions boundary", id)
			}
		}
	}
	for _, name := range []string{"RevokeFunctionName", "SyncFunctionName", "RevokeRoleArn", "SyncRoleArn", "ReportBucketName"} {
		if _, has := parsed.Outputs[name]; !has {
			t.Errorf("the stack has no output %s", name)
		}
	}
}

// A key of the organisation's own encrypts everything that a run leaves behind, and whoever writes there may use it.
func TestAKeyOfKMSIsForAllThatIsKept(t *testing.T) {
	parsed, text := read(t)
	_, all, _ := strings.Cut(text, "\nResources:\n")
	uses := map[string]bool{}
	id := ""
	for line := range strings.Lines(all) {
		if name, is := strings.CutPrefix(line, "  "); is && name[0] >= 'A' && name[0] <= 'Z' {
			id, _, _ = strings.Cut(name, ":")
		}
		uses[id] = uses[id] || strings.Contains(line, "!Ref KmsKeyArn")
	}
	kept := 0
	for id, resource := range parsed.Resources {
		switch resource.Type {
		case "AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::Logs::LogGroup", "AWS::IAM::Role", "AWS::Serverless::StateMachine":
			if kept++; !uses[id] {
				t.Errorf("%s knows nothing of KmsKeyArn", id)
			}
		}
	}
	if common, _, _ := strings.Cut(text, "\nResources:\n"); kept < 9 ||
		!strings.Contains(common, "    KmsKeyArn: !If [HasKms, !Ref KmsKeyArn") {
		t.Errorf("%d resources keep something, and the functions' environment may not be encrypted", kept)
	}
}

// SAM would make a role for each schedule, which could not use the key.
func TestSchedulesHaveTheRoleThatIsWrittenOut(t *testing.T) {
	_, text := read(t)
	if schedules, roles := strings.Count(text, "Type: ScheduleV2"),
		strings.Count(text, "RoleArn: !GetAtt ScheduleRole.Arn"); schedules != 3 || roles != 3 {
		t.Errorf("%d schedules, and %d have the role", schedules, roles)
	}
}

// The function may not write approvals, and must write what it has of any account, whatever that is called: in a right's resource an
// asterisk stands for slashes as well.
func TestTheFunctionMayWriteAllButApprovals(t *testing.T) {
	_, text := read(t)
	_, denied, _ := strings.Cut(text, "Sid: LeaveApprovalsToTheStateMachine")
	denied, _, _ = strings.Cut(denied, "SyncPolicyRole:")
	var patterns []*regexp.Regexp
	for _, found := range regexp.MustCompile(`\$\{ReportBucket\.Arn\}/(\S+)`).FindAllStringSubmatch(denied, -1) {
		patterns = append(patterns, regexp.MustCompile("^"+strings.ReplaceAll(regexp.QuoteMeta(found[1]), `\*`, ".*")+"$"))
	}
	for name, want := range map[string]bool{
		"runs/run-1/approved.json": true, "runs/run-1/approved-by.json": true, "runs/run-1/refused-by.json": true,
		"runs/run-1/plans/approved-prod/0.json": false, "runs/run-1/sums/approved/0.json": false,
		"runs/run-1/found/approved.json/0.json": false, "runs/run-1/changes.json": false, "runs/approved.json/run.json": false,
	} {
		if got := slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(name) }); got != want {
			t.Errorf("%s is denied: %v, want %v", name, got, want)
		}
	}
}

// No right can be given by a key's alias: the functions could not read their own environment.
func TestAKeyOfKMSIsNoAlias(t *testing.T) {
	parsed, _ := read(t)
	pattern := regexp.MustCompile(parsed.Parameters["KmsKeyArn"].Pattern)
	for arn, want := range map[string]bool{
		"": true, "arn:aws:kms:eu-west-3:123456789012:key/8fa5d6c4-0000-0000-0000-000000000000": true,
		"arn:aws-eusc:kms:eusc-de-east-1:123456789012:key/mrk-8fa5d6c4": true, "arn:aws:kms:eu-west-3:123456789012:alias/logs": false,
	} {
		if pattern.MatchString(arn) != want {
			t.Errorf("%q is taken: %v", arn, !want)
		}
	}
}

// A file of a layer is nowhere where no layer is attached.
func TestTheFunctionsGetTheLayerOfTheirCertificate(t *testing.T) {
	parsed, text := read(t)
	layer, has := parsed.Parameters["CertificateLayerArn"]
	if !has || !strings.Contains(text, "\n    Layers: [!If [HasLayer, !Ref CertificateLayerArn, !Ref AWS::NoValue]]") {
		t.Error("no layer can be attached")
	}
	pattern := regexp.MustCompile(layer.Pattern)
	for arn, want := range map[string]bool{
		"": true, "arn:aws:lambda:eu-west-3:123456789012:layer:certificates:1": true,
		"arn:aws:lambda:eu-west-3:123456789012:layer:certificates": false,
	} {
		if pattern.MatchString(arn) != want {
			t.Errorf("%q is taken: %v", arn, !want)
		}
	}
}

// What a page or an error tells people to set they can set, and the next deployment leaves it as it is.
func TestSettingsThatPeopleAreToldToSetAreParameters(t *testing.T) {
	parsed, _ := read(t)
	for _, name := range []string{"KEEP_USERS", "KEEP_KEYS", "ALLOW_EMPTY_LEDGER", "MAX_EXEMPTION", "TOLERATED_FAILURES"} {
		if node := parsed.Resources[revokeID].Properties.Environment.Variables[name]; node.Tag != "!Ref" {
			t.Errorf("%s is no parameter", name)
		}
	}
}

// A value that CloudFormation takes must not be one that each run refuses.
func TestADurationThatTheTemplateTakesIsTakenByTheFunctions(t *testing.T) {
	parsed, _ := read(t)
	for parameter, variable := range map[string]string{
		"MaxExemption": "MAX_EXEMPTION", "Quarantine": "QUARANTINE", "MinAge": "MIN_AGE", "MaxAge": "MAX_AGE", "Notice": "NOTICE",
		"PolicyFloor": "POLICY_FLOOR", "WantedMax": "WANTED_MAX",
	} {
		t.Run(parameter, func(t *testing.T) {
			pattern, taken := regexp.MustCompile(parsed.Parameters[parameter].Pattern), 0
			for _, number := range []string{"", "0", "00", "1", "4", "5", "23", "24", "59", "60", "99", "240", "1000", "9999", "36501", "9999999999"} {
				for _, unit := range []string{"", "s", "m", "h", "d", "y"} {
					value := number + unit
					if !pattern.MatchString(value) {
						continue
					}
					taken++
					with := func(id string) func(string) string {
						given := map[string]string{"MAX_AGE": "0", "MIN_AGE": "5m", "USED_WITHIN": "0", "POLICY_FLOOR": "1m"} // in each other's way
						given[variable] = value
						return func(name string) string { return cmp.Or(given[name], parsed.getenv(id)(name)) }
					}
					_, sweepErr := settings.ReadSweep(with(revokeID), settings.SweepEvent{})
					_, policyErr := settings.ReadPolicySync(with(syncID), settings.PolicySyncEvent{})
					if err := errors.Join(sweepErr, policyErr); err != nil {
						t.Errorf("%s is taken by the template, and refused by the function: %v", value, err)
					}
				}
			}
			if taken < 10 {
				t.Errorf("%d values were tried", taken)
			}
		})
	}
}
