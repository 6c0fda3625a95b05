// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// namePattern is what accounts, roles and static roles may be called. Vault's policies, quotas,
// lease ids and audit log use a path as it was sent: were capitals folded here, creds/Prod would
// give out the keys of a role whose policy denies creds/prod. Vault refuses ".." in storage.
var namePattern = regexp.MustCompile(`^[a-z0-9_](?:[a-z0-9_.-]{0,126}[a-z0-9_])?$`)

// checkSeconds refuses a duration that whole seconds cannot say: 500ms would be read as 0, which
// is no limit, and more seconds than a time.Duration holds as a negative one.
func checkSeconds(field string, raw any) error {
	text := fmt.Sprint(raw)
	d, err := parseutil.ParseDurationSecond(raw)
	whole, isNumber := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return userError("%s %.60q is not a duration: give seconds, or a number with a unit, such as 90s, 15m or 8h", field, text)
	case isNumber == nil && math.Abs(whole) > math.MaxInt64/float64(time.Second):
		return userError("%s is %.60s seconds, which is more than 292 years: give less", field, text)
	case d%time.Second != 0:
		return userError("%s is %.60s: give whole seconds", field, text)
	case d < 0:
		return userError("%s is %.60s: give 0 or more", field, text)
	default:
		return nil
	}
}

// checked has every operation look at names as they were sent before it does anything: the framework would fold them, or storage fail
// with an internal error. It also bounds the operation's time, and turns its error into what Vault is to answer. What a path without a
// synopsis does is what its operation does.
func checked(paths []*framework.Path) []*framework.Path {
	for _, path := range paths {
		for _, handler := range path.Operations {
			operation := handler.(*framework.PathOperation)
			path.HelpSynopsis = cmp.Or(path.HelpSynopsis, operation.Summary)
			next := operation.Callback
			operation.Callback = func(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
				if err := checkInput(data); err != nil {
					return respond(err)
				}
				ctx, cancel := context.WithTimeout(ctx, issueBudget)
				defer cancel()
				resp, err := next(ctx, req, data)
				if err != nil {
					resp, err = respond(err)
				}
				return pointOut(resp, data), err
			}
		}
	}
	return paths
}

// pointOut adds to a refusal the fields that nobody knows: Vault names them where a request succeeds
// alone, and a misspelt access_key is read as none.
func pointOut(resp *logical.Response, data *framework.FieldData) *logical.Response {
	if resp == nil || !resp.IsError() {
		return resp
	}
	var unknown []string
	for _, field := range slices.Sorted(maps.Keys(data.Raw)) {
		if _, known := data.Schema[field]; !known && len(unknown) < 5 {
			unknown = append(unknown, fmt.Sprintf("%.40q", field))
		}
	}
	text := resp.Error().Error()
	if len(unknown) > 0 {
		text += ". Fields that are unknown here: " + strings.Join(unknown, ", ")
	}
	resp.Data["error"] = text
	return resp
}

// checkInput refuses what cannot be the name of an account, role or static role.
func checkInput(data *framework.FieldData) error {
	for _, field := range []string{"account", "name", "role"} {
		if data.Raw[field] == nil || data.Schema[field] == nil {
			continue
		}
		if name, _ := data.Get(field).(string); name != "" && (!namePattern.MatchString(name) || strings.Contains(name, "..")) {
			return userError("%s %.60q is refused: a name has lower-case letters, digits and _, and within it - and single dots, %d "+
				"characters at most", field, name, 128)
		}
	}
	return nil
}

