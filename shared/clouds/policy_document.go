// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package clouds

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// maxPolicyDocument is in characters that are no white space. OUTSCALE documents it for
// managed policies (CreatePolicy).
const maxPolicyDocument = 5120

// policyStatement is a part of a policy document as OUTSCALE's guide describes it ("EIM
// Policy Elements"). Its names are case sensitive, which encoding/json's are not.
type policyStatement map[string]json.RawMessage

// checkPolicyDocument holds a document against the guide. The document itself is kept as
// it was given.
func checkPolicyDocument(text string) error {
	visible := 0
	for _, r := range text {
		if !unicode.IsSpace(r) {
			visible++
		}
	}
	if visible > maxPolicyDocument {
		return fmt.Errorf(
			"it has %d characters without white space, and OUTSCALE takes %d: use a managed policy and policy_orns",
			visible,
			maxPolicyDocument,
		)
	}
	var document map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &document); err != nil || document == nil {
		return errors.New(`it is not a JSON object, such as {"Statement": [{"Effect": "Allow", "Action": ["api:Read*"], "Resource": ["*"]}]}`)
	}
	var statements []policyStatement
	if err := json.Unmarshal(document["Statement"], &statements); err != nil || len(statements) == 0 {
		return errors.New("it has no list Statement with at least one statement")
	}
	for i, s := range statements {
		if err := s.check(); err != nil {
			return fmt.Errorf("statement %d %w", i+1, err)
		}
	}
	return nil
}

func (s policyStatement) check() error {
	if effect := string(bytes.TrimSpace(s["Effect"])); effect != `"Allow"` && effect != `"Deny"` {
		return errors.New(`has no Effect, which is "Allow" or "Deny"`)
	}
	_, action := s["Action"]
	_, notAction := s["NotAction"]
	switch {
	case action == notAction:
		return errors.New("needs either Action or NotAction")
	case action && !s.listsTexts("Action"):
		return errors.New(`has an Action that is not a list of texts, such as ["api:Read*"]`)
	case notAction && !s.listsTexts("NotAction"):
		return errors.New(`has a NotAction that is not a list of texts, such as ["api:Read*"]`)
	case !s.listsTexts("Resource"):
		return errors.New(`has no Resource, which is a list of texts, such as ["*"]`)
	}
	return nil
}

func (s policyStatement) listsTexts(element string) bool {
	var texts []string
	if err := json.Unmarshal(s[element], &texts); err != nil || len(texts) == 0 {
		return false
	}
	return !slices.ContainsFunc(texts, func(text string) bool { return strings.TrimSpace(text) == "" })
}
