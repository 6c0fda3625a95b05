// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import "time"

// HuaweiRules are what Huawei's IAM does only sometimes, or is only assumed to do, as switches. The zero value is a cloud
// that is consistent at once and otherwise the documented or harsher behaviour.
type HuaweiRules struct {
	// UserDelay and UserReads hide a user made through the API: every call that names it answers 404 for so long, and for
	// so many lookups. The vendor's Terraform provider reckons with 2 to 10 seconds.
	UserDelay time.Duration
	UserReads int
	// KeyDelay and KeyReads do the same to a key made through the API. It counts against the quota meanwhile.
	KeyDelay time.Duration
	KeyReads int
	// ActivationDelay is how long a new key is refused as one that does not exist. No figure is documented. Each refusal
	// counts towards the key's lock.
	ActivationDelay time.Duration
	// RevocationDelay is how long a deleted or deactivated key goes on signing. No figure is documented.
	RevocationDelay time.Duration
	// UnknownUserIs400 answers 400 to a key create or key list for a user that does not exist. By default 404: the page of
	// the create documents neither.
	UnknownUserIs400 bool
	// InactiveKeyIs401 refuses a deactivated key at the gateway (401, APIGW.0301). By default IAM's own 400, IAM.1107, from
	// its list of error codes.
	InactiveKeyIs401 bool
	// DomainIDOptional takes calls without X-Domain-Id. By default they are refused but for the lookup of the domain: the
	// documentation demands it of global services.
	DomainIDOptional bool
	// OldDialectOnly refuses signatures with "Access=" for the older "Credential=", as clouds of the OTC family may. By
	// default both are accepted.
	OldDialectOnly bool
	// FreeKeyDescriptions takes any description of a key. By default it obeys the rule of users' descriptions (255
	// characters, none of @#%&<>\$^*): none is documented for keys.
	FreeKeyDescriptions bool
	// NullErrorCodes writes "error_code": null and "error_msg": null into the errors of the older APIs, as some sites do.
	NullErrorCodes bool
	// ShortUserNames ends user names at 32 characters, as the pages of the EU site say. By default 64, as the others do.
	ShortUserNames bool
	// ListHidesNothing lists disabled users too where the filter "enabled" is absent. By default it is taken for true, as
	// the SDK's comment says.
	ListHidesNothing bool
}

// WithHuaweiRules sets how Huawei's IAM behaves.
func WithHuaweiRules(rules HuaweiRules) Option { return func(c *Cloud) { c.huawei = rules } }

// SetHuaweiRules changes how Huawei's IAM behaves from now on. What exists keeps the delays it was made with.
func (c *Cloud) SetHuaweiRules(rules HuaweiRules) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.huawei = rules
}
