// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	cloudkeys "github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin"
)

// writeReference prints every path of the secrets engine with its fields and answers, asked of the engine itself by the same help
// requests that Vault's API explorer and `vault path-help` send.
func writeReference(ctx context.Context, out io.Writer) error {
	engine, err := cloudkeys.Factory(cloudkeys.Build{})(ctx, &logical.BackendConfig{
		StorageView: &logical.InmemStorage{},
		System:      &logical.StaticSystemView{PluginEnvironment: &logical.PluginEnvironment{}},
	})
	if err != nil {
		return err
	}
	defer engine.Cleanup(ctx)
	document, err := openAPI(ctx, engine)
	if err != nil {
		return err
	}
	p := page{out: out}
	p.head()
	for _, path := range sortedPaths(document) {
		description, err := longHelp(ctx, engine, path)
		if err != nil {
			return err
		}
		p.path(path, document.Paths[path], document.Components.Schemas, description)
	}
	return p.err
}

// openAPI is the engine's description of itself: what the help of its root carries.
func openAPI(ctx context.Context, engine logical.Backend) (*framework.OASDocument, error) {
	resp, err := help(ctx, engine, "")
	if err != nil {
		return nil, err
	}
	document, ok := resp.Data["openapi"].(*framework.OASDocument)
	if !ok {
		return nil, fmt.Errorf("the engine describes itself as a %T", resp.Data["openapi"])
	}
	return document, nil
}

func help(ctx context.Context, engine logical.Backend, path string) (*logical.Response, error) {
	resp, err := engine.HandleRequest(ctx, &logical.Request{Operation: logical.HelpOperation, Path: path, Storage: &logical.InmemStorage{}})
	if err != nil {
		return nil, fmt.Errorf("asking for the help of %q: %w", path, err)
	}
	return resp, nil
}

// page writes Markdown and remembers the first error.
type page struct {
	out io.Writer
	err error
}

func (p *page) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format, args...)
	}
}

func (p *page) head() {
	p.printf("# API reference\n\n[Use](README.md#use-it) · [Operate](README.md#operate-it) · [Develop](README.md#develop-it)\n\n" +
		"Made by `make docs` from the engine's own description; `vault path-help <mount>/<path>` shows the fields. Paths are below the mount, " +
		"such as `outscale/`. Durations are written as `15m` or in seconds, and shown in seconds. A field marked *sensitive* is a secret: `config/` never returns it.\n")
}

func (p *page) path(path string, item *framework.OASPathItem, schemas map[string]*framework.OASSchema, description string) {
	p.printf("\n## `%s`\n\n%s\n", strings.TrimPrefix(path, "/"), strings.TrimSpace(item.Description))
	if description != "" {
		p.printf("\n%s\n", description)
	}
	p.operations(item)
	known := parameters(item)
	p.fields("Parameters", known)
	// The sdk writes a parameter of another operation into the body, too.
	p.fields("Fields", slices.DeleteFunc(bodyFields(item, schemas), func(f field) bool {
		return slices.ContainsFunc(known, func(k field) bool { return k.name == f.name })
	}))
	for _, op := range operations(item) {
		p.fields("Answer to "+op.verb, answerFields(op.op, schemas))
	}
}

func (p *page) operations(item *framework.OASPathItem) {
	p.printf("\n| operation | |\n| --- | --- |\n")
	for _, op := range operations(item) {
		p.printf("| %s | %s |\n", op.verb, cell(op.op.Summary))
	}
}

// field is one row of a table.
type field struct {
	name, kind, text string
}

func (p *page) fields(title string, rows []field) {
	if len(rows) == 0 {
		return
	}
	p.printf("\n%s:\n\n| name | type | |\n| --- | --- | --- |\n", title)
	for _, row := range rows {
		p.printf("| `%s` | %s | %s |\n", row.name, row.kind, cell(row.text))
	}
}

// operation is what a path can be asked, in Vault's words.
type operation struct {
	verb string
	op   *framework.OASOperation
}

