// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

func (b *backend) pathCheck() []*framework.Path {
	return []*framework.Path{{
		Pattern:      "check/" + framework.GenericNameRegex("account"),
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "account-health"},
		Fields: map[string]*framework.FieldSchema{
			"account": field(framework.TypeString, "Name of the account."),
			"now": query(field(framework.TypeBool, "Try the engine key now although the cloud has refused it; at most once in 15 "+
				"minutes, and not for the fourth time in half an hour nor, after three tries, within 15 "+
				"minutes of the last one, because refused requests lock the account.")),
		},
		// The active node paces the account's calls.
		Operations: only(logical.ReadOperation, pathOperation("check", "Check now whether the account can lease keys.",
			b.pathCheckRead, answers(checkAnswer()), onActive)),
		HelpSynopsis: "The account's health, each finding with its remedy.",
		HelpDescription: "Reads from the cloud whose key the engine has, when it expires, the access policy, and the key slots of the " +
			"roles' users. Permissions are tried without changing anything: all of them on OUTSCALE (DryRun), only those to read on Huawei " +
			"Cloud. Each finding reads \"severity: what: remedy\"; healthy is false if one of them is an error. It warns of the engine key " +
			"when less than a third of its life is left.",
	}}
}

func checkAnswer() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"healthy":    field(framework.TypeBool, "Whether no finding is an error."),
		"findings":   field(framework.TypeStringSlice, "What was found, each as \"severity: what: remedy\"."),
		"account_id": field(framework.TypeString, "Id of the cloud account; empty: not known."),
		"identity": field(framework.TypeString, "Owner of the engine's key: root (the cloud account), user (an EIM or IAM user) or "+
			"unknown; empty: the cloud could not be asked."),
		"user_name":      field(framework.TypeString, "Name of that user."),
		"access_key":     field(framework.TypeString, "ID of the engine's own key."),
		"key_active":     field(framework.TypeBool, "Whether the cloud lists it as active."),
		"key_created":    field(framework.TypeString, "When it was created."),
		"key_expiration": field(framework.TypeString, "When it expires; empty: never, or not known."),
		"key_trusted": field(framework.TypeBool, "Whether it was created in Cockpit after a multi-factor authentication, which an "+
			"account in secure mode requires (OUTSCALE)."),
		"policy_known": field(framework.TypeBool, "Whether the access policy could be read."),
		"max_access_key_expiration_seconds": field(framework.TypeInt64, "Longest life of a key under the policy, in seconds; 0: "+
			"unlimited, where known."),
		"effective_max_ttl": field(framework.TypeInt64, "Longest lease of a role that sets no max_ttl, in seconds."),
		"limited_by":        field(framework.TypeString, "The limit that decides it: policy, account or mount."),
		"clock_skew": field(framework.TypeInt64, "How far the cloud's clock is ahead of this machine's, in seconds; below zero: "+
			"behind."),
		"key_counts": field(framework.TypeStringSlice, "How the slots of the engine's identity and of the roles' users are used."),
		"keys_without_expiration": field(framework.TypeStringSlice, "Keys of those identities that never expire and were not created "+
			"by this mount."),
	}
}

func (b *backend) pathCheckRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	ctx = transport.WithClass(ctx, transport.ClassBackground)
	name := data.Get("account").(string)
	unlock, err := b.lock(ctx, "check/"+name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	a, err := b.account(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if data.Get("now").(bool) {
		if a, err = b.tryNow(ctx, req.Storage, a); err != nil {
			return nil, err
		}
	}
	c, err := b.check(ctx, req.Storage, a)
	if err != nil {
		return nil, err
	}
	return decided(c.answer(), c.findings), nil // the command line prints a warning a line
}

// tryNowPause is how often check/ tries a key that the cloud has refused, before its time.
const tryNowPause = 15 * time.Minute

// tryNow calls the cloud although the key is held back. Where it takes the key, all requests go on; where it does not, that is one of
// the three tries that lock nobody in half an hour, and they wait. Where the account was written meanwhile, what was written counts.
func (b *backend) tryNow(ctx context.Context, s logical.Storage, a *account) (*account, error) {
	now := time.Now()
	if last, known := b.triedNow.Load(a.name); known && now.Sub(last.(time.Time)) < tryNowPause {
		return nil, userError("now=true was given at %s, and once in %s is the most, since refused calls lock the account: leave it "+
			"out, or try again at %s", showTime(last.(time.Time)), tryNowPause, showTime(last.(time.Time).Add(tryNowPause)))
	}
	if holder, ok := a.cloud.(provider.Holder); ok {
		hold, held := holder.Hold()
		if held && now.Before(hold.WantedFrom) {
			return nil, userError("the cloud has refused the engine key three times, the last of them not long ago, and a fourth so soon "+
				"locks the account: leave now=true out, or try again at %s", showTime(hold.WantedFrom))
		}
	}
	b.triedNow.Store(a.name, now)
	if _, err := a.cloud.OwnKey(transport.WithNow(ctx)); err != nil {
		if notSent := new(transport.NotSentError); errors.As(err, &notSent) {
			b.triedNow.CompareAndDelete(a.name, now)
		}
		return a, nil // the check says why
	}
	return b.account(ctx, s, a.name)
}

func (c *checkup) answer() map[string]any {
	longest, by := c.bounds.MaxLease()
	counts := []string{}
	for _, user := range slices.Sorted(maps.Keys(c.counts)) {
		counts = append(counts, cmp.Or(user, "engine's own identity")+": "+c.counts[user].String())
	}
	return map[string]any{
		"healthy":                           c.errors == 0,
		"findings":                          texts(c.findings),
		"account_id":                        c.who.AccountID,
		"identity":                          string(c.who.Identity.Kind),
		"user_name":                         c.who.Identity.User,
		"access_key":                        c.account.config.AccessKey,
		"key_active":                        c.own.Active,
		"key_created":                       showTime(c.own.Created),
		"key_expiration":                    showTime(c.own.Expires),
		"key_trusted":                       c.own.Trusted,
		"policy_known":                      c.policy.known(),
		"max_access_key_expiration_seconds": seconds(c.policy.Policy.MaxKeyLifetime),
		"effective_max_ttl":                 max(0, seconds(longest)),
		"limited_by":                        c.policy.limitedBy(by),
		"clock_skew":                        seconds(c.skew),
		"key_counts":                        counts,
		"keys_without_expiration":           texts(c.withoutExpiration),
	}
}

func (b *backend) pathPolicy() []*framework.Path {
	return []*framework.Path{{
		Pattern:      policyPrefix + framework.GenericNameRegex("account"),
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: operationPrefix, OperationSuffix: "access-policy"},
		Fields: map[string]*framework.FieldSchema{
			"account": field(framework.TypeString, "Name of the account."),
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: pathOperation("read", "Read the account's access policy as last seen, and what follows from it.",
				b.pathPolicyRead, answers(policyAnswer()), onAnyNode),
			// The view is local: each cluster asks for itself.
			logical.UpdateOperation: pathOperation("refresh", "Ask the cloud for the access policy now.",
				b.pathPolicyWrite, answers(policyAnswer()), onActive),
		},
		HelpSynopsis: "The account's access policy, which limits the life of every key.",
		HelpDescription: "The policy is read when the account is written, every few minutes, and at once when the cloud refuses an " +
			"expiration date. A write reads it from the cloud now, for example after it was changed. Huawei Cloud has no such policy: set " +
			"the account's max_ttl there.",
	}}
}