// refuseTypes refuses what is not of its field's type. The framework would repeat the value, which may be a secret, and of any size.
func (b *backend) refuseTypes(req *logical.Request) error {
	path := b.Route(req.Path)
	if path == nil {
		return nil
	}
	for _, field := range slices.Sorted(maps.Keys(req.Data)) {
		schema, raw := path.Fields[field], req.Data[field]
		if schema == nil || raw == nil {
			continue
		}
		if schema.Type == framework.TypeDurationSecond {
			if err := checkSeconds(field, raw); err != nil {
				return err
			}
		}
		one := framework.FieldData{Raw: map[string]any{field: raw}, Schema: path.Fields}
		if one.Validate() != nil {
			wanted := map[framework.FieldType]string{
				framework.TypeBool: "true or false", framework.TypeInt: "a whole number", framework.TypeFloat: "a number",
				framework.TypeCommaStringSlice: "texts, with commas between them",
			}
			return userError("%s is of another type than the field: give %s", field, cmp.Or(wanted[schema.Type], "a text"))
		}
	}
	return nil
}

// longestText bounds an answer's sentences: what they repeat may be of any size.
const longestText = 1000

// oneLine is a sentence as an answer says it, whatever was sent or the cloud has said: on one line, without what would lead a terminal
// astray.
func oneLine(text string) string {
	if len(text) > longestText {
		text = text[:longestText] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
}

// inLines does so with all that an answer says.
func inLines(resp *logical.Response) *logical.Response {
	if resp == nil {
		return nil
	}
	for i, warning := range resp.Warnings {
		resp.Warnings[i] = oneLine(warning)
	}
	if resp.IsError() {
		resp.Data["error"] = oneLine(resp.Error().Error())
	}
	return resp
}

// refuseField refuses a field of the other kind of role. The framework ignores what it does not know:
// a role would be stored without the users that somebody has named.
func refuseField(data *framework.FieldData, field, belongs, instead string) error {
	if _, given := data.Raw[field]; !given {
		return nil
	}
	return userError("%s is a field of %s, and unknown here: give %s", field, belongs, instead)
}

// field is one field of a path, or of an answer.
func field(t framework.FieldType, description string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: t, Description: description}
}

// query marks a field of an operation that has no body.
func query(f *framework.FieldSchema) *framework.FieldSchema {
	f.Query = true
	return f
}

// sensitive marks a field that user interfaces hide.
func sensitive(f *framework.FieldSchema) *framework.FieldSchema {
	f.DisplayAttrs = &framework.DisplayAttributes{Sensitive: true}
	return f
}

// byDefault gives a field its default.
func byDefault(value any, f *framework.FieldSchema) *framework.FieldSchema {
	f.Default = value
	return f
}

// oneOf gives it the values that it can have.
func oneOf(values []string, f *framework.FieldSchema) *framework.FieldSchema {
	for _, value := range values {
		f.AllowedValues = append(f.AllowedValues, value)
	}
	return f
}

// answers is the Responses schema of an operation that answers 200 with fields, all of them but the optional ones.
func answers(fields map[string]*framework.FieldSchema, optional ...string) map[int][]framework.Response {
	for name, f := range fields {
		f.Required = !slices.Contains(optional, name)
	}
	return map[int][]framework.Response{http.StatusOK: {{Description: "OK", Fields: fields}}}
}

// answersNothing is that of an operation that answers 204, or 200 with warnings.
func answersNothing() map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusNoContent: {{Description: "No Content"}}}
}

// answersList is that of a list.
func answersList() map[int][]framework.Response {
	return answers(map[string]*framework.FieldSchema{
		"keys":     field(framework.TypeStringSlice, "Names, in order; absent where there are none."),
		"key_info": field(framework.TypeMap, "What is known of each name."),
	}, "keys", "key_info")
}

// warn puts warnings into a response; nil where there are none.
func warn(warnings []string) *logical.Response {
	if len(warnings) == 0 {
		return nil
	}
	return decided(nil, warnings)
}

// decided is the answer of a write: what follows from it, with what somebody should know of.
func decided(data map[string]any, warnings []string) *logical.Response {
	resp := &logical.Response{Data: data}
	for _, w := range warnings {
		resp.AddWarning(w)
	}
	return resp
}