func operations(item *framework.OASPathItem) []operation {
	read := "read"
	if isList(item.Get) {
		read = "list"
	}
	all := []operation{{read, item.Get}, {"write", item.Post}, {"patch", item.Patch}, {"delete", item.Delete}}
	return slices.DeleteFunc(all, func(o operation) bool { return o.op == nil })
}

// isList tells a list from a read: OpenAPI has one word for both, and the sdk marks the list by a parameter.
func isList(op *framework.OASOperation) bool {
	return op != nil && slices.ContainsFunc(op.Parameters, func(p framework.OASParameter) bool { return p.Name == "list" })
}

func parameters(item *framework.OASPathItem) []field {
	var rows []field
	add := func(parameters []framework.OASParameter) {
		for _, p := range parameters {
			known := slices.ContainsFunc(rows, func(row field) bool { return row.name == p.Name }) // each operation names those that they share
			if p.Name != "list" && !known {
				rows = append(rows, field{p.Name, kindOf(p.Schema), p.Description})
			}
		}
	}
	add(item.Parameters)
	for _, op := range operations(item) {
		add(op.op.Parameters)
	}
	return rows
}

// bodyFields are what a write takes; a patch takes the same.
func bodyFields(item *framework.OASPathItem, schemas map[string]*framework.OASSchema) []field {
	if item.Post == nil || item.Post.RequestBody == nil {
		return nil
	}
	return properties(content(item.Post.RequestBody.Content, schemas), true)
}

func answerFields(op *framework.OASOperation, schemas map[string]*framework.OASSchema) []field {
	if op.Responses[200] == nil {
		return nil
	}
	return properties(content(op.Responses[200].Content, schemas), false)
}

// content follows the reference to the schema of a body.
func content(c framework.OASContent, schemas map[string]*framework.OASSchema) *framework.OASSchema {
	for _, media := range c {
		if media.Schema == nil {
			continue
		}
		if name, ok := strings.CutPrefix(media.Schema.Ref, "#/components/schemas/"); ok {
			return schemas[name]
		}
		return media.Schema
	}
	return nil
}

func properties(schema *framework.OASSchema, taken bool) []field {
	if schema == nil {
		return nil
	}
	var rows []field
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		property := schema.Properties[name]
		rows = append(rows, field{name, kindOf(property), text(property, taken)})
	}
	return rows
}

// text describes a field; a default is worth saying only where the field is taken.
func text(s *framework.OASSchema, taken bool) string {
	words := s.Description
	if taken && len(s.Enum) > 0 {
		var values []string
		for _, value := range s.Enum {
			values = append(values, fmt.Sprintf("`%v`", value))
		}
		words += " One of " + strings.Join(values, ", ") + "."
	}
	if taken && s.Default != nil {
		words += fmt.Sprintf(" Default: `%v`.", s.Default)
	}
	if s.DisplaySensitive || (s.DisplayAttrs != nil && s.DisplayAttrs.Sensitive) {
		words += " *Sensitive.*"
	}
	return words
}

func kindOf(s *framework.OASSchema) string {
	switch {
	case s == nil:
		return ""
	case s.Type == "array":
		return "list of " + cmp.Or(kindOf(s.Items), "any")
	case s.Format == "duration":
		return "duration"
	default:
		return s.Type
	}
}

// cell is text that stands in one cell of a table.
func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

func sortedPaths(document *framework.OASDocument) []string {
	return slices.Sorted(maps.Keys(document.Paths))
}

// longHelp is what `vault path-help` says beyond the synopsis, which OpenAPI leaves out. Any
// name stands for a path's parameters.
func longHelp(ctx context.Context, engine logical.Backend, path string) (string, error) {
	resp, err := help(ctx, engine, strings.TrimPrefix(strings.NewReplacer("{", "", "}", "").Replace(path), "/"))
	if err != nil {
		return "", err
	}
	whole, ok := resp.Data["help"].(string)
	if !ok {
		return "", fmt.Errorf("the help of %s is a %T", path, resp.Data["help"])
	}
	_, description, _ := strings.Cut(whole, "## DESCRIPTION")
	return strings.Join(strings.Fields(description), " "), nil
}
