// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	iamUserQuota   = 50 // without the owner; more can be had on request
	maxDescription = 255

	notInDescription = "@#%&<>\\$^*"
)

// iamNamePattern: letters, digits, spaces and "-_.", neither a digit nor a space first.
var iamNamePattern = regexp.MustCompile(`^[\p{L}_.-][\p{L}\p{Nd} _.-]{0,63}$`)

type selfLink struct {
	Self string `json:"self"`
}

func linkTo(kind, id string) selfLink {
	return selfLink{"https://iam.myhuaweicloud.com/v3/" + kind + "/" + id}
}

// keystoneUser is a user as the older APIs show it.
type keystoneUser struct {
	ID                string   `json:"id"`
	Name              string   `json:"name"`
	DomainID          string   `json:"domain_id"`
	Enabled           bool     `json:"enabled"`
	Description       string   `json:"description"`
	PasswordExpiresAt *string  `json:"password_expires_at"`
	PwdStatus         bool     `json:"pwd_status"`
	AccessMode        string   `json:"access_mode"`
	Links             selfLink `json:"links"`
}

func (who *iamUser) keystone() keystoneUser {
	return keystoneUser{
		ID: who.id, Name: who.name, DomainID: who.domain.id, Enabled: !who.disabled, Description: who.description,
		AccessMode: who.accessMode, Links: linkTo("users", who.id),
	}
}

// osUser is a user as OS-USER shows it.
type osUser struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	DomainID      string `json:"domain_id"`
	Enabled       bool   `json:"enabled"`
	Description   string `json:"description"`
	AccessMode    string `json:"access_mode"`
	PwdStatus     bool   `json:"pwd_status"`
	IsDomainOwner bool   `json:"is_domain_owner"`
	Email         string `json:"email"`
	Areacode      string `json:"areacode"`
	Phone         string `json:"phone"`
	XuserID       string `json:"xuser_id"`
	XuserType     string `json:"xuser_type"`
	CreateTime    string `json:"create_time"`
	LastLoginTime string `json:"last_login_time,omitempty"`
}

type osUserAnswer struct {
	User osUser `json:"user"`
}

func (who *iamUser) view() osUserAnswer {
	return osUserAnswer{osUser{
		ID: who.id, Name: who.name, DomainID: who.domain.id, Enabled: !who.disabled, Description: who.description,
		AccessMode: who.accessMode, IsDomainOwner: who == who.domain.owner, CreateTime: formatIAMDate(who.created),
	}}
}

type createIAMUserRequest struct {
	User struct {
		Name        string  `json:"name"`
		DomainID    string  `json:"domain_id"`
		AccessMode  *string `json:"access_mode"`
		Password    *string `json:"password"`
		Enabled     *bool   `json:"enabled"`
		Description string  `json:"description"`
	} `json:"user"`
}

// createUser makes a user without rights. Its name need only be free among the account's users.
func (c iamCaller) createUser(in createIAMUserRequest) (any, *iamError) {
	const action = "iam:users:createUser"
	if !c.may(action) {
		return nil, errDenied(action)
	}
	if refusal := c.checkNewUser(in); refusal != nil {
		return nil, refusal
	}
	now, rules := time.Now(), c.cloud.huawei
	who := c.domain.newUser(in.User.Name)
	who.description = in.User.Description
	if in.User.AccessMode != nil {
		who.accessMode = *in.User.AccessMode
	}
	who.disabled = in.User.Enabled != nil && !*in.User.Enabled
	who.hidden = hidden{now.Add(rules.UserDelay), rules.UserReads}
	return who.view(), nil
}

func (c iamCaller) checkNewUser(in createIAMUserRequest) *iamError {
	u := in.User
	refuse := func(code, message string) *iamError { return apiRefusal(http.StatusBadRequest, code, "%s", message) }
	switch {
	case u.DomainID == "":
		return refuse(codeUserInvalid, "Mandatory parameters are not specified.")
	case u.DomainID != c.domain.id:
		return errDenied("iam:users:createUser")
	case !iamNamePattern.MatchString(u.Name), c.cloud.huawei.ShortUserNames && len(u.Name) > 32:
		return refuse(codeUserName, "Invalid username.")
	case u.AccessMode != nil && !slices.Contains(accessModes, *u.AccessMode):
		return refuse(codeAccessMode, "The access mode is invalid.")
	case !describes(u.Description):
		return refuse(codeUserInvalid, "The description is invalid.")
	case c.domain.named(u.Name) != nil:
		return refuse(codeUserExists, "The username already exists.")
	case len(c.domain.users)-1 >= iamUserQuota:
		return refuse(codeUserQuota, "The number of IAM users has reached the maximum allowed limit.")
	}
	return nil
}

// describes reports whether a text may be a description.
func describes(text string) bool {
	return len(text) <= maxDescription && !strings.ContainsAny(text, notInDescription)
}

// showUser needs no permission for oneself.
func (c iamCaller) showUser() (any, *iamError) {
	who, refusal := c.userInPath("iam:users:getUser", true)
	if refusal != nil {
		return nil, refusal
	}
	return who.view(), nil
}

// userInPath finds the user that the path's last variable names.
func (c iamCaller) userInPath(action string, ownIsFree bool) (*iamUser, *iamError) {
	id := c.request.path[len(c.request.path)-1]
	own := ownIsFree && c.who != nil && c.who.id == id
	if !own && !c.may(action) {
		return nil, errDenied(action)
	}
	who := c.domain.visibleUser(id)
	if who == nil {
		return nil, errNotFound("user", id)
	}
	return who, nil
}

// listUsers lists the account's users without pages, the owner among them.
func (c iamCaller) listUsers() (any, *iamError) {
	const action = "iam:users:listUsers"
	if !c.may(action) {
		return nil, errDenied(action)
	}
	query := c.request.URL.Query()
	if domain := query.Get("domain_id"); domain != "" && domain != c.domain.id {
		return nil, errDenied(action)
	}
	enabled, filtered := true, !c.cloud.huawei.ListHidesNothing
	if query.Has("enabled") {
		parsed, err := strconv.ParseBool(query.Get("enabled"))
		if err != nil {
			return nil, errInvalid("enabled must be true or false.")
		}
		enabled, filtered = parsed, true
	}
	out := struct {
		Users []keystoneUser `json:"users"`
		Links selfLink       `json:"links"`
	}{[]keystoneUser{}, linkTo("users", "")}
	for _, who := range c.domain.users {
		named := query.Get("name") == "" || query.Get("name") == who.name
		if named && (!filtered || enabled == !who.disabled) && who.hidden.lookup(time.Now()) {
			out.Users = append(out.Users, who.keystone())
		}
	}
	return out, nil
}

// deleteUser takes the user's keys with it. The owner cannot be deleted.
func (c iamCaller) deleteUser() (any, *iamError) {
	who, refusal := c.userInPath("iam:users:deleteUser", false)
	if refusal != nil {
		return nil, refusal
	}
	if who == c.domain.owner {
		return nil, apiRefusal(http.StatusBadRequest, codeOwner, "The account administrator cannot be deleted.")
	}
	c.domain.removeUser(who)
	return nil, nil
}
