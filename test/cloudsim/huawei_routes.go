// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import "net/http"

// opByAgency shares its path with CreateTemporaryAccessKeyByToken: the body tells.
const opByAgency = "CreateTemporaryAccessKeyByAgency"

// routes are the calls served, named as the vendor's SDK names them.
func routes() []route {
	const (
		keys     = "/v3.0/OS-CREDENTIAL/credentials"
		key      = keys + "/{access_key}"
		sessions = "/v3.0/OS-CREDENTIAL/securitytokens"
		users    = "/v3.0/OS-USER/users"
		member   = "/v3/groups/{group_id}/users/{user_id}"

		get, post, put, del, head = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodHead
	)
	return []route{
		{op: "CreatePermanentAccessKey", method: post, pattern: keys, status: 201, old: true, work: withBody(iamCaller.createKey)},
		{op: "ListPermanentAccessKeys", method: get, pattern: keys, status: 200, old: true, work: iamCaller.listKeys},
		{op: "ShowPermanentAccessKey", method: get, pattern: key, status: 200, old: true, work: iamCaller.showKey},
		{op: "UpdatePermanentAccessKey", method: put, pattern: key, status: 200, old: true, work: withBody(iamCaller.updateKey)},
		{op: "DeletePermanentAccessKey", method: del, pattern: key, status: 204, old: true, work: iamCaller.deleteKey},

		{op: opByAgency, method: post, pattern: sessions, status: 201, old: true, work: withBody(iamCaller.sessionByAgency)},
		{op: "CreateTemporaryAccessKeyByToken", method: post, pattern: sessions, status: 201, old: true, work: withBody(iamCaller.sessionByToken)},

		{op: "CreateUser", method: post, pattern: users, status: 201, work: withBody(iamCaller.createUser)},
		{op: "ShowUser", method: get, pattern: users + "/{user_id}", status: 200, work: iamCaller.showUser},
		{op: "KeystoneListUsers", method: get, pattern: "/v3/users", status: 200, old: true, work: iamCaller.listUsers},
		{op: "KeystoneDeleteUser", method: del, pattern: "/v3/users/{user_id}", status: 204, old: true, work: iamCaller.deleteUser},
		{op: "KeystoneListGroupsForUser", method: get, pattern: "/v3/users/{user_id}/groups", status: 200, old: true, work: iamCaller.listGroupsOfUser},

		{op: "KeystoneListGroups", method: get, pattern: "/v3/groups", status: 200, old: true, work: iamCaller.listGroups},
		{op: "KeystoneAddUserToGroup", method: put, pattern: member, status: 204, old: true, work: iamCaller.addIAMMember},
		{op: "KeystoneRemoveUserFromGroup", method: del, pattern: member, status: 204, old: true, work: iamCaller.removeIAMMember},
		{op: "KeystoneCheckUserInGroup", method: head, pattern: member, status: 204, old: true, work: iamCaller.checkIAMMember},

		{op: "KeystoneListAuthDomains", method: get, pattern: "/v3/auth/domains", status: 200, old: true, anyone: true, work: iamCaller.listDomains},
		{op: "KeystoneListAuthProjects", method: get, pattern: "/v3/auth/projects", status: 200, old: true, work: iamCaller.listProjects},
		{op: "ShowDomainProtectPolicy", method: get, pattern: "/v3.0/OS-SECURITYPOLICY/domains/{domain_id}/protect-policy", status: 200, work: iamCaller.showProtectPolicy},
		{op: "ShowDomainQuota", method: get, pattern: "/v3.0/OS-QUOTA/domains/{domain_id}", status: 200, work: iamCaller.showQuota},
	}
}