// subset keeps what a write answers of what a read does.
func subset[V any](all map[string]V, names []string) map[string]V {
	kept := map[string]V{}
	for _, name := range names {
		kept[name] = all[name]
	}
	return kept
}

// texts is a list as it is answered: an empty one reads [], and not <nil>.
func texts(list []string) []string { return append([]string{}, list...) }

// seconds is how durations are shown: whole seconds, like other engines.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// storedFields are the fields of an entry by the names that they have in storage, which are those of the API.
func storedFields(entry any) map[string]reflect.Value {
	fields, value := map[string]reflect.Value{}, reflect.ValueOf(entry).Elem()
	for i := range value.NumField() {
		if name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ","); name != "" {
			fields[name] = value.Field(i)
		}
	}
	return fields
}

// takeFields takes over into an entry what the request gives of its fields. What the path does not accept cannot be given.
func takeFields(data *framework.FieldData, entry any) {
	for name, into := range storedFields(entry) {
		raw, given := data.GetOk(name)
		if !given {
			continue
		}
		switch value := reflect.ValueOf(raw); {
		case into.Type() == reflect.TypeFor[time.Duration]():
			into.SetInt(int64(time.Duration(raw.(int)) * time.Second))
		case value.Type() == into.Type():
			into.Set(value)
		}
	}
}

// visible is an entry as a read answers it: of its fields those that the answer has, and more, which may be in place of some.
// What is sensitive is left out, whoever has put it into the answer.
func visible(entry any, answer map[string]*framework.FieldSchema, more map[string]any) map[string]any {
	data := map[string]any{}
	for name, field := range storedFields(entry) {
		if f := answer[name]; f == nil || f.DisplayAttrs != nil && f.DisplayAttrs.Sensitive {
			continue
		}
		switch value := field.Interface().(type) {
		case time.Duration:
			data[name] = seconds(value)
		case time.Time:
			data[name] = showTime(value)
		case []string:
			data[name] = texts(value)
		case tidyLines:
			data[name] = value.show()
		default:
			data[name] = value
		}
	}
	maps.Copy(data, more)
	return data
}

// showTime writes a time as RFC 3339 in UTC; empty for none.
func showTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// pagingFields are those of every list.
func pagingFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"after": query(field(framework.TypeString, "Return names after this one.")),
		"limit": query(field(framework.TypeInt, "Return this many names at most; 0: all.")),
	}
}

// page cuts a sorted list to what after and limit ask for.
func page(names []string, data *framework.FieldData) []string {
	after := data.Get("after").(string)
	first, found := slices.BinarySearch(names, after)
	if found {
		first++
	}
	names = names[first:]
	if limit := data.Get("limit").(int); limit > 0 && limit < len(names) {
		names = names[:limit]
	}
	return names
}

// forward is where an operation is sent on to from a node that cannot serve it.
type forward int

const (
	onAnyNode forward = iota
	onActive          // the active node of the cluster, whose memory, or local storage, it needs
	onPrimary         // that of the primary cluster, since it writes what is replicated
)

// pathOperation is one of a path. An empty verb is left to the path, or to the server.
func pathOperation(
	verb, summary string, run framework.OperationFunc, responses map[int][]framework.Response, where forward,
) *framework.PathOperation {
	return &framework.PathOperation{
		Callback: run, Summary: summary, DisplayAttrs: &framework.DisplayAttributes{OperationVerb: verb}, Responses: responses,
		ForwardPerformanceStandby: where != onAnyNode, ForwardPerformanceSecondary: where == onPrimary,
	}
}

// only are the operations of a path with one.
func only(one logical.Operation, operation *framework.PathOperation) map[logical.Operation]framework.OperationHandler {
	return map[logical.Operation]framework.OperationHandler{one: operation}
}

