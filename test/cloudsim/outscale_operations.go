// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"encoding/json"
	"net/http"
)

// caller is who sent a request: the root user or an EIM user of an account. Its methods are the operations; they run with
// cloud.mu held.
type caller struct {
	cloud   *Cloud
	account *Account
	who     *identity
}

// operation does the work of one call and returns the answer's fields.
type operation func(who caller, body []byte) (answerFields, *apiError)

// answerFields are the top-level fields of an answer, to which ResponseContext is added.
type answerFields map[string]any

// operations are the calls served. ReadVms always lists nothing: it is a harmless call for a leased key to sign.
var operations = map[string]operation{
	"CreateAccessKey":         typed(caller.createAccessKey),
	"ReadAccessKeys":          typed(caller.readAccessKeys),
	"UpdateAccessKey":         typed(caller.updateAccessKey),
	"DeleteAccessKey":         typed(caller.deleteAccessKey),
	"CreateUser":              typed(caller.createUser),
	"ReadUsers":               typed(caller.readUsers),
	"DeleteUser":              typed(caller.deleteUser),
	"PutUserPolicy":           typed(caller.putUserPolicy),
	"ReadUserPolicies":        typed(caller.readUserPolicies),
	"DeleteUserPolicy":        typed(caller.deleteUserPolicy),
	"CreatePolicy":            typed(caller.createPolicy),
	"LinkPolicy":              typed(caller.linkPolicy),
	"UnlinkPolicy":            typed(caller.unlinkPolicy),
	"ReadLinkedPolicies":      typed(caller.readLinkedPolicies),
	"CreateUserGroup":         typed(caller.createGroup),
	"AddUserToUserGroup":      typed(caller.addToGroup),
	"RemoveUserFromUserGroup": typed(caller.removeFromGroup),
	"ReadUserGroupsPerUser":   typed(caller.readGroups),
	"ReadApiAccessPolicy":     typed(caller.readPolicy),
	"UpdateApiAccessPolicy":   typed(caller.updatePolicy),
	"ReadAccounts":            typed(caller.readAccounts),
	"ReadRegions":             typed(caller.readRegions),
	"ReadVms":                 typed(caller.readVms),
}

// withoutAuthentication are the calls that need no signature.
var withoutAuthentication = map[string]bool{"ReadRegions": true}

// typed makes an operation of a method with a typed request. DryRun ends the call after the checks of the parameters'
// names and types; what the real cloud answers to it is not known (Rules.DryRunRefuses).
func typed[T any](work func(caller, T) (answerFields, *apiError)) operation {
	return func(who caller, body []byte) (answerFields, *apiError) {
		var request T
		body, dry, refusal := cutDryRun(body)
		if refusal != nil {
			return nil, refusal
		}
		if refusal := decode(body, &request); refusal != nil {
			return nil, refusal
		}
		if dry && who.cloud.rules.DryRunRefuses {
			return nil, &apiError{http.StatusPreconditionFailed, "DryRunOperation", "", codeDefault}
		}
		if dry {
			return answerFields{}, nil
		}
		return work(who, request)
	}
}

// cutDryRun takes the parameter that every call has out of the request.
func cutDryRun(body []byte) (rest []byte, dry bool, refusal *apiError) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return nil, false, errParameterType("request")
	}
	raw, ok := fields["DryRun"]
	if !ok {
		return body, false, nil
	}
	if err := json.Unmarshal(raw, &dry); err != nil || string(raw) == "null" {
		return nil, false, errParameterType("DryRun")
	}
	delete(fields, "DryRun")
	rest, err := json.Marshal(fields)
	if err != nil {
		return nil, false, errParameterType("request")
	}
	return rest, dry, nil
}

// identity resolves a UserName parameter; without one, callers act on themselves.
func (c caller) identity(userName *string) (*identity, *apiError) {
	if userName == nil {
		return c.who, nil
	}
	if *userName == "" {
		return nil, errValue(codeValue, "UserName must not be empty.")
	}
	who, ok := c.account.identities[*userName]
	if !ok {
		return nil, errNoSuchUser()
	}
	return who, nil
}

func (c caller) readAccounts(struct{}) (answerFields, *apiError) {
	account := struct{ AccountId, CompanyName, Email string }{c.account.id, "Example", c.account.email()}
	return answerFields{"Accounts": []any{account}}, nil
}

func (c caller) readRegions(struct{}) (answerFields, *apiError) {
	region := struct{ RegionName, Endpoint string }{c.cloud.region, "api." + c.cloud.region + ".outscale.com"}
	return answerFields{"Regions": []any{region}}, nil
}

type readVmsRequest struct {
	Filters        json.RawMessage
	NextPageToken  *string
	ResultsPerPage *int
}

func (c caller) readVms(readVmsRequest) (answerFields, *apiError) {
	return answerFields{"Vms": []any{}}, nil
}
