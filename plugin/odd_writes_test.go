// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"pgregory.net/rapid"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

const (
	// longestAnswer is of a refusal, and of a warning: a terminal, or a log's line.
	longestAnswer = 1024
	// largestStored is what Consul stores; integrated storage stores twice that. Beyond it a write is a 500 of the server's.
	largestStored = 512 << 10
	// mostMemory is what one write may take beside a few copies of what it sends.
	mostMemory = 64 << 20
	// longestSequence is of real time, on a machine that has other work: normal are hundredths of a second.
	longestSequence = time.Minute
)

// TestOddWritesAreTakenOrRefusedInASentence sends writes of accounts, roles and static roles that are made of their own schemas with
// odd values: of another type, too large, of other alphabets, with line breaks, "..", capitals, fractions of a second, overflows.
// Each is taken, or refused with a 400 of one sentence; what is taken can be read back, stored by any server, and used.
// go test ./plugin -run TestOddWrites -rapid.checks=10000 goes on for longer.
func TestOddWritesAreTakenOrRefusedInASentence(t *testing.T) {
	contract.New(t) // loads the description: a bubble cannot wait for it
	for name, mount := range map[string]func(*testing.T) *testVault{"OUTSCALE": fuzzMount, "Huawei Cloud": fuzzMountInHuawei} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				writes := rapid.SliceOfN(rapid.Custom(drawOddWrite), 1, 8).Draw(rt, "writes")
				began := time.Now()
				var problem string
				synctest.Test(t, func(t *testing.T) {
					v := mount(t)
					for _, write := range writes {
						if problem = v.writeOdd(write); problem != "" {
							break
						}
					}
				})
				if problem != "" {
					rt.Fatal(problem)
				}
				if took := time.Since(began); took > longestSequence {
					rt.Fatalf("it took %s", took)
				}
			})
		})
	}
}

func TestAValueOfAnotherTypeIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newTestVault(t)
		v.configure()
		resp, err := v.send(t.Context(), logical.UpdateOperation, "config/default", map[string]any{
			"access_key": v.root.AccessKey, "secret_key": []any{"a", "b-" + v.root.SecretKey},
		})
		if err != nil || !resp.IsError() {
			t.Fatalf("%v, %v: want an HTTP 400", resp, err)
		}
		mustHold(t, resp.Error().Error(), "secret_key is of another type than the field: give a text")
		v.mustHideSecrets(resp.Error().Error())
	})
}

// TestALongCredentialIsRefusedAtOnce: to search an error for 600,000 equal letters took a quarter of an hour.
func TestALongCredentialIsRefusedAtOnce(t *testing.T) {
	refuses := map[string]func(t *testing.T, v *testVault){"before any call": func(t *testing.T, v *testVault) {
		v.configure()
		v.sim.ResetCalls()
		for _, field := range []string{"access_key", "secret_key", "login", "password"} {
			v.mustRefuse(logical.UpdateOperation, "config/default", []string{field + "=" + strings.Repeat("a", 513)},
				field+" has 513 characters, and 512 is the most")
		}
		if n := len(v.sim.Calls()); n != 0 {
			t.Errorf("%d calls", n)
		}
	}}
	inBubble(t, refuses)
	inHuawei(t, refuses)
}

func TestAnEntryThatSomeStorageDoesNotTakeIsRefused(t *testing.T) {
	certificate, _ := newClientCertificate(t)
	inBubble(t, map[string]func(t *testing.T, v *testVault){"whatever makes it so large": func(_ *testing.T, v *testVault) {
		v.configure()
		for field, value := range map[string]string{
			"endpoint": "https://" + strings.Repeat("a.", 300_000) + "com/api/v1", "ca_cert": certificate + strings.Repeat("\n", 600_000),
		} {
			v.mustRefuse(logical.UpdateOperation, "config/second", append(v.accountFields(), field+"="+value), "config/second would take", "shorten")
		}
		for field, value := range map[string]string{
			"policy_document": testDocument + strings.Repeat(" ", 600_000),
			"policy_orns":     "orn:ows:idauth::012345678910:policy/" + strings.Repeat("a", 600_000),
		} {
			fields := []string{"credential_type=iam_user", field + "=" + value}
			v.mustRefuse(logical.UpdateOperation, "roles/x", fields, "roles/x would take", "shorten")
		}
	}})
}

// fuzzMountInHuawei is fuzzMount there.
func fuzzMountInHuawei(t *testing.T) *testVault {
	t.Helper()
	v := newHuaweiVault(t)
	v.domain.AddUser("db")
	v.configure("ttl=2h")
	v.write("static-roles/db", "user_name=db", "rotation_period=24h")
	v.lease("app")
	return v
}

// oddWrite is one request. Its values are as JSON has them, or repeated.
type oddWrite struct {
	Op   logical.Operation
	Path string
	Good int // which of fuzzedRequests it begins as; below 0: none
	Data map[string]any
}

