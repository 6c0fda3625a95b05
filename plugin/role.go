// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	// rolePrefix is both the API's path and the storage's.
	rolePrefix = "roles/"

	defaultAccount = "default"

	// credentialAccessKey leases keys of identities that exist.
	credentialAccessKey = clouds.AccessKey
)

var credentialTypes = []string{credentialAccessKey, credentialIAMUser, credentialSession}

// roleEntry describes whose keys may be leased, as it stands in storage.
type roleEntry struct {
	Account        string            `json:"account"`
	CredentialType string            `json:"credential_type"`
	UserNames      []string          `json:"user_names"`
	UserIDs        map[string]string `json:"user_ids,omitempty"`     // of those that were listed when the role was written
	UserAccount    string            `json:"user_account,omitempty"` // the cloud account that these are of; empty: it was not known
	TTL            time.Duration     `json:"ttl"`
	MaxTTL         time.Duration     `json:"max_ttl"`
	MaxActiveKeys  int               `json:"max_active_keys"`
	OwnIdentity    bool              `json:"own_identity,omitempty"`

	// What the users of an iam_user role get.
	UserPath       string   `json:"user_path,omitempty"`
	PolicyORNs     []string `json:"policy_orns,omitempty"`
	PolicyDocument string   `json:"policy_document,omitempty"`
	Groups         []string `json:"groups,omitempty"`

	// What the sessions of a session_token role get.
	AgencyName    string `json:"agency_name,omitempty"`
	AgencyDomain  string `json:"agency_domain,omitempty"`
	SessionPolicy string `json:"session_policy,omitempty"`
}

func newRoleEntry() *roleEntry {
	return &roleEntry{Account: defaultAccount, CredentialType: credentialAccessKey}
}

// idsIn are the users' ids as the role has them; none where they are of another cloud account, which the role's account was before: no user
// here has them, and whoever judged a user by one would take the engine's own for somebody else. Those that were taken before the cloud had
// said which account it is count as this one's.
func (r *roleEntry) idsIn(a *account) map[string]string {
	if r.UserAccount != "" && r.UserAccount != a.config.AccountID {
		return nil
	}
	return r.UserIDs
}

// namedRole is a role with its name.
type namedRole struct {
	name string
	*roleEntry
}

// leaseRoles are the roles of an account, or of all where it is empty, by name. They are shared and must not be changed.
func (b *backend) leaseRoles(ctx context.Context, s logical.Storage, account string) ([]namedRole, error) {
	all, err := loadAll(ctx, s, rolePrefix, func(name string) (*roleEntry, error) { return b.roles.load(ctx, s, rolePrefix+name) })
	var roles []namedRole
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if account == "" || all[name].Account == account {
			roles = append(roles, namedRole{name, all[name]})
		}
	}
	return roles, err
}

// roleFields are what roles/<name> accepts.
func roleFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"name":    field(framework.TypeString, "Name of the role."),
		"account": byDefault(defaultAccount, field(framework.TypeString, "Account whose keys it leases.")),
		"credential_type": byDefault(credentialAccessKey, oneOf(credentialTypes, field(framework.TypeString, "What it leases: access_key, "+
			"keys of existing users; iam_user, a new user with a key, both deleted with the lease; session_token (Huawei Cloud), a temporary "+
			"key of an agency, which expires by itself and cannot be revoked."))),
		"user_names": field(framework.TypeCommaStringSlice, "Users whose keys it leases (access_key), spread over them. Required "+
			"unless own_identity is set. A user whose key is the engine's own in another account of the same cloud account is refused, "+
			"whatever allow_root_identity says."),
		"user_path":       field(framework.TypeString, "Path of new users (iam_user, OUTSCALE), such as /ci/. Empty: /."),
		"policy_orns":     field(framework.TypeCommaStringSlice, "ORNs of the managed policies of new users (iam_user, OUTSCALE)."),
		"policy_document": field(framework.TypeString, "Inline policy of new users, as JSON (iam_user, OUTSCALE)."),
		"groups": field(framework.TypeCommaStringSlice, "Groups of new users (iam_user), by name, or on OUTSCALE by path and "+
			"name as in /ci/builders."),
		"agency_name": field(framework.TypeString, "Agency whose rights the sessions have (session_token). Empty: the engine's own "+
			"rights, if the account allows it."),
		"agency_domain": field(framework.TypeString, "Name of the Huawei Cloud account that the agency belongs to (session_token). "+
			"Empty: the engine's own."),
		"session_policy": field(framework.TypeString, "Policy that restricts the sessions, as JSON (session_token). Only Huawei "+
			"Cloud's OBS honours it."),
		"ttl":     field(framework.TypeDurationSecond, "Default TTL of its leases."),
		"max_ttl": field(framework.TypeDurationSecond, "Maximum TTL of its leases."),
		"own_identity": field(framework.TypeBool, "Whether it may lease keys (outscale) or sessions without agency_name (huawei) "+
			"of the engine's own identity. The account must allow it too (allow_root_identity). On OUTSCALE without user_names it leases "+
			"no others."),
		"max_active_keys": field(framework.TypeInt, "Maximum number of keys of the role that may exist at once, including those being "+
			"created or deleted; 0: no limit."),
	}
}

