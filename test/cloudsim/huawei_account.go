// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import "net/http"

// listDomains names the caller's account. It is the way to learn the account's id from a key, and needs no id itself; for
// users with few rights the list can be empty.
func (c iamCaller) listDomains() (any, *iamError) {
	type view struct {
		ID          string   `json:"id"`
		Name        string   `json:"name"`
		Description string   `json:"description"`
		Enabled     bool     `json:"enabled"`
		Links       selfLink `json:"links"`
	}
	out := struct {
		Domains []view   `json:"domains"`
		Links   selfLink `json:"links"`
	}{[]view{}, linkTo("auth", "domains")}
	if c.who == nil || !c.who.noDomains {
		out.Domains = append(out.Domains, view{
			ID: c.domain.id, Name: c.domain.name, Enabled: true, Links: linkTo("domains", c.domain.id),
		})
	}
	return out, nil
}

// listProjects needs no permission: it is the harmless call for a leased key to sign.
func (c iamCaller) listProjects() (any, *iamError) {
	type view struct {
		ID          string   `json:"id"`
		Name        string   `json:"name"`
		DomainID    string   `json:"domain_id"`
		ParentID    string   `json:"parent_id"`
		Description string   `json:"description"`
		IsDomain    bool     `json:"is_domain"`
		Enabled     bool     `json:"enabled"`
		Links       selfLink `json:"links"`
	}
	return struct {
		Projects []view   `json:"projects"`
		Links    selfLink `json:"links"`
	}{
		[]view{{
			ID: c.domain.project, Name: "eu-west-101", DomainID: c.domain.id, ParentID: c.domain.id, Enabled: true,
			Links: linkTo("projects", c.domain.project),
		}},
		linkTo("auth", "projects"),
	}, nil
}

// showProtectPolicy tells whether users without administration rights manage their own keys.
func (c iamCaller) showProtectPolicy() (any, *iamError) {
	const action = "iam:securitypolicies:getProtectPolicy"
	if !c.may(action) {
		return nil, errDenied(action)
	}
	if refusal := c.ownDomainInPath(action); refusal != nil {
		return nil, refusal
	}
	type allowUser struct {
		ManageAccessKey bool `json:"manage_accesskey"`
		ManageEmail     bool `json:"manage_email"`
		ManageMobile    bool `json:"manage_mobile"`
		ManagePassword  bool `json:"manage_password"`
	}
	type policy struct {
		AllowUser           allowUser `json:"allow_user"`
		OperationProtection bool      `json:"operation_protection"`
	}
	return struct {
		ProtectPolicy policy `json:"protect_policy"`
	}{policy{AllowUser: allowUser{!c.domain.keysForAdmins, true, true, true}}}, nil
}

// showQuota has no quota of keys: it cannot be asked for.
func (c iamCaller) showQuota() (any, *iamError) {
	const action = "iam:quotas:listQuotas"
	if !c.may(action) {
		return nil, errDenied(action)
	}
	if refusal := c.ownDomainInPath(action); refusal != nil {
		return nil, refusal
	}
	type resource struct {
		Type  string `json:"type"`
		Quota int    `json:"quota"`
		Used  int    `json:"used"`
		Min   int    `json:"min"`
		Max   int    `json:"max"`
	}
	all := []resource{
		{"user", iamUserQuota, len(c.domain.users) - 1, iamUserQuota, 2000},
		{"group", iamGroupQuota, len(c.domain.groups), 10, 2000},
		{"agency", iamAgencyQuota, len(c.domain.agencies), 10, 5000},
	}
	wanted := c.request.URL.Query().Get("type")
	resources := []resource{}
	for _, r := range all {
		if wanted == "" || wanted == r.Type {
			resources = append(resources, r)
		}
	}
	if len(resources) == 0 {
		return nil, apiRefusal(http.StatusBadRequest, codeIAMInvalid, "There is no quota of type %s.", wanted)
	}
	return map[string]any{"quotas": map[string]any{"resources": resources}}, nil
}

func (c iamCaller) ownDomainInPath(action string) *iamError {
	if c.request.path[0] != c.domain.id {
		return errDenied(action)
	}
	return nil
}