// repeated is a text that would be too long to print.
type repeated struct {
	Text  string
	Times int
}

// odd texts, of which many belong to a field that some parser reads.
var oddTexts = []any{
	"", " ", "\n", "app\n", "a\r\nb", "\x00", "a\x1b[31mb", "..", "../../config/default", "a/../b", "App", "ÄPP", "äpp", "用户",
	"\u202eppa", "a\u200bb", "🔑",
	"%s%d%n", "{{ . }}", "{{", `{"a":`, "null", "-1", "NaN", "\xff\xfe", `["a","b"]`, "a,,b", ",", "app,db", "@file",
	"-----BEGIN CERTIFICATE-----", "'; --",
	"app", "db", "nobody", "default", "second", "outscale", "huawei", "access_key", "iam_user", "session_token", "sdk", "otc",
	testRegion, "eu-west2", testDocument,
	"https://[::1]:99999/api/v1", "https://user:pass@example.com/", "http://example.com",
	"https://" + testRegion, "//", "https://exa mple.com/\n", testEndpoint,
	"TZ=UTC 0 2 * * *", "@every 1ns", "@reboot", "* * * * *", "0 3 * * *", "0 0 30 2 *", "*/0 * * * *", "1-99999999999 * * * *",
	"*/1 */1 */1 */1 *\x00",
	"{{ $a := `aaa` }}{{ $a }}", "{{ random 2000000000 }}", "{{ .RoleName }}-{{ random 20 }}", `{{ printf "%999999999d" 1 }}`,
	"{{ range 9 }}{{ end }}",
	"/ci/", "/", "//x//", "orn:ows:idauth::012345678910:policy/x", `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`,
	repeated{"a", 65},
	repeated{"a", 129},
	repeated{"a", 4097},
	repeated{"é", 70_000},
	repeated{"u,", 501},
	repeated{"[", 20_000},
	repeated{"{\"a\":", 20_000},
	repeated{"{{ if .RoleName }}", 50},
	repeated{"a", 600_000},
	repeated{" ", 600_000},
	repeated{"a.", 300_000},
	repeated{"\n", 3000},
	repeated{"0 ", 3000},
	repeated{"-----BEGIN CERTIFICATE-----\n", 2000},
}

var oddDurations = []any{
	"500ms", "1ns", "1.5h", "0.9s", "-1s", "-500ms", "0", "1", "29s", "59s", "1m", "5m", "1h", "24h", "1d",
	"10 minutes", "h", "1e9", "1e30", "1e-9", "+Inf", "NaN",
	"9223372036", "9223372037", "9223372036854775807", "9223372036854775808", "2562047h47m16s", "2562048h", "1500000h", "-2562048h",
	"0x10", "١m", "1 h", "1h\n",
	json.Number("0.5"), json.Number("1e400"), json.Number("-0"), json.Number("90"), json.Number("3600"), json.Number("86400"),
	json.Number("9223372036854775807"),
	repeated{"9", 5000},
	repeated{"1h", 5000},
}

var oddNumbers = []any{
	json.Number("0"), json.Number("-1"), json.Number("1"), json.Number("1.5"), json.Number("1e3"), json.Number("1e-300"),
	json.Number("1e400"), json.Number("2147483648"),
	json.Number("9223372036854775807"), json.Number("9223372036854775808"), json.Number("-9223372036854775809"), "1", "0x7f", "1_000",
	"NaN", "Inf", "-Inf", "1e", "",
	"many",
	repeated{"9", 400},
}

var oddOthers = []any{
	nil, true, false, "yes", "maybe",
	[]any{},
	[]any{nil},
	[]any{"app", json.Number("7"), nil, true},
	[]any{[]any{[]any{"a"}}},
	[]any{"app", "app"},
	map[string]any{},
	map[string]any{"a": map[string]any{"b": []any{"c"}}},
	[]any{repeated{"a", 100_000}},
	[]any{"..", "App", "a\nb"},
}