// roleAnswer is what roles/<name> returns.
func roleAnswer() map[string]*framework.FieldSchema {
	fields := roleFields()
	delete(fields, "name")
	fields["effective_max_ttl"] = field(framework.TypeInt64, "Longest possible lease, in seconds.")
	fields["limited_by"] = field(framework.TypeString, "The limit that decides it: role, account, mount, policy or cloud; and whether "+
		"the policy is unknown, or there is none.")
	return fields
}

func (r *roleEntry) validate() error {
	if err := cmp.Or(r.validateType(), r.validateSession(), r.validateUsers()); err != nil {
		return err
	}
	switch rights := len(r.PolicyORNs) + len(r.Groups); {
	case rights > maxRights:
		return userError("policy_orns and groups name %d policies and groups, and %d is the most: gather them in a group", rights, maxRights)
	case r.OwnIdentity && r.CredentialType == credentialIAMUser:
		return userError("own_identity does not go with credential_type=%s, whose leases have users of their own: leave it out",
			credentialIAMUser)
	case r.OwnIdentity && r.AgencyName != "":
		return userError("own_identity and agency_name exclude each other: give one of them")
	case r.MaxActiveKeys < 0:
		return userError("max_active_keys is %d: give the most keys that the role may have, or 0 for no cap", r.MaxActiveKeys)
	case r.MaxTTL > 0 && r.TTL > r.MaxTTL:
		return userError("ttl (%s) is longer than max_ttl (%s)", r.TTL, r.MaxTTL)
	}
	return nil
}

// maxUsers bounds a pool: each lease orders its users by their free slots.
const maxUsers = 500

func (r *roleEntry) validateUsers() error {
	if n := len(r.UserNames); n > maxUsers {
		return userError("user_names holds %d users, and a role can have %d: spread them over several roles", n, maxUsers)
	}
	for i, user := range r.UserNames {
		if slices.Contains(r.UserNames[:i], user) {
			return userError("user_names holds %q twice", user)
		}
	}
	return nil
}

