// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"regexp"
	"slices"
)

const (
	defaultPageSize = 100
	maxPageSize     = 1000
	maxPathLength   = 512
)

var (
	userNamePattern = regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,64}$`)
	userPathPattern = regexp.MustCompile(`^/([A-Za-z0-9_/]*/)?$`)
)

// user is an EIM user as the API shows it.
type user struct {
	UserId               string
	UserName             string
	UserEmail            string
	Path                 string
	CreationDate         string
	LastModificationDate string
	OutscaleLoginAllowed bool
}

func (who *identity) view() user {
	return user{
		UserId:               who.id,
		UserName:             who.name,
		UserEmail:            who.email,
		Path:                 who.path,
		CreationDate:         formatDate(who.created),
		LastModificationDate: formatDate(who.created),
	}
}

type createUserRequest struct {
	UserName  *string
	Path      *string
	UserEmail *string
}

// createUser makes a user that may call nothing yet.
func (c caller) createUser(in createUserRequest) (answerFields, *apiError) {
	if in.UserName == nil {
		return nil, errMissing("UserName")
	}
	if !userNamePattern.MatchString(*in.UserName) {
		return nil, errValue(codeValue, "UserName is not valid.")
	}
	path, email := "/", ""
	if in.Path != nil {
		path = *in.Path
	}
	if in.UserEmail != nil {
		email = *in.UserEmail
	}
	if len(path) > maxPathLength || !userPathPattern.MatchString(path) {
		return nil, errValue(codeValue, "Path is not valid.")
	}
	if _, exists := c.account.identities[*in.UserName]; exists {
		return nil, conflict("ResourceConflict", codeDuplicateUser)
	}
	return answerFields{"User": c.account.newUser(*in.UserName, path, email).view()}, nil
}

type readUsersRequest struct {
	Filters        *struct{ UserIds *[]string }
	FirstItem      *int
	ResultsPerPage *int
}

// readUsers pages by offset: FirstItem is counted from 0.
func (c caller) readUsers(in readUsersRequest) (answerFields, *apiError) {
	users := c.account.users()
	if in.Filters != nil {
		users = slices.DeleteFunc(users, func(who *identity) bool { return !within(in.Filters.UserIds, who.id) })
	}
	first, last, fields, refusal := pageOf(len(users), in.FirstItem, in.ResultsPerPage)
	if refusal != nil {
		return nil, refusal
	}
	page := []user{}
	for _, who := range users[first:last] {
		page = append(page, who.view())
	}
	fields["Users"] = page
	return fields, nil
}

// pageOf cuts a list of so many items to a page, and says what the API says of one.
func pageOf(count int, firstItem, resultsPerPage *int) (first, last int, fields answerFields, refusal *apiError) {
	size := defaultPageSize
	if firstItem != nil {
		first = *firstItem
	}
	if resultsPerPage != nil {
		size = *resultsPerPage
	}
	if first < 0 || size < 1 {
		return 0, 0, nil, errValue(codeValue, "FirstItem or ResultsPerPage is out of range.")
	}
	first = min(first, count)
	last = min(first+min(size, maxPageSize), count)
	return first, last, answerFields{
		"HasMoreItems":        last < count,
		"MaxResultsLimit":     maxPageSize,
		"MaxResultsTruncated": size > maxPageSize,
	}, nil
}

// deleteUser is refused as long as anything hangs on the user.
func (c caller) deleteUser(in userRequest) (answerFields, *apiError) {
	who, refusal := c.named(in.UserName)
	if refusal != nil {
		return nil, refusal
	}
	if len(who.keys)+len(who.inline)+len(who.linked)+len(who.groups) > 0 {
		return nil, conflict("ResourceConflict", codeUserInUse)
	}
	delete(c.account.identities, who.name)
	c.account.byAge = nil
	return answerFields{}, nil
}