// goodTexts are what a field's reader takes, or takes where the rest fits: odd values are made of them, too.
var goodTexts = map[string][]string{
	"access_key": {"AAAAAAAAAAAAAAAAAAAA"}, "secret_key": {"0123456789ABCDEF0123456789ABCDEF01234567"}, "login": {testLogin},
	"password": {testPassword},
	"provider": {"outscale", "huawei"}, "region": {testRegion, "ap-southeast-1"}, "endpoint": {
		testEndpoint,
		"https://iam.eu-de.otc.t-systems.com",
	},
	"domain_id": {"0123456789abcdef0123456789abcdef"}, "signature": {"sdk", "otc"}, "ca_cert": {""}, "client_cert": {""}, "client_key": {""},
	"username_template": {
		defaultUsernameTemplate,
		`{{ if .DisplayName }}{{ printf "%s-%d" .RoleName 7 | truncate 9 }}{{ end }}-{{ random 20 | lowercase }}`,
	},
	"account": {"default", "second"}, "credential_type": {"access_key", "iam_user", "session_token"},
	"user_names": {"app", "app,db", "app, db ,nobody"}, "user_name": {"app", "db"}, "groups": {
		"/ci/builders,dev",
		"dev",
	}, "user_path": {"/ci/"},
	"policy_orns": {
		"orn:ows:idauth::012345678910:policy/x",
		"orn:ows:idauth::012345678910:policy/ci/y,orn:ows:idauth::012345678910:policy/x",
	},
	"policy_document": {
		testDocument,
		`{"Statement":[{"Effect":"Allow","Action":["*"],"Resource":["*"]}]}`,
	}, "agency_name": {"deployers"}, "agency_domain": {"acme"},
	"session_policy":    {`{"Version":"1.1","Statement":[{"Effect":"Allow","Action":["obs:object:GetObject"]}]}`},
	"rotation_schedule": {"0 3 * * *", "*/15 9-17 1,15 1-12/2 1-5", "30 2 29 2 *"},
}

// drawNearlyGood takes a good value as it is, or changes a piece of it.
func drawNearlyGood(rt *rapid.T, name string, field *framework.FieldSchema) any {
	number := rapid.IntRange(-2, 100_000).Draw(rt, "number")
	switch {
	case field.Type == framework.TypeBool:
		return number%2 == 0
	case field.Type == framework.TypeInt || field.Type == framework.TypeFloat:
		return json.Number(fmt.Sprint(number))
	case field.Type == framework.TypeDurationSecond:
		return fmt.Sprint(number, rapid.SampledFrom([]string{"", "s", "m", "h"}).Draw(rt, "unit"))
	case goodTexts[name] == nil:
		return ""
	}
	text := rapid.SampledFrom(goodTexts[name]).Draw(rt, "good text")
	at := rapid.IntRange(0, len(text)).Draw(rt, "at")
	end := rapid.IntRange(at, len(text)).Draw(rt, "end")
	switch rapid.SampledFrom([]string{"keep", "keep", "keep", "cut", "capitals", "repeat", "insert"}).Draw(rt, "change") {
	case "cut":
		return text[:at] + text[end:]
	case "capitals":
		return text[:at] + strings.ToUpper(text[at:end]) + text[end:]
	case "repeat":
		return text[:at] + strings.Repeat(text[at:end], rapid.IntRange(2, 999).Draw(rt, "times")) + text[end:]
	case "insert":
		return text[:at] + odd(rapid.SampledFrom(oddTexts).Draw(rt, "inserted")).(string) + text[at:]
	default:
		return text
	}
}

// drawOddWrite makes a request of the fields of its path.
func drawOddWrite(rt *rapid.T) oddWrite {
	paths := []string{"config/default", "config/second", "roles/x", "roles/app", "static-roles/x", "static-roles/db"}
	w := oddWrite{
		Op:   rapid.SampledFrom([]logical.Operation{logical.UpdateOperation, logical.UpdateOperation, logical.PatchOperation}).Draw(rt, "op"),
		Path: rapid.SampledFrom(paths).Draw(rt, "path"),
		Data: map[string]any{},
	}
	w.Good = rapid.IntRange(-1, 3).Draw(rt, "good")
	schema := newBackend(Build{}, nil).Route(w.Path).Fields
	fields := append(slices.Sorted(maps.Keys(schema)), "acces_key", "Feld\nµ")
	for range rapid.IntRange(1, 3).Draw(rt, "fields") {
		field := rapid.SampledFrom(fields).Draw(rt, "field")
		if schema[field] != nil && rapid.IntRange(0, 9).Draw(rt, "nearly good") < 6 {
			w.Data[field] = drawNearlyGood(rt, field, schema[field])
		} else {
			w.Data[field] = drawOddValue(rt, schema[field])
		}
	}
	for _, name := range []string{"name", "account"} { // a path's own name beats what is sent
		if schema[name] != nil && strings.HasSuffix(w.Path, "/x") && rapid.IntRange(0, 9).Draw(rt, "odd name") == 0 {
			w.Path = strings.TrimSuffix(w.Path, "x") + odd(rapid.SampledFrom(oddTexts).Draw(rt, "name")).(string)
			break
		}
	}
	return w
}

