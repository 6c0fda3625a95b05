// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// The parts of a CycloneDX 1.6 document that are used here. Generators of such documents put a random serial number and the
// time of the run into them, so that no two are the same.
type (
	document struct {
		Format      string      `json:"bomFormat"`
		SpecVersion string      `json:"specVersion"`
		Version     int         `json:"version"`
		Metadata    metadata    `json:"metadata"`
		Components  []component `json:"components"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Ref        string     `json:"bom-ref"`
		Type       string     `json:"type"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		PURL       string     `json:"purl,omitempty"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Licenses   []licence  `json:"licenses,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	licence struct {
		License struct {
			ID string `json:"id"`
		} `json:"license"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
)

// bill is the bill of materials of a binary: what the Go toolchain says is linked into it.
func (s source) bill(p product, sum string, modules []module) ([]byte, error) {
	doc := document{Format: "CycloneDX", SpecVersion: "1.6", Version: 1}
	doc.Metadata = metadata{
		Timestamp: s.date.Format(time.RFC3339),
		Component: component{
			Ref: p.base(), Type: "application", Name: p.name, Version: p.version,
			Hashes: []hash{{"SHA-256", sum}}, Licenses: licences("MPL-2.0"),
			Properties: []property{{"commit", s.commit}, {"os", p.os}, {"arch", p.arch}},
		},
	}
	for _, m := range modules {
		purl := packageURL(m)
		doc.Components = append(doc.Components, component{
			Ref: purl, Type: "library", Name: m.path, Version: m.version, PURL: purl, Licenses: licences(m.licence),
		})
	}
	raw, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(raw, '\n'), nil
}

func licences(id string) []licence {
	if id == "" {
		return nil
	}
	var l licence
	l.License.ID = id
	return []licence{l}
}

// packageURL names a module as scanners look vulnerabilities up: the standard library by its plain version.
func packageURL(m module) string {
	version := m.version
	if m.path == "std" {
		version = strings.TrimPrefix(version, "go")
	}
	return fmt.Sprintf("pkg:golang/%s@%s", m.path, strings.ReplaceAll(url.PathEscape(version), "+", "%2B"))
}
