// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"slices"
	"time"
)

// accessKey is a key as the API shows it. SecretKey comes early, so that a truncated answer contains it: the case in which
// clients leak it into their errors.
type accessKey struct {
	AccessKeyId          string
	SecretKey            string `json:",omitempty"`
	State                string
	CreationDate         string
	LastModificationDate string
	ExpirationDate       string `json:",omitempty"`
	Tag                  string `json:",omitempty"`
	Trusted              *bool  `json:",omitempty"`
}

func (k *key) view() accessKey {
	return accessKey{
		AccessKeyId:          k.ID,
		State:                k.State,
		CreationDate:         formatDate(k.Created),
		LastModificationDate: formatDate(k.Modified),
		ExpirationDate:       formatDate(k.Expires),
		Tag:                  k.Tag,
		Trusted:              &k.Trusted,
	}
}

type createAccessKeyRequest struct {
	ExpirationDate *string
	Tag            *string
	UserName       *string
}

func (c caller) createAccessKey(in createAccessKeyRequest) (answerFields, *apiError) {
	who, refusal := c.identity(in.UserName)
	if refusal != nil {
		return nil, refusal
	}
	k, refusal := c.makeKey(who, in.ExpirationDate, in.Tag)
	if refusal != nil {
		return nil, refusal
	}
	view := k.view()
	view.SecretKey, view.Trusted = k.secret, nil // the answer to a create does not tell
	return answerFields{"AccessKey": view}, nil
}

// makeKey makes a key as far as policy and quota allow.
func (c caller) makeKey(who *identity, expirationDate, tag *string) (*key, *apiError) {
	now := c.cloud.now()
	expires, refusal := c.account.expiration(expirationDate, now)
	if refusal != nil {
		return nil, refusal
	}
	if len(who.keys) >= c.cloud.quota { // INACTIVE and expired keys count: they are listed
		return nil, c.cloud.errQuota()
	}

	spec := KeySpec{Expires: expires}
	if tag != nil {
		spec.Tag = *tag
	}
	k := c.cloud.newKey(c.account, who, spec)
	k.usableAt = time.Now().Add(c.cloud.rules.ActivationDelay)
	k.visibleAt = time.Now().Add(c.cloud.rules.ListingDelay)
	return k, nil
}

type readAccessKeysRequest struct {
	Filters *struct {
		AccessKeyIds *[]string
		States       *[]string
	}
	Tag      *string
	UserName *string
}

// matches: a filter with an empty list is taken for one that is absent.
func (in readAccessKeysRequest) matches(k *key) bool {
	if in.Tag != nil && k.Tag != *in.Tag {
		return false
	}
	if in.Filters == nil {
		return true
	}
	return within(in.Filters.AccessKeyIds, k.ID) && within(in.Filters.States, k.State)
}

func within(filter *[]string, value string) bool {
	return filter == nil || len(*filter) == 0 || slices.Contains(*filter, value)
}

// readAccessKeys lists one identity's keys, without pages. Expired keys stay listed, and ACTIVE.
func (c caller) readAccessKeys(in readAccessKeysRequest) (answerFields, *apiError) {
	who, refusal := c.identity(in.UserName)
	if refusal != nil {
		return nil, refusal
	}
	keys := []accessKey{}
	for _, k := range who.keys {
		if in.matches(k) && !time.Now().Before(k.visibleAt) {
			keys = append(keys, k.view())
		}
	}
	return answerFields{"AccessKeys": keys}, nil
}

// ownKey finds a key by id, among the keys of the identity named only: without UserName a foreign key is not found.
func (c caller) ownKey(id, userName *string) (*key, *apiError) {
	if id == nil {
		return nil, errMissing("AccessKeyId")
	}
	who, refusal := c.identity(userName)
	if refusal != nil {
		return nil, refusal
	}
	k, ok := c.cloud.keys[*id]
	if !ok || k.account != c.account || k.owner != who {
		return nil, errKeyNotFound()
	}
	return k, nil
}

type updateAccessKeyRequest struct {
	AccessKeyId         *string
	State               *string
	ExpirationDate      *string
	ClearExpirationDate *bool
	Tag                 *string
	ClearTag            *bool
	UserName            *string
}

// updateAccessKey clears the expiration date of an update that does not resend it, as documented, unless the rules say
// otherwise.
func (c caller) updateAccessKey(in updateAccessKeyRequest) (answerFields, *apiError) {
	k, refusal := c.ownKey(in.AccessKeyId, in.UserName)
	if refusal != nil {
		return nil, refusal
	}
	if in.State != nil && *in.State != Active && *in.State != Inactive {
		return nil, errValue(codeValue, "State must be ACTIVE or INACTIVE.")
	}
	now := c.cloud.now()
	expires, refusal := c.newExpiration(k, in, now)
	if refusal != nil {
		return nil, refusal
	}

	k.Expires = expires
	k.Modified = now.UTC().Truncate(time.Millisecond)
	if in.State != nil {
		k.State = *in.State
	}
	switch {
	case in.ClearTag != nil && *in.ClearTag:
		k.Tag = ""
	case in.Tag != nil:
		k.Tag = *in.Tag
	}
	return answerFields{"AccessKey": k.view()}, nil
}

func (c caller) newExpiration(k *key, in updateAccessKeyRequest, now time.Time) (time.Time, *apiError) {
	clears := in.ClearExpirationDate != nil && *in.ClearExpirationDate
	switch {
	case clears:
		return c.account.expiration(nil, now)
	case in.ExpirationDate == nil && c.cloud.rules.KeepDateOnUpdate && !k.Expires.IsZero():
		return k.Expires, nil
	default:
		return c.account.expiration(in.ExpirationDate, now)
	}
}

type deleteAccessKeyRequest struct {
	AccessKeyId *string
	UserName    *string
}

func (c caller) deleteAccessKey(in deleteAccessKeyRequest) (answerFields, *apiError) {
	k, refusal := c.ownKey(in.AccessKeyId, in.UserName)
	if refusal != nil {
		return nil, refusal
	}
	switch {
	case c.cloud.rules.RefuseExpiredDelete && k.expired(c.cloud.now()):
		return nil, conflict("InvalidState", codeInvalidState)
	case k.User != "" && k.State == Active && !c.cloud.rules.DeleteActiveUserKeys:
		return nil, conflict("InvalidState", codeInvalidState)
	}
	c.cloud.removeKey(k)
	return answerFields{}, nil
}
