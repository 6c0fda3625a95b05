// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package integrations

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"github.com/getkin/kin-openapi/openapi3"
)

// definition is what a custom resource definition says of one kind.
type definition struct {
	Spec struct {
		Group    string
		Names    struct{ Kind string }
		Versions []struct {
			Name   string
			Served bool
			Schema struct{ OpenAPIV3Schema map[string]any }
		}
	}
}

// manifest is a resource of docs/examples/kubernetes. Both operators call theirs VaultDynamicSecret.
type manifest struct {
	APIVersion string
	Kind       string
	Spec       struct {
		Mount       string
		Path        string
		Destination struct {
			Transformation struct {
				Templates map[string]struct{ Text string }
			}
		}
		Target struct {
			Template struct{ Data map[string]string }
		}
	}
}

// documents reads a file of YAML documents by way of the Python environment: the engine's module needs no YAML.
func documents(t *testing.T, path string) []json.RawMessage {
	t.Helper()
	convert := exec.CommandContext(t.Context(), tool(t, "python"), "-c",
		"import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout, default=str)", path)
	out, err := convert.Output()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return mustDecode[[]json.RawMessage](t, string(out))
}

// schemas are those of the operators' resources, by apiVersion and kind.
func schemas(t *testing.T) map[string]*openapi3.Schema {
	t.Helper()
	download := exec.CommandContext(t.Context(), "go", "mod", "download", "-json")
	download.Dir = "crds"
	out, err := download.Output()
	if err != nil {
		t.Fatalf("go mod download: %v: %s", err, out)
	}
	found := map[string]*openapi3.Schema{}
	for modules := json.NewDecoder(bytes.NewReader(out)); ; {
		var module struct{ Dir string }
		if err := modules.Decode(&module); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		for _, pattern := range []string{
			"chart/crds/*.yaml", "config/crds/bases/*externalsecrets.yaml",
			"config/crds/bases/*vaultdynamicsecrets.yaml", "config/crds/bases/*_secretstores.yaml",
		} {
			files, err := filepath.Glob(filepath.Join(module.Dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				addSchemas(t, found, mustDecode[definition](t, string(documents(t, file)[0])))
			}
		}
	}
}

func addSchemas(t *testing.T, to map[string]*openapi3.Schema, d definition) {
	t.Helper()
	for _, version := range d.Spec.Versions {
		if !version.Served {
			continue
		}
		closed(version.Schema.OpenAPIV3Schema)
		text, err := json.Marshal(version.Schema.OpenAPIV3Schema)
		if err != nil {
			t.Fatal(err)
		}
		schema := mustDecode[openapi3.Schema](t, string(text))
		to[d.Spec.Group+"/"+version.Name+" "+d.Spec.Names.Kind] = &schema
	}
}

// closed lets a schema refuse fields that it does not name, as kubectl does.
func closed(schema map[string]any) {
	properties, object := schema["properties"].(map[string]any)
	if _, open := schema["additionalProperties"]; object && !open && schema["x-kubernetes-preserve-unknown-fields"] != true {
		schema["additionalProperties"] = false
	}
	for _, property := range properties {
		if property, is := property.(map[string]any); is {
			closed(property)
		}
	}
	for _, inner := range []string{"items", "additionalProperties"} {
		if inner, is := schema[inner].(map[string]any); is {
			closed(inner)
		}
	}
}

func TestKubernetesManifestsAreWhatTheOperatorsTake(t *testing.T) {
	t.Parallel()
	known := schemas(t)
	files, err := filepath.Glob(filepath.Join(repository, "docs/examples/kubernetes/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		for _, document := range documents(t, file) {
			resource := mustDecode[manifest](t, string(document))
			if resource.APIVersion == "v1" || strings.HasPrefix(resource.APIVersion, "rbac.authorization.k8s.io/") {
				continue // Kubernetes' own: make test-kubernetes applies them
			}
			schema := known[resource.APIVersion+" "+resource.Kind]
			if schema == nil {
				t.Errorf("%s: no operator has the kind %s %s", file, resource.APIVersion, resource.Kind)
				continue
			}
			// A cluster fills defaults in before it checks.
			defaults := []openapi3.SchemaValidationOption{openapi3.VisitAsRequest(), openapi3.DefaultsSet(func() {})}
			if err := schema.VisitJSON(mustDecode[any](t, string(document)), defaults...); err != nil {
				t.Errorf("%s, %s: %v", file, resource.Kind, err)
			}
			misspelt := strings.Replace(string(document), `"spec": {`, `"spec": {"misspelt": 1, `, 1)
			if schema.VisitJSON(mustDecode[any](t, misspelt), defaults...) == nil {
				t.Errorf("%s, %s: the check lets unknown fields pass", file, resource.Kind)
			}
		}
	}
}

// TestKubernetesManifestsAskForWhatTheEngineAnswers reads what the manifests name, and renders their templates with the answers.
func TestKubernetesManifestsAskForWhatTheEngineAnswers(t *testing.T) {
	t.Parallel()
	d := newDesk(t, hour)
	d.account.AddUser("legacy")
	d.write("outscale/static-roles/legacy", map[string]any{"user_name": "legacy", "rotation_period": "24h"})

	for _, file := range []string{"vault-secrets-operator.yaml", "vault-secrets-operator-huawei.yaml"} {
		for _, document := range documents(t, filepath.Join(repository, "docs/examples/kubernetes", file)) {
			resource := mustDecode[manifest](t, string(document)).Spec
			answer := d.read(resource.Mount + "/" + resource.Path).Data
			for name, text := range resource.Destination.Transformation.Templates {
				mustRender(t, resource.Path+" "+name, text.Text, map[string]any{"Secrets": answer})
			}
		}
	}
	var answer map[string]any
	for _, document := range documents(t, filepath.Join(repository, "docs/examples/kubernetes/external-secrets.yaml")) {
		resource := mustDecode[manifest](t, string(document)).Spec
		if resource.Path != "" {
			answer = d.read(resource.Path).Data
		}
		for name, text := range resource.Target.Template.Data {
			mustRender(t, name, text, answer)
		}
	}
	if answer == nil {
		t.Error("no generator reads a path")
	}
}

// mustRender renders a template as both operators do, with the function get of theirs. What is rendered may not be empty.
func mustRender(t *testing.T, name, text string, data any) {
	t.Helper()
	get := func(from map[string]any, key string) any { return from[key] }
	parsed, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{"get": get}).Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := parsed.Execute(&out, data); err != nil {
		t.Fatal(err)
	}
	if out.Len() == 0 || out.String() == "<no value>" {
		t.Errorf("%s: the engine's answer has nothing for %s", name, text)
	}
}
