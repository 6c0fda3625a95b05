// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"
)

// maxDocument is the documented size of a policy document, in characters that are no white space.
const maxDocument = 5120

// document is an EIM policy document. Elements are case sensitive; encoding/json is not, but no test depends on it.
type document struct {
	Statement []statement
}

type statement struct {
	Sid       string
	Effect    string
	Action    []string
	NotAction []string
	Resource  []string
}

// parseDocument refuses what is not a policy.
func parseDocument(text string) (document, *apiError) {
	malformed := errValue(codeValue, "The policy document is malformed.")
	if nonSpaces(text) > maxDocument {
		return document{}, malformed
	}
	var d document
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil || len(d.Statement) == 0 {
		return document{}, malformed
	}
	for _, s := range d.Statement {
		hasAction := len(s.Action) > 0 || len(s.NotAction) > 0
		if s.Effect != "Allow" && s.Effect != "Deny" || !hasAction || len(s.Resource) == 0 {
			return document{}, malformed
		}
	}
	return d, nil
}

func nonSpaces(text string) int {
	n := 0
	for _, r := range text {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}

// concerns tells whether a statement is about an action. Patterns end in an asterisk at most.
func (s statement) concerns(action string) bool {
	named := func(pattern string) bool { return allows(pattern, action) }
	if len(s.NotAction) > 0 {
		return !slices.ContainsFunc(s.NotAction, named)
	}
	return slices.ContainsFunc(s.Action, named)
}

// mayCall decides as AWS does: what is denied anywhere is refused, what is allowed nowhere too. The caller holds cloud.mu.
func (a *Account) mayCall(who *identity, action string) bool {
	allowed := slices.ContainsFunc(who.allow, func(pattern string) bool { return allows(pattern, action) })
	for _, d := range a.documentsOf(who) {
		for _, s := range d.Statement {
			if !s.concerns(action) {
				continue
			}
			if s.Effect == "Deny" {
				return false
			}
			allowed = true
		}
	}
	return allowed
}

// documentsOf are a user's own policies, those linked to it and those of its groups.
func (a *Account) documentsOf(who *identity) []document {
	var documents []document
	for _, text := range who.inline {
		if d, refusal := parseDocument(text); refusal == nil {
			documents = append(documents, d)
		}
	}
	for _, orn := range who.linked {
		documents = append(documents, a.policies[orn].document)
	}
	for _, g := range who.groups {
		documents = append(documents, g.document)
	}
	return documents
}
