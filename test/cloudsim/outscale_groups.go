// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"fmt"
	"slices"
	"strings"
)

// group is a user group. Its rights are given out of band.
type group struct {
	name, path string
	document   document
}

// AddGroup makes a user group whose members may call what the action patterns allow.
func (a *Account) AddGroup(path, name string, allow ...string) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()

	g := a.newGroup(path, name)
	if len(allow) > 0 {
		g.document.Statement = []statement{{Effect: "Allow", Action: allow, Resource: []string{"*"}}}
	}
}

func (a *Account) newGroup(path, name string) *group {
	g := &group{name: name, path: path}
	a.groups = append(a.groups, g)
	return g
}

func (a *Account) group(path, name string) *group {
	found := slices.IndexFunc(a.groups, func(g *group) bool { return g.path == path && g.name == name })
	if found < 0 {
		return nil
	}
	return a.groups[found]
}

// shownGroup is a user group as the API shows it.
type shownGroup struct {
	Name, Path, Orn, UserGroupId string
}

func (c caller) shownGroup(g *group) shownGroup {
	orn := fmt.Sprintf("orn:ows:idauth::%s:usergroup%s%s", c.account.id, g.path, g.name)
	return shownGroup{Name: g.name, Path: g.path, Orn: orn, UserGroupId: "ug-" + strings.ToLower(g.name)}
}

type createGroupRequest struct {
	UserGroupName *string
	Path          *string
}

func (c caller) createGroup(in createGroupRequest) (answerFields, *apiError) {
	if in.UserGroupName == nil {
		return nil, errMissing("UserGroupName")
	}
	path := orSlash(in.Path)
	if c.account.group(path, *in.UserGroupName) != nil {
		return nil, conflict("ResourceConflict", codeDuplicateGroup)
	}
	return answerFields{"UserGroup": c.shownGroup(c.account.newGroup(path, *in.UserGroupName))}, nil
}

type memberRequest struct {
	UserGroupName *string
	UserGroupPath *string
	UserName      *string
	UserPath      *string
}

// member resolves group and user. Both paths are "/" where they are left out, so a user elsewhere is not found without its
// path.
func (c caller) member(in memberRequest) (*identity, *group, *apiError) {
	switch {
	case in.UserGroupName == nil:
		return nil, nil, errMissing("UserGroupName")
	case in.UserName == nil:
		return nil, nil, errMissing("UserName")
	}
	who, refusal := c.userAt(in.UserName, in.UserPath)
	if refusal != nil {
		return nil, nil, refusal
	}
	g := c.account.group(orSlash(in.UserGroupPath), *in.UserGroupName)
	if g == nil {
		return nil, nil, errResource(codeNoSuchGroup)
	}
	return who, g, nil
}

func (c caller) userAt(name, path *string) (*identity, *apiError) {
	who, refusal := c.identity(name)
	if refusal == nil && who.path != orSlash(path) {
		refusal = errNoSuchUser()
	}
	return who, refusal
}

func (c caller) addToGroup(in memberRequest) (answerFields, *apiError) {
	who, g, refusal := c.member(in)
	if refusal != nil {
		return nil, refusal
	}
	if !slices.Contains(who.groups, g) {
		who.groups = append(who.groups, g)
	}
	return answerFields{}, nil
}

func (c caller) removeFromGroup(in memberRequest) (answerFields, *apiError) {
	who, g, refusal := c.member(in)
	if refusal != nil {
		return nil, refusal
	}
	if !slices.Contains(who.groups, g) {
		return nil, errResource(codeNoSuchGroup)
	}
	who.groups = slices.DeleteFunc(who.groups, func(other *group) bool { return other == g })
	return answerFields{}, nil
}

type readGroupsRequest struct {
	UserName *string
	UserPath *string
}

func (c caller) readGroups(in readGroupsRequest) (answerFields, *apiError) {
	if in.UserName == nil {
		return nil, errMissing("UserName")
	}
	who, refusal := c.userAt(in.UserName, in.UserPath)
	if refusal != nil {
		return nil, refusal
	}
	groups := []shownGroup{}
	for _, g := range who.groups {
		groups = append(groups, c.shownGroup(g))
	}
	return answerFields{"UserGroups": groups}, nil
}

func orSlash(path *string) string {
	if path == nil {
		return "/"
	}
	return *path
}
