// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
)

const maxPolicyName = 128

var ornPattern = regexp.MustCompile(`^orn:ows:(iam|idauth):\S*:\d{12}:policy/\S+$`)

// managedPolicy is a policy that can be linked to users.
type managedPolicy struct {
	name     string
	id       string
	created  time.Time
	document document
}

// AddPolicy makes a managed policy that allows the action patterns, and returns its ORN.
func (a *Account) AddPolicy(name string, allow ...string) (orn string) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	return a.newPolicy(name, document{Statement: []statement{{Effect: "Allow", Action: allow, Resource: []string{"*"}}}})
}

func (a *Account) newPolicy(name string, d document) (orn string) {
	orn = fmt.Sprintf("orn:ows:idauth::%s:policy/%s", a.id, name)
	a.policies[orn] = &managedPolicy{name: name, id: randomID(32), created: a.cloud.now(), document: d}
	return orn
}

type createPolicyRequest struct {
	Document    *string
	PolicyName  *string
	Path        *string
	Description *string
}

func (c caller) createPolicy(in createPolicyRequest) (answerFields, *apiError) {
	switch {
	case in.Document == nil:
		return nil, errMissing("Document")
	case in.PolicyName == nil:
		return nil, errMissing("PolicyName")
	}
	d, refusal := parseDocument(*in.Document)
	if refusal != nil {
		return nil, refusal
	}
	orn := c.account.newPolicy(*in.PolicyName, d)
	view := struct{ Orn, PolicyName, PolicyId string }{orn, *in.PolicyName, c.account.policies[orn].id}
	return answerFields{"Policy": view}, nil
}

type inlinePolicyRequest struct {
	PolicyDocument *string
	PolicyName     *string
	UserName       *string
}

func (c caller) putUserPolicy(in inlinePolicyRequest) (answerFields, *apiError) {
	if in.PolicyDocument == nil {
		return nil, errMissing("PolicyDocument")
	}
	who, name, refusal := c.inlinePolicy(in.UserName, in.PolicyName)
	if refusal != nil {
		return nil, refusal
	}
	if _, refusal := parseDocument(*in.PolicyDocument); refusal != nil {
		return nil, refusal
	}
	who.inline[name] = *in.PolicyDocument
	return answerFields{}, nil
}

func (c caller) inlinePolicy(userName, policyName *string) (*identity, string, *apiError) {
	switch {
	case policyName == nil:
		return nil, "", errMissing("PolicyName")
	case len(*policyName) < 1 || len(*policyName) > maxPolicyName:
		return nil, "", errValue(codeValue, "PolicyName is not valid.")
	}
	who, refusal := c.named(userName)
	return who, *policyName, refusal
}

type deleteUserPolicyRequest struct {
	PolicyName *string
	UserName   *string
}

func (c caller) deleteUserPolicy(in deleteUserPolicyRequest) (answerFields, *apiError) {
	who, name, refusal := c.inlinePolicy(in.UserName, in.PolicyName)
	if refusal != nil {
		return nil, refusal
	}
	if _, ok := who.inline[name]; !ok {
		return nil, errResource(codeNoSuchPolicy)
	}
	delete(who.inline, name)
	return answerFields{}, nil
}

type userRequest struct{ UserName *string }

func (c caller) readUserPolicies(in userRequest) (answerFields, *apiError) {
	who, refusal := c.named(in.UserName)
	if refusal != nil {
		return nil, refusal
	}
	return answerFields{"PolicyNames": slices.AppendSeq([]string{}, maps.Keys(who.inline))}, nil
}

type linkPolicyRequest struct {
	PolicyOrn *string
	UserName  *string
}

func (c caller) linkable(in linkPolicyRequest) (*identity, string, *apiError) {
	switch {
	case in.PolicyOrn == nil:
		return nil, "", errMissing("PolicyOrn")
	case !ornPattern.MatchString(*in.PolicyOrn):
		return nil, "", errValue(codeValue, "PolicyOrn is not valid.")
	}
	who, refusal := c.named(in.UserName)
	if refusal == nil && c.account.policies[*in.PolicyOrn] == nil {
		refusal = errResource(codeNoSuchPolicy)
	}
	return who, *in.PolicyOrn, refusal
}

func (c caller) linkPolicy(in linkPolicyRequest) (answerFields, *apiError) {
	who, orn, refusal := c.linkable(in)
	if refusal != nil {
		return nil, refusal
	}
	if !slices.Contains(who.linked, orn) {
		who.linked = append(who.linked, orn)
	}
	return answerFields{}, nil
}

func (c caller) unlinkPolicy(in linkPolicyRequest) (answerFields, *apiError) {
	who, orn, refusal := c.linkable(in)
	if refusal != nil {
		return nil, refusal
	}
	if !slices.Contains(who.linked, orn) {
		return nil, errResource(codeNoSuchPolicy)
	}
	who.linked = slices.DeleteFunc(who.linked, func(other string) bool { return other == orn })
	return answerFields{}, nil
}

type readLinkedRequest struct {
	UserName       *string
	Filters        *struct{ PathPrefix *string }
	FirstItem      *int
	ResultsPerPage *int
}

type linkedPolicy struct {
	Orn, PolicyName, PolicyId, CreationDate, LastModificationDate string
}

func (c caller) readLinkedPolicies(in readLinkedRequest) (answerFields, *apiError) {
	who, refusal := c.named(in.UserName)
	if refusal != nil {
		return nil, refusal
	}
	first, last, fields, refusal := pageOf(len(who.linked), in.FirstItem, in.ResultsPerPage)
	if refusal != nil {
		return nil, refusal
	}
	page := []linkedPolicy{}
	for _, orn := range who.linked[first:last] {
		p := c.account.policies[orn]
		page = append(page, linkedPolicy{orn, p.name, p.id, formatDate(p.created), formatDate(p.created)})
	}
	fields["Policies"] = page
	return fields, nil
}

// named resolves a UserName that must be given.
func (c caller) named(userName *string) (*identity, *apiError) {
	if userName == nil {
		return nil, errMissing("UserName")
	}
	return c.identity(userName)
}