func policyAnswer() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"supported": field(framework.TypeBool, "Whether the cloud has such a policy (OUTSCALE). Without one, the account's max_ttl "+
			"is the limit."),
		"known": field(framework.TypeBool, "Whether the policy could be read when last tried."),
		"max_access_key_expiration_seconds": field(framework.TypeInt64, "Longest life of a key as last read, in seconds; 0: "+
			"unlimited, where known."),
		"require_trusted_env": field(framework.TypeBool, "Whether the policy requires trusted sessions."),
		"secure_mode": field(framework.TypeBool, "Whether the account accepts only trusted keys, those created in Cockpit after a "+
			"multi-factor authentication: no leased key is one."),
		"read_at":           field(framework.TypeString, "When the policy was last read; empty: never."),
		"problem":           field(framework.TypeString, "Why the last attempt to read it failed; empty: it did not."),
		"effective_max_ttl": field(framework.TypeInt64, "Longest lease of a role that sets no max_ttl, in seconds."),
		"longest_key_lifetime": field(framework.TypeInt64, "Longest life of a key that the account's roles, static roles and "+
			"rotation_period need, and those of other accounts here that are the same one in the cloud, in seconds: an access policy "+
			"that allows less shortens leases, or makes rotations fail. 0: nothing needs a key."),
		"limited_by": field(framework.TypeString, "The limit that decides effective_max_ttl: policy, account or mount; and whether the "+
			"policy is unknown, or there is none."),
	}
}

func (b *backend) pathPolicyRead(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	a, view, err := b.accountAndPolicy(ctx, req.Storage, data.Get("account").(string))
	if err != nil {
		return nil, err
	}
	return b.policyResponse(ctx, req.Storage, a, view)
}

func (b *backend) pathPolicyWrite(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	a, err := b.identified(ctx, req.Storage, data.Get("account").(string))
	if err != nil {
		return nil, err
	}
	view, err := b.refreshPolicy(ctx, req.Storage, a)
	if err != nil {
		return nil, err
	}
	resp, err := b.policyResponse(ctx, req.Storage, a, view)
	if err != nil {
		return nil, err
	}
	if view.Problem != "" {
		resp.AddWarning("the access policy is unknown: " + view.Problem)
	}
	if view.unbounded() {
		resp.AddWarning(unboundedPolicy)
	}
	return resp, nil
}

func (b *backend) policyResponse(ctx context.Context, s logical.Storage, a *account, view *policyView) (*logical.Response, error) {
	key, err := b.longestKeyOf(ctx, s, a)
	if err != nil {
		return nil, err
	}
	longest, limitedBy := decision(bounds(b.System().MaxLeaseTTL(), a, view, 0), view)
	resp := &logical.Response{Data: map[string]any{
		"supported":                         !view.None,
		"known":                             view.known(),
		"max_access_key_expiration_seconds": seconds(view.Policy.MaxKeyLifetime),
		"require_trusted_env":               view.Policy.RequireTrustedEnv,
		"secure_mode":                       view.Policy.SecureMode,
		"read_at":                           showTime(view.ReadAt),
		"problem":                           view.Problem,
		"effective_max_ttl":                 longest,
		"longest_key_lifetime":              seconds(key),
		"limited_by":                        limitedBy,
	}}
	if view.secureMode() {
		resp.AddWarning(secureModeNews)
	}
	if view.None {
		resp.AddWarning(a.kind.Title + " has no such policy, and ends no access key by itself: max_ttl in config/" + a.name +
			" bounds the leases of the account")
	}
	return resp, nil
}