// warnings name the limits that cut what the role asks for.
func (r *roleEntry) warnings(b lifetime.Bounds, view *policyView) []string {
	if err := b.CheckUsable(); err != nil {
		return []string{"the role is stored, but cannot lease as things are: " + err.Error()}
	}
	longest, by := b.MaxLease()
	var warnings []string
	if r.CredentialType == credentialIAMUser && len(r.PolicyORNs)+len(r.Groups) == 0 && r.PolicyDocument == "" {
		warnings = append(warnings, "the role has no policy_orns, policy_document or groups: its keys may do nothing in the cloud")
	}
	if r.SessionPolicy != "" {
		warnings = append(warnings, "Huawei Cloud's OBS alone honours a session_policy: on every other service the sessions have all the "+
			"rights of the agency")
	}
	if shortest := cmp.Or(r.TTL, r.MaxTTL); shortest > 0 && shortest < time.Minute {
		warnings = append(warnings, fmt.Sprintf("leases last %s, which is less than a minute: a number without a unit is seconds, as "+
			"in 90s; write 10m for minutes", shortest))
	}
	if wanted := cmp.Or(r.MaxTTL, r.TTL); wanted > longest {
		warnings = append(warnings, fmt.Sprintf("leases are cut to %s by the %s (the role asks for up to %s)", longest, limitSource(by), wanted))
	}
	switch {
	case by != lifetime.LimitMount:
	case view.None:
		warnings = append(warnings, fmt.Sprintf("nothing bounds its leases but the mount's max lease TTL (%s): set max_ttl here, or "+
			"in the account", longest))
	case view.unbounded():
		warnings = append(warnings, fmt.Sprintf("nothing bounds its leases but the mount's max lease TTL (%s): set max_ttl, or an "+
			"access policy in the cloud account", longest))
	}
	if !view.known() {
		warnings = append(warnings, "the account's access policy is unknown, and may cut leases further")
	}
	return warnings
}

// cutWarning names what has cut a lease to less than was asked for; empty where nothing has.
func cutWarning(plan lifetime.IssuePlan, requested time.Duration) string {
	if requested <= plan.Lease {
		return ""
	}
	return fmt.Sprintf("the lease is cut to %s by the %s (%s was asked for)", plan.Lease, limitSource(plan.Limit), requested)
}

// limitSource says where a limit is set.
func limitSource(by lifetime.Limit) string {
	switch by {
	case lifetime.LimitPolicy:
		return "cloud account's access policy (MaxAccessKeyExpirationSeconds, less expiry_grace and a clock margin)"
	case lifetime.LimitMount:
		return "mount's max lease TTL"
	case lifetime.LimitCloud:
		return "cloud's longest session"
	default:
		return string(by) + "'s max_ttl"
	}
}

const (
	// credentialIAMUser leases keys of users made for one lease each.
	credentialIAMUser = clouds.IAMUser

	// maxRights bounds the cloud calls of an issue, which pass the account's pacer.
	maxRights = 20

	defaultUserPath = "/"
)

// spec is what the cloud must know of the role.
func (r *roleEntry) spec() clouds.Role {
	return clouds.Role{
		CredentialType: r.CredentialType, UserNames: r.UserNames,
		UserPath: r.UserPath, PolicyORNs: r.PolicyORNs, PolicyDocument: r.PolicyDocument, Groups: r.Groups,
		AgencyName: r.AgencyName, SessionPolicy: r.SessionPolicy,
	}
}

// rights are those of the role's users.
func (r *roleEntry) rights() provider.Rights {
	return provider.Rights{PolicyORNs: r.PolicyORNs, Document: r.PolicyDocument, Groups: r.Groups}
}

// validateType refuses fields that belong to the other credential_type: ignored, they
// would leave an operator in the belief that they limit something.
func (r *roleEntry) validateType() error {
	given := func(name string, is bool, belongs string) error {
		if is && r.CredentialType != belongs {
			return userError("%s is only valid with credential_type=%s, and this role has %s: clear %s, or change credential_type",
				name, belongs, r.CredentialType, name)
		}
		return nil
	}
	if !slices.Contains(credentialTypes, r.CredentialType) {
		return userError("unknown credential_type %q: set it to one of %s", r.CredentialType, strings.Join(credentialTypes, ", "))
	}
	return cmp.Or(
		given("user_names", len(r.UserNames) > 0, credentialAccessKey),
		given("user_path", r.UserPath != "", credentialIAMUser),
		given("policy_orns", len(r.PolicyORNs) > 0, credentialIAMUser),
		given("policy_document", r.PolicyDocument != "", credentialIAMUser),
		given("groups", len(r.Groups) > 0, credentialIAMUser),
		given("agency_name", r.AgencyName != "", credentialSession),
		given("agency_domain", r.AgencyDomain != "", credentialSession),
		given("session_policy", r.SessionPolicy != "", credentialSession),
	)
}
