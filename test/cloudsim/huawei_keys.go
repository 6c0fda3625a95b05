// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"net/http"
	"time"
)

const (
	iamKeyQuota = 2 // keys a user, inactive ones included; not adjustable
	iamDate     = "2006-01-02T15:04:05.000000Z"
)

func formatIAMDate(t time.Time) string { return t.UTC().Format(iamDate) }

// credential is a key as the API shows it. Secret comes early, so that a truncated answer contains it: the case in which
// clients leak it into their errors.
type credential struct {
	Access      string `json:"access"`
	Secret      string `json:"secret,omitempty"`
	CreateTime  string `json:"create_time"`
	LastUseTime string `json:"last_use_time,omitempty"`
	UserID      string `json:"user_id"`
	Description string `json:"description"`
	Status      string `json:"status"`
}

type credentialAnswer struct {
	Credential credential `json:"credential"`
}

func (k *iamKey) view() credential {
	return credential{
		Access:      k.ID,
		CreateTime:  formatIAMDate(k.Created),
		UserID:      k.UserID,
		Description: k.Description,
		Status:      k.State,
	}
}

type createKeyRequest struct {
	Credential struct {
		UserID      string  `json:"user_id"`
		Description *string `json:"description"`
	} `json:"credential"`
}

func (c iamCaller) createKey(in createKeyRequest) (any, *iamError) {
	if in.Credential.UserID == "" {
		return nil, errInvalid("Expecting to find user_id in credential.")
	}
	who, refusal := c.keyOwner(in.Credential.UserID, "iam:credentials:createCredential")
	if refusal != nil {
		return nil, refusal
	}
	if refusal := c.checkKeyDescription(in.Credential.Description); refusal != nil {
		return nil, refusal
	}
	if len(who.keys) >= iamKeyQuota {
		return nil, apiRefusal(http.StatusBadRequest, codeKeyQuota, codeKeyQuota)
	}

	spec := IAMKeySpec{}
	if in.Credential.Description != nil {
		spec.Description = *in.Credential.Description
	}
	now, rules := time.Now(), c.cloud.huawei
	k := c.cloud.newIAMKey(who, spec)
	k.usableAt = now.Add(rules.ActivationDelay)
	k.hidden = hidden{now.Add(rules.KeyDelay), rules.KeyReads}
	view := k.view()
	view.Secret = k.secret
	return credentialAnswer{view}, nil
}

func (c iamCaller) checkKeyDescription(text *string) *iamError {
	if text == nil || c.cloud.huawei.FreeKeyDescriptions || describes(*text) {
		return nil
	}
	return errInvalid("The description is invalid.")
}

// listKeys lists one user's keys, the caller's without user_id. There are no pages and no list over all users.
func (c iamCaller) listKeys() (any, *iamError) {
	id := c.request.URL.Query().Get("user_id")
	if id == "" && c.who != nil {
		id = c.who.id
	}
	who, refusal := c.keyOwner(id, "iam:credentials:listCredentials")
	if refusal != nil {
		return nil, refusal
	}
	out := struct {
		Credentials []credential `json:"credentials"`
	}{[]credential{}}
	for _, k := range who.keys {
		if k.hidden.lookup(time.Now()) {
			out.Credentials = append(out.Credentials, k.view())
		}
	}
	return out, nil
}

// keyOwner finds the user whose keys a call is about: foreign keys need the permission, one's own none.
func (c iamCaller) keyOwner(id, action string) (*iamUser, *iamError) {
	if refusal := c.mayManageKeysOf(id, action); refusal != nil {
		return nil, refusal
	}
	if who := c.domain.visibleUser(id); who != nil {
		return who, nil
	}
	refusal := errNotFound("user", id)
	if c.cloud.huawei.UnknownUserIs400 {
		refusal.status = http.StatusBadRequest
	}
	return nil, refusal
}

func (c iamCaller) mayManageKeysOf(userID, action string) *iamError {
	own := c.who != nil && c.who.id == userID
	switch {
	case c.domain.keysForAdmins && !c.administers():
		return errDenied(action)
	case !own && !c.may(action):
		return errDenied(action)
	}
	return nil
}

// namedKey finds the key that the path names. Others' keys are not even found without the permission for them.
func (c iamCaller) namedKey(action string) (*iamKey, *iamError) {
	id := c.request.path[0]
	k := c.domain.key(id)
	if k == nil || !k.hidden.lookup(time.Now()) {
		return nil, errNotFound("credential", id)
	}
	return k, c.mayManageKeysOf(k.UserID, action)
}

// showKey is the only call that tells when a key was last used: never, if that is the time of its creation.
func (c iamCaller) showKey() (any, *iamError) {
	k, refusal := c.namedKey("iam:credentials:getCredential")
	if refusal != nil {
		return nil, refusal
	}
	view := k.view()
	view.LastUseTime = view.CreateTime
	if !k.LastUsed.IsZero() {
		view.LastUseTime = formatIAMDate(k.LastUsed)
	}
	return credentialAnswer{view}, nil
}

type updateKeyRequest struct {
	Credential struct {
		Status      *string `json:"status"`
		Description *string `json:"description"`
	} `json:"credential"`
}

func (c iamCaller) updateKey(in updateKeyRequest) (any, *iamError) {
	k, refusal := c.namedKey("iam:credentials:updateCredential")
	if refusal != nil {
		return nil, refusal
	}
	status, description := in.Credential.Status, in.Credential.Description
	switch {
	case status == nil && description == nil:
		return nil, errInvalid("Expecting to find status or description in credential.")
	case status != nil && *status != IAMActive && *status != IAMInactive:
		return nil, errInvalid("status must be active or inactive.")
	}
	if refusal := c.checkKeyDescription(description); refusal != nil {
		return nil, refusal
	}
	if status != nil {
		c.cloud.setIAMKeyState(k, *status)
	}
	if description != nil {
		k.Description = *description
	}
	return credentialAnswer{k.view()}, nil
}

// deleteKey deletes a key whatever its status.
func (c iamCaller) deleteKey() (any, *iamError) {
	k, refusal := c.namedKey("iam:credentials:deleteCredential")
	if refusal != nil {
		return nil, refusal
	}
	c.cloud.removeIAMKey(k)
	return nil, nil
}
