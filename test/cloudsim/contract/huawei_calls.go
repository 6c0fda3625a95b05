// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package contract

import (
	"net/http"
	"slices"
)

// huaweiCalls are the calls of IAM's v3 and v3.0 APIs that this project makes, from the vendor's API reference: iam_03_0001
// to 0005 (keys), iam_04_0002 and 0101 (temporary keys), iam_08_0001, 0003 and 0015 (users), and the pages on groups,
// domains, projects and security settings.
func huaweiCalls() []huaweiCall {
	const (
		keys     = "/v3.0/OS-CREDENTIAL/credentials"
		sessions = "/v3.0/OS-CREDENTIAL/securitytokens"
		users    = "/v3.0/OS-USER/users"
		member   = "/v3/groups/*/users/*"
	)
	shownKey := under("credential.", "access!", "create_time!", "user_id!", "status!", "description")
	session := under("credential.", "access!", "secret!", "securitytoken!", "expires_at!")
	user := under("user.", "id!", "name!", "domain_id!", "enabled!?", "description", "access_mode", "pwd_status?", "pwd_strength",
		"is_domain_owner?", "email", "areacode", "phone", "xuser_id", "xuser_type", "create_time", "update_time", "last_login_time",
		"links{}")
	groups := append(under("groups[].", "id!", "name!", "domain_id!", "description", "create_time#", "links{}"), "links{}")

	return []huaweiCall{
		{
			method: http.MethodPost, path: keys, request: under("credential.", "user_id!", "description"),
			status: http.StatusCreated, response: append(shownKey, "credential.secret!"),
		},
		{
			method: http.MethodGet, path: keys, query: []string{"user_id"}, status: http.StatusOK,
			response: under("credentials[].", "access!", "create_time!", "user_id!", "status!", "description"),
		},
		{method: http.MethodGet, path: keys + "/*", status: http.StatusOK, response: append(shownKey, "credential.last_use_time!")},
		{
			method: http.MethodPut, path: keys + "/*", request: under("credential.", "status", "description"),
			status: http.StatusOK, response: shownKey,
		},
		{method: http.MethodDelete, path: keys + "/*", status: http.StatusNoContent},
		{
			method: http.MethodPost, path: sessions, auth: "token", status: http.StatusCreated, response: session,
			request: under("auth.identity.", "methods[]!", "token.id", "token.duration_seconds#", "policy{}"),
		},
		{
			method: http.MethodPost, path: sessions, auth: "assume_role", status: http.StatusCreated, response: session,
			request: under("auth.identity.", "methods[]!", "assume_role.agency_name!", "assume_role.domain_id", "assume_role.domain_name",
				"assume_role.duration_seconds#", "assume_role.session_user.name", "policy{}"),
		},
		{
			method: http.MethodPost, path: users, status: http.StatusCreated, response: user,
			request: under("user.", "name!", "domain_id!", "access_mode", "password", "email", "areacode", "phone", "enabled?",
				"pwd_status?", "xuser_type", "xuser_id", "description"),
		},
		{method: http.MethodGet, path: users + "/*", status: http.StatusOK, response: user},
		{
			method: http.MethodGet, path: "/v3/users", query: []string{"domain_id", "enabled", "name", "password_expires_at"},
			status: http.StatusOK,
			response: append(under("users[].", "id!", "name!", "domain_id!", "enabled!?", "description", "password_expires_at",
				"pwd_status?", "pwd_strength", "last_project_id", "access_mode", "links{}"), "links{}"),
		},
		{method: http.MethodDelete, path: "/v3/users/*", status: http.StatusNoContent},
		{method: http.MethodGet, path: "/v3/users/*/groups", status: http.StatusOK, response: groups},
		{method: http.MethodGet, path: "/v3/groups", query: []string{"domain_id", "name"}, status: http.StatusOK, response: groups},
		{method: http.MethodPut, path: member, status: http.StatusNoContent},
		{method: http.MethodDelete, path: member, status: http.StatusNoContent},
		{method: http.MethodHead, path: member, status: http.StatusNoContent},
		{
			method: http.MethodGet, path: "/v3/auth/domains", status: http.StatusOK,
			response: append(under("domains[].", "id!", "name!", "enabled?", "description", "links{}"), "links{}"),
		},
		{
			method: http.MethodGet, path: "/v3/auth/projects", status: http.StatusOK,
			response: append(under("projects[].", "id!", "name!", "domain_id!", "parent_id", "description", "is_domain?", "enabled!?",
				"links{}"), "links{}"),
		},
		{
			method: http.MethodGet, path: "/v3.0/OS-SECURITYPOLICY/domains/*/protect-policy", status: http.StatusOK,
			response: under("protect_policy.", "operation_protection!?", "allow_user{}", "mobile", "admin_check", "email", "scene"),
		},
		{
			method: http.MethodGet, path: "/v3.0/OS-QUOTA/domains/*", query: []string{"type"}, status: http.StatusOK,
			response: under("quotas.resources[].", "type!", "quota!#", "used!#", "min#", "max#"),
		},
	}
}

// under puts a prefix before names. What it returns may be appended to without harm to others.
func under(prefix string, names ...string) []string {
	paths := make([]string, 0, len(names))
	for _, name := range names {
		paths = append(paths, prefix+name)
	}
	return slices.Clip(paths)
}
