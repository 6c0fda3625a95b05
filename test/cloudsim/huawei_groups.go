// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"net/http"
	"slices"
)

const (
	groupsOfUser   = 10 // not adjustable
	iamGroupQuota  = 20
	iamAgencyQuota = 50
)

// shownIAMGroup is a user group as the API shows it. CreateTime is in milliseconds.
type shownIAMGroup struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	DomainID    string   `json:"domain_id"`
	Description string   `json:"description"`
	CreateTime  int64    `json:"create_time"`
	Links       selfLink `json:"links"`
}

type groupsAnswer struct {
	Groups []shownIAMGroup `json:"groups"`
	Links  selfLink        `json:"links"`
}

func (c iamCaller) shownGroups(groups []*iamGroup) groupsAnswer {
	out := groupsAnswer{Groups: []shownIAMGroup{}, Links: linkTo("groups", "")}
	for _, g := range groups {
		out.Groups = append(out.Groups, shownIAMGroup{
			ID: g.id, Name: g.name, DomainID: c.domain.id, CreateTime: g.created.UnixMilli(), Links: linkTo("groups", g.id),
		})
	}
	return out
}

func (c iamCaller) listGroups() (any, *iamError) {
	const action = "iam:groups:listGroups"
	if !c.may(action) {
		return nil, errDenied(action)
	}
	name := c.request.URL.Query().Get("name")
	groups := slices.DeleteFunc(slices.Clone(c.domain.groups), func(g *iamGroup) bool { return name != "" && g.name != name })
	return c.shownGroups(groups), nil
}

func (c iamCaller) listGroupsOfUser() (any, *iamError) {
	id := c.request.path[0]
	own := c.who != nil && c.who.id == id
	if !own && !c.may("iam:groups:listGroupsForUser") {
		return nil, errDenied("iam:groups:listGroupsForUser")
	}
	who := c.domain.visibleUser(id)
	if who == nil {
		return nil, errNotFound("user", id)
	}
	return c.shownGroups(who.groups), nil
}

// member finds the group and the user that the path names.
func (c iamCaller) member(action string) (*iamGroup, *iamUser, *iamError) {
	if !c.may(action) {
		return nil, nil, errDenied(action)
	}
	id := c.request.path[0]
	found := slices.IndexFunc(c.domain.groups, func(g *iamGroup) bool { return g.id == id })
	if found < 0 {
		return nil, nil, errNotFound("group", id)
	}
	who, refusal := c.userInPath(action, false)
	return c.domain.groups[found], who, refusal
}

// addIAMMember: adding a member once more changes nothing. The refusal of an eleventh group is assumed: its code is not
// documented.
func (c iamCaller) addIAMMember() (any, *iamError) {
	g, who, refusal := c.member("iam:permissions:addUserToGroup")
	switch {
	case refusal != nil:
		return nil, refusal
	case slices.Contains(who.groups, g):
		return nil, nil
	case len(who.groups) >= groupsOfUser:
		return nil, apiRefusal(http.StatusBadRequest, codeGroupQuota, "The number of groups of the user has reached the maximum allowed limit.")
	}
	who.groups = append(who.groups, g)
	return nil, nil
}

func (c iamCaller) removeIAMMember() (any, *iamError) {
	g, who, refusal := c.memberOf("iam:permissions:removeUserFromGroup")
	if refusal != nil {
		return nil, refusal
	}
	who.groups = slices.DeleteFunc(who.groups, func(other *iamGroup) bool { return other == g })
	return nil, nil
}

func (c iamCaller) checkIAMMember() (any, *iamError) {
	_, _, refusal := c.memberOf("iam:permissions:checkUserInGroup")
	return nil, refusal
}

// memberOf is member for a user that must be in the group.
func (c iamCaller) memberOf(action string) (*iamGroup, *iamUser, *iamError) {
	g, who, refusal := c.member(action)
	if refusal == nil && !slices.Contains(who.groups, g) {
		refusal = errNotFound("user in group", who.id)
	}
	return g, who, refusal
}
