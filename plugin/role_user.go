// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	// credentialIAMUser leases keys of users made for one lease each.
	credentialIAMUser = "iam_user"

	// maxPolicyDocument is in characters that are no white space. OUTSCALE documents it
	// for managed policies (CreatePolicy).
	maxPolicyDocument = 5120

	// maxRights bounds the cloud calls of an issue, which pass the account's pacer.
	maxRights = 20

	defaultUserPath = "/"
)

// rights are those of the role's users.
func (r *roleEntry) rights() provider.Rights {
	return provider.Rights{PolicyORNs: r.PolicyORNs, Document: r.PolicyDocument, Groups: r.Groups}
}

// validateType refuses fields that belong to the other credential_type: ignored, they
// would leave an operator in the belief that they limit something.
func (r *roleEntry) validateType() error {
	given := func(name string, is bool, belongs string) error {
		if is && r.CredentialType != belongs {
			return mendable("%s goes with credential_type=%s alone, and this role has %s: write %s empty, or change the type",
				name, belongs, r.CredentialType, name)
		}
		return nil
	}
	if !slices.Contains(credentialTypes, r.CredentialType) {
		return mendable("unknown credential_type %q: set it to one of %s", r.CredentialType, strings.Join(credentialTypes, ", "))
	}
	for _, err := range []error{
		given("user_names", len(r.UserNames) > 0, credentialAccessKey),
		given("user_path", r.UserPath != "", credentialIAMUser),
		given("policy_orns", len(r.PolicyORNs) > 0, credentialIAMUser),
		given("policy_document", r.PolicyDocument != "", credentialIAMUser),
		given("groups", len(r.Groups) > 0, credentialIAMUser),
		given("agency_name", r.AgencyName != "", credentialSession),
		given("agency_domain", r.AgencyDomain != "", credentialSession),
		given("session_policy", r.SessionPolicy != "", credentialSession),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *roleEntry) validateRights() error {
	if n := len(r.PolicyORNs) + len(r.Groups); n > maxRights {
		return mendable("policy_orns and groups name %d policies and groups, and %d is the most: gather them in a group", n, maxRights)
	}
	return nil
}

func checkEach(field string, values []string, check func(string) error) error {
	for i, value := range values {
		if err := check(value); err != nil {
			return mendable("%s: %s", field, err)
		}
		if slices.Contains(values[:i], value) {
			return mendable("%s holds %q twice", field, value)
		}
	}
	return nil
}

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
		return fmt.Errorf("it has %d characters without white space, and OUTSCALE takes %d: use a managed policy and policy_orns", visible, maxPolicyDocument)
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

// powerless warns of a role whose users may do nothing.
func (r *roleEntry) powerless() []string {
	if r.CredentialType != credentialIAMUser || len(r.PolicyORNs)+len(r.Groups) > 0 || r.PolicyDocument != "" {
		return nil
	}
	return []string{"the role has no policy_orns, policy_document or groups: its keys may do nothing in the cloud"}
}