// entries are what is listed, read, written, patched and deleted by name: accounts, roles and static roles.
type entries struct {
	prefix            string // of the paths, and in storage
	name              string // the field that names one
	one, many, a      string // in the names of operations, and one in a sentence
	fields            map[string]*framework.FieldSchema
	answer            func() map[string]*framework.FieldSchema // of a read
	decisions         []string                                 // what of it a write answers
	read, write, drop framework.OperationFunc
	written, dropped  string // the events

	listSummary, readSummary, dropSummary, synopsis, help string
}

// entryPaths are the two paths of a kind of entries. No decision is required of a write's answer: an entry that cannot be read
// back is written all the same.
func (b *backend) entryPaths(e entries) []*framework.Path {
	exists := func(ctx context.Context, req *logical.Request, data *framework.FieldData) (bool, error) {
		if checkInput(data) != nil {
			return false, nil // the operation refuses it
		}
		entry, err := req.Storage.Get(ctx, e.prefix+data.Get(e.name).(string))
		return entry != nil, err
	}
	list := func(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
		names, err := storedNames(ctx, req.Storage, e.prefix)
		return logical.ListResponse(page(names, data)), err
	}
	changes := func(event, summary string, change framework.OperationFunc, responses map[int][]framework.Response) *framework.PathOperation {
		return pathOperation("", summary, b.announced(event, e.name, change), responses, onPrimary)
	}
	decisions := answers(subset(e.answer(), e.decisions), e.decisions...)
	write := func() *framework.PathOperation { return changes(e.written, "Write "+e.a+".", e.write, decisions) }
	return []*framework.Path{
		{
			Pattern:         e.prefix + "?$",
			DisplayAttrs:    &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: e.many},
			Fields:          pagingFields(),
			Operations:      only(logical.ListOperation, pathOperation("list", e.listSummary, list, answersList(), onAnyNode)),
			HelpDescription: "Lists the names of the " + strings.ReplaceAll(e.many, "-", " ") + "; after and limit page through them.",
		},
		{
			Pattern:        e.prefix + framework.GenericNameRegex(e.name),
			DisplayAttrs:   &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: e.one},
			Fields:         e.fields,
			ExistenceCheck: exists,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation:   pathOperation("", e.readSummary, e.read, answers(e.answer()), onAnyNode),
				logical.CreateOperation: write(),
				logical.UpdateOperation: write(),
				logical.PatchOperation:  changes(e.written, "Change some fields of "+e.a+".", patch(exists, e.write), decisions),
				logical.DeleteOperation: changes(e.dropped, e.dropSummary, e.drop, answersNothing()),
			},
			HelpSynopsis:    e.synopsis,
			HelpDescription: e.help,
		},
	}
}

// patch makes a write the PATCH of an entry, a JSON merge patch (RFC 7396): fields that are
// given change, null resets to the default, others stay. A write keeps what it is
// not given as well, so a patch is a write whose entry must exist and in which null
// has its meaning; it is judged, verified and answered by the same code.
//
// framework.HandlePatchOperation is not used: it wants the whole entry, secrets
// included, as a map, and reads null as the field type's zero, or not at all.
func patch(exists framework.ExistenceFunc, write framework.OperationFunc) framework.OperationFunc {
	return func(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
		there, err := exists(ctx, req, data)
		if err != nil {
			return nil, err
		}
		if !there {
			return nil, logical.CodedError(http.StatusNotFound, req.Path+" does not exist: write it first")
		}
		return write(context.WithValue(ctx, resetKey{}, resetNulls(data)), req, data)
	}
}

// resetKey marks the context of a patch with the fields that null has reset: the default of one may depend on others.
type resetKey struct{}

// resetNulls replaces each null by its field's default, and returns these fields.
func resetNulls(data *framework.FieldData) (reset []string) {
	for name, value := range data.Raw {
		if schema, known := data.Schema[name]; known && value == nil {
			data.Raw[name] = schema.DefaultOrZero()
			reset = append(reset, name)
		}
	}
	return reset
}