// drawOddValue is mostly what could be meant for the field, at its edges, and now and then anything.
func drawOddValue(rt *rapid.T, field *framework.FieldSchema) any {
	kinds := [][]any{oddTexts, oddDurations, oddNumbers, oddOthers}
	kind := 0
	switch {
	case field == nil || rapid.IntRange(0, 4).Draw(rt, "any") == 0:
		kind = rapid.IntRange(0, len(kinds)-1).Draw(rt, "kind")
	case field.Type == framework.TypeDurationSecond:
		kind = 1
	case field.Type == framework.TypeInt || field.Type == framework.TypeFloat:
		kind = 2
	case field.Type == framework.TypeBool:
		kind = 3
	}
	if kind == 0 && rapid.IntRange(0, 3).Draw(rt, "made up") == 0 {
		return rapid.String().Draw(rt, "text")
	}
	return rapid.SampledFrom(kinds[kind]).Draw(rt, "value")
}

// odd writes out what is repeated.
func odd(value any) any {
	switch value := value.(type) {
	case repeated:
		return strings.Repeat(value.Text, value.Times)
	case []any:
		list := make([]any, len(value))
		for i := range value {
			list[i] = odd(value[i])
		}
		return list
	default:
		return value
	}
}

// writeOdd sends one write and says what is wrong with its answer, with what is stored of it, or with what comes of it.
func (v *testVault) writeOdd(w oddWrite) (problem string) {
	data, sent := map[string]any{}, 0
	kind := w.Path[:strings.Index(w.Path, "/")+1]
	good := slices.DeleteFunc(v.fuzzedRequests(), func(r fuzzedRequest) bool {
		return !strings.HasPrefix(r.path, kind) ||
			r.path == "config/default"
	})
	if w.Good >= 0 && w.Path != "static-roles/db" { // whose user cannot be changed
		maps.Copy(data, good[w.Good%len(good)].data)
	}
	for field, value := range w.Data {
		data[field] = odd(value)
		sent += len(field) + len(fmt.Sprint(data[field]))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	resp, err := v.rawRequest(w.Op, w.Path, data)
	runtime.ReadMemStats(&after)
	if problem = v.oddAnswer(resp, err); problem != "" {
		return problem
	}
	if took := time.Since(began); took > issueBudget+cleanupBudget {
		return fmt.Sprintf("the answer took %s", took)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > uint64(mostMemory+50*sent) {
		return fmt.Sprintf("%d bytes were sent, and %d allocated", sent, took)
	}
	if entry, err := v.storage.Storage.Get(v.t.Context(), w.Path); err == nil && entry != nil && len(entry.Value) > largestStored {
		return fmt.Sprintf("an entry of %d bytes is stored", len(entry.Value))
	}
	for _, then := range []string{w.Path, "creds/x", "static-creds/x", "policy/second"} {
		resp, err := v.rawRequest(logical.ReadOperation, then, nil)
		if problem := v.oddAnswer(resp, err); problem != "" {
			return "then read " + then + ": " + problem
		}
	}
	_ = v.tick()
	if v.backend.metrics.panics.Load() > 0 {
		return "the tick panicked"
	}
	return ""
}

// oddAnswer says what is wrong with an answer.
func (v *testVault) oddAnswer(resp *logical.Response, err error) (problem string) {
	if v.backend.metrics.panics.Load() > 0 {
		return "it panicked"
	}
	if err != nil && !isBadRequest(err) {
		return "HTTP 500: " + err.Error()
	}
	var texts []string
	switch {
	case err != nil:
		texts = []string{err.Error()}
	case resp != nil && resp.IsError():
		texts = []string{resp.Error().Error()}
	case resp != nil:
		texts = resp.Warnings
	}
	for _, text := range texts {
		switch {
		case len(text) > longestAnswer:
			return fmt.Sprintf("an answer of %d bytes: %.200q", len(text), text)
		case text == "" || !utf8.ValidString(text) || strings.ContainsFunc(text,
			func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }):
			return fmt.Sprintf("an answer of odd characters: %.1100q", text)
		}
		for _, secret := range v.sim.Secrets() {
			if strings.Contains(text, secret) {
				return fmt.Sprintf("a secret shows in %q", text)
			}
		}
	}
	return ""
}

// FuzzDuration gives what the sdk's parser of durations reads: what is taken is whole seconds, and read as such.
func FuzzDuration(f *testing.F) {
	for _, value := range oddDurations {
		f.Add(fmt.Sprint(odd(value)))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, raw := range []any{text, json.Number(text)} {
			err := checkSeconds("ttl", raw)
			if err != nil {
				if len(err.Error()) > longestText {
					t.Errorf("%q: a refusal of %d characters", text, len(err.Error()))
				}
				continue
			}
			d, err := parseutil.ParseDurationSecond(raw)
			if err != nil || d < 0 || d%time.Second != 0 {
				t.Errorf("%q is taken for %s: %v", text, d, err)
			}
			var role roleEntry
			takeFields(&framework.FieldData{Raw: map[string]any{"ttl": raw}, Schema: roleFields()}, &role)
			if role.TTL != d {
				t.Errorf("%q is stored as %s and not as %s", text, role.TTL, d)
			}
		}
	})
}
