// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// outscaleOperations are all that the engine does on OUTSCALE.
func outscaleOperations() []operation {
	return slices.Concat(leaseOperations(), policyOperations(), userOperations(), keyOperations(), rotationOperations(),
		eimRotationOperations(),
		staticOperations(), configOperations(), firstKeyOperations())
}

// wireOperations are those whose requests and storage calls cross a plugin's wire.
func wireOperations(all []operation) []operation {
	names := []string{
		"issue an access key", "renew an access key", "revoke an access key", "issue a user", "renew a user", "revoke a user", "delete a key",
		"rotate-root", "create a static role", "rotate-role", "delete a static role", "hand the keys of a static role over",
		"write a configuration", "give the engine another key", "issue a session",
	}
	return slices.DeleteFunc(all, func(o operation) bool { return !slices.Contains(names, o.name) })
}

func leaseOperations() []operation {
	return []operation{
		{name: "issue an access key", run: issues("app")},
		{name: "issue from a pool with a full user, under a cap", prepare: fullPool, run: issues("pool")},
		{name: "issue at an account that was never verified", prepare: unverified, run: issues("app")},
		{name: "renew an access key", prepare: leasedFrom("app"), run: renews},
		{name: "revoke an access key", prepare: leasedFrom("app"), run: revokes},
		{name: "reap the key of a lease that Vault has lost", prepare: func(s *scene) {
			lost := s.lease("app")
			s.leases = slices.DeleteFunc(s.leases, func(l *testLease) bool { return l == lost })
			<-time.After(sceneTTL + lifetime.DefaultExpiryGrace + 10*time.Second)
		}, run: ticks},
		{name: "roll back an issue", prepare: func(s *scene) {
			s.leaveBegun()
			<-time.After(begunAge + time.Second)
		}, run: ticks},
	}
}

// policyOperations are those that only a cloud with a policy for keys knows.
func policyOperations() []operation {
	return []operation{
		{name: "issue under a policy that was tightened", prepare: func(s *scene) {
			s.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 240})
		}, run: issues("app")},
		{name: "renew under a policy that was tightened", prepare: func(s *scene) {
			s.lease("app")
			s.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 240})
			<-time.After(time.Minute)
		}, run: renews},
		{name: "refresh the policy", run: asks(logical.UpdateOperation, "policy/default")},
	}
}

// sessionOperations are those that only a cloud with sessions knows. The end of a session's
// lease makes no call at all, to cloud or storage: see TestSession.
func sessionOperations() []operation {
	return []operation{
		{name: "issue a session", prepare: sessionRole, run: issues("session")},
	}
}

func userOperations() []operation {
	return []operation{
		{name: "issue a user", prepare: userRole, run: func(ctx context.Context, s *scene) {
			issues("job")(ctx, s)
			if l := s.leases[len(s.leases)-1]; l != s.bystander {
				s.mustHaveRights(l)
			}
		}},
		{name: "renew a user", prepare: leaseOfUser, run: renews},
		{name: "revoke a user", prepare: leaseOfUser, run: revokes},
		{name: "reap the user of a lease that Vault has lost", prepare: func(s *scene) {
			leaseOfUser(s)
			s.leases = s.leases[:1]
			<-time.After(sceneTTL + lifetime.DefaultExpiryGrace + 10*time.Second)
		}, run: ticks},
		{name: "roll back an issue of a user", prepare: func(s *scene) {
			userRole(s)
			defer s.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.DropAnswer})()
			defer s.order(cloudsim.Fault{Op: "ReadUsers", Kind: cloudsim.RefuseConnection})()
			if _, err := s.tryLease(s.t.Context(), "job"); err == nil {
				s.t.Fatal("leased")
			}
			<-time.After(begunAge + time.Second)
		}, run: ticks},
	}
}

func keyOperations() []operation {
	return []operation{
		{name: "delete a key", prepare: leasedFrom("app"), run: kills},
		{name: "delete the key of a user", prepare: leaseOfUser, run: kills},
		{name: "tidy", prepare: orphans, run: tidies},
		{name: "replace the key of a static role that is gone", prepare: func(s *scene) {
			staticRoleDB(s)
			s.ended["static-creds/db"] = true
			<-time.After(staticKeyAge)
			s.deleteKey(stored[staticCreds](s.testVault, "static-creds/db").AccessKey)
		}, run: tidies},
		{name: "set a key right that its holder has changed", prepare: func(s *scene) {
			leasedFrom("app")(s)
			key, _ := s.key(s.leases[len(s.leases)-1].AccessKey())
			s.rewriteKey(key.ID, "", key.Expires)
		}, run: tidies},
		{name: "find orphans once a day", prepare: func(s *scene) {
			orphans(s)
			s.storeReconciliation(time.Now())
		}, run: ticks},
	}
}

func rotationOperations() []operation {
	return []operation{
		{name: "rotate-root", run: asks(logical.UpdateOperation, "rotate-root/default")},
		{name: "rotate the engine's key by itself", prepare: func(s *scene) {
			s.write("config/default", "rotation_period=24h")
			s.replaceConfig(func(c *accountConfig) { c.KeyCreated = time.Now().Add(-day) })
		}, run: ticks},
		{name: "delete the engine's replaced key", prepare: func(s *scene) {
			s.rotate()
			<-time.After(lifetime.RotationOverlap + time.Second)
		}, run: ticks},
		{name: "delete a replaced key that the engine had made", prepare: func(s *scene) {
			s.rotate()
			<-time.After(lifetime.RotationOverlap + time.Second)
			_ = s.tick()
			s.rotate()
			<-time.After(lifetime.RotationOverlap + time.Second)
		}, run: ticks},
	}
}

func eimRotationOperations() []operation {
	return []operation{{name: "rotate-root of an EIM user's key", prepare: func(s *scene) {
		s.account.AddUser("vault", "api:*")
		s.root = s.account.AddKey(cloudsim.KeySpec{User: "vault"})
		s.write("config/default", s.accountFields()...)
	}, run: asks(logical.UpdateOperation, "rotate-root/default")}}
}

// firstKeyOperations are those with login and password, which are no part of what is stored.
func firstKeyOperations() []operation {
	return []operation{
		{name: "make the first key of an account with its login", prepare: func(s *scene) {
			s.account.SetLogin(testLogin, testPassword)
		}, run: func(ctx context.Context, s *scene) {
			s.ask(ctx, logical.UpdateOperation, "config/second", s.signInFields()...)
		}},
		{name: "make a new key of an account with its login", prepare: func(s *scene) {
			s.account.SetLogin(testLogin, testPassword)
		}, run: func(ctx context.Context, s *scene) {
			s.ask(ctx, logical.UpdateOperation, "config/default", s.signInFields()...)
		}},
		{name: "clean up a first key that no configuration names", prepare: func(s *scene) {
			s.account.SetLogin(testLogin, testPassword)
			s.storage.before = func(op, key string) error {
				if op == "put" && strings.HasPrefix(key, configPrefix) {
					return errInjected
				}
				return nil
			}
			s.ask(s.t.Context(), logical.UpdateOperation, "config/second", s.signInFields()...)
			s.storage.before = nil
			<-time.After(firstKeyPause)
		}, run: ticks},
	}
}

func staticOperations() []operation {
	return []operation{
		{name: "create a static role", prepare: staticUser, run: asks(logical.UpdateOperation, "static-roles/db", staticFields...)},
		{name: "change a static role", prepare: staticRoleDB, run: asks(logical.UpdateOperation, "static-roles/db", "rotation_period=12h")},
		{name: "rotate-role", prepare: staticRoleDB, run: asks(logical.UpdateOperation, "rotate-role/db")},
		{name: "rotate a static role by itself", prepare: func(s *scene) {
			staticRoleDB(s)
			edit(s.testVault, "static-creds/db", func(creds *staticCreds) { creds.LastRotation = time.Now().Add(-day) })
		}, run: ticks},
		{name: "delete the replaced key of a static role", prepare: func(s *scene) {
			staticRoleDB(s)
			s.write("rotate-role/db")
			<-time.After(5*time.Minute + time.Second)
		}, run: ticks},
		{name: "delete a static role", prepare: staticRoleDB, run: func(ctx context.Context, s *scene) {
			s.endStaticRole()
			s.ask(ctx, logical.DeleteOperation, "static-roles/db")
		}},
		{name: "hand the keys of a static role over", prepare: func(s *scene) {
			staticRoleDB(s)
			s.write("rotate-role/db")
		}, run: handsOver},
		{name: "roll back a rotation whose keys are handed over meanwhile", races: true, prepare: func(s *scene) {
			staticRoleDB(s)
			puts := 0
			s.storage.before = func(op, key string) error {
				if op == "put" && strings.HasPrefix(key, ledger.Prefix) {
					if puts++; puts == 2 { // the first begins the key, this one settles it
						return errInjected
					}
				}
				return nil
			}
			s.write("rotate-role/db")
			s.storage.before = nil
			<-time.After(begunAge + time.Second)
		}, run: func(ctx context.Context, s *scene) {
			ticked := make(chan struct{})
			go func() {
				defer close(ticked)
				ticks(ctx, s)
			}()
			handsOver(ctx, s)
			<-ticked
		}},
	}
}

// endStaticRole notes that somebody has ordered the end of the role's keys.
func (s *scene) endStaticRole() {
	s.ended["static-creds/db"] = true
	for _, id := range stored[staticCreds](s.testVault, "static-creds/db").ids() {
		s.ended[id] = true
	}
}

// handsOver gives the keys of the static role to its operator.
func handsOver(ctx context.Context, s *scene) {
	s.ended["static-creds/db"] = true
	ids := stored[staticCreds](s.testVault, "static-creds/db").ids()
	resp, err := s.request(ctx, logical.DeleteOperation, "static-roles/db", "keep_key=true")
	if failure(resp, err) != nil || s.process.dead.Load() {
		return
	}
	for _, id := range ids {
		s.kept[id] = true
	}
}

func configOperations() []operation {
	return []operation{
		{name: "write a configuration", run: asks(logical.UpdateOperation, "config/default", "max_ttl=4h")},
		{name: "write the first configuration of an account", run: func(ctx context.Context, s *scene) {
			s.ask(ctx, logical.UpdateOperation, "config/second", s.accountFields()...)
		}},
		{name: "give the engine another key", prepare: func(s *scene) {
			s.root = s.addKey("", "", time.Time{})
		}, run: func(ctx context.Context, s *scene) {
			s.ask(ctx, logical.UpdateOperation, "config/default", s.accountFields()...)
		}},
		{name: "give the engine another key than the one that it made", prepare: func(s *scene) {
			s.rotate()
			<-time.After(lifetime.RotationOverlap + time.Second)
			_ = s.tick()
			s.root = s.addKey("", "", time.Time{})
		}, run: func(ctx context.Context, s *scene) {
			s.ask(ctx, logical.UpdateOperation, "config/default", s.accountFields()...)
		}},
		{name: "delete a configuration", prepare: func(s *scene) {
			s.write("config/second", s.accountFields()...)
		}, run: asks(logical.DeleteOperation, "config/second")},
		{name: "write a role", run: asks(logical.UpdateOperation, "roles/app", "ttl=4m")},
	}
}

var staticFields = []string{"user_name=db", "rotation_period=24h", "rotation_grace_period=5m"}

func issues(role string) func(context.Context, *scene) {
	return func(ctx context.Context, s *scene) {
		if l, err := s.tryLease(ctx, role); err == nil && !s.process.dead.Load() {
			s.mustSign(l.Data)
		}
	}
}

func asks(op logical.Operation, path string, fields ...string) func(context.Context, *scene) {
	return func(ctx context.Context, s *scene) { s.ask(ctx, op, path, fields...) }
}

func renews(ctx context.Context, s *scene)  { _ = s.renewIn(ctx, s.leases[len(s.leases)-1], 0) }
func revokes(ctx context.Context, s *scene) { s.end(ctx, s.leases[len(s.leases)-1]) }
func ticks(ctx context.Context, s *scene)   { _ = s.tickIn(ctx) }

func tidies(ctx context.Context, s *scene) {
	s.ask(ctx, logical.UpdateOperation, "tidy")
	for s.backend.tidying.current() != nil {
		<-time.After(time.Second)
	}
}

func kills(ctx context.Context, s *scene) {
	id := s.leases[len(s.leases)-1].AccessKey()
	s.ended[id] = true
	s.ask(ctx, logical.DeleteOperation, "keys/"+id)
}

func leasedFrom(role string) func(*scene) {
	return func(s *scene) {
		s.lease(role)
		<-time.After(time.Minute)
	}
}

// userRole writes the role "job", whose leases have a user of their own.
func userRole(s *scene) {
	if s.domain != nil {
		s.domain.AddGroup("builders")
		s.domain.AddGroup("readers")
		s.write("roles/job", "credential_type=iam_user", "ttl="+sceneTTL.String(), "max_ttl=1h", "groups=builders,readers")
		return
	}
	s.account.AddGroup("/ci/", "builders")
	s.write("roles/job", "credential_type=iam_user", "ttl="+sceneTTL.String(), "max_ttl=1h", "user_path=/ci/",
		"policy_document="+testDocument, "policy_orns="+strings.Join([]string{
			s.account.AddPolicy("one", "api:ReadVms"),
			s.account.AddPolicy("two"),
		}, ","),
		"groups=/ci/builders")
}

// mustHaveRights expects a leased user to have all that its role gives.
func (s *scene) mustHaveRights(l *testLease) {
	s.t.Helper()
	if user := s.leasedUser(l); s.domain != nil && len(user.Groups) != 2 || s.domain == nil &&
		(len(user.Linked) != 2 || len(user.Inline) != 1 || len(user.Groups) != 1) {
		s.t.Errorf("user %s was leased without its rights: %+v", user.Name, user)
	}
}

// sessionRole writes the role "session", whose leases are temporary keys.
func sessionRole(s *scene) {
	s.domain.AddAgency("deployers", s.domain, "ecs:*")
	s.write("roles/session", "credential_type=session_token", "agency_name=deployers", "ttl="+clouds.MinSession.String())
}

func leaseOfUser(s *scene) {
	userRole(s)
	leasedFrom("job")(s)
}

// fullPool writes a role with two users of which the first has no slot left.
func fullPool(s *scene) {
	s.addUser("full")
	s.addUser("roomy")
	for range s.quota() {
		s.addKey("full", "", time.Time{})
	}
	s.write("roles/pool", "user_names=full,roomy", "ttl="+sceneTTL.String(), "max_active_keys=1")
}

// unverified makes the account one whose cloud account the engine has yet to find out.
func unverified(s *scene) {
	s.mustRevoke(s.bystander)
	s.write("config/second", append(s.accountFields(), "verify=false")...)
	s.write("roles/app", "account=second")
}

// orphans plants a key and a user of this mount that it does not know.
func orphans(s *scene) {
	s.planted[s.orphan("app")] = true
	userRole(s)
	lost := s.lease("job")
	for _, id := range []string{lost.AccessKey(), lost.Data["user_name"].(string)} {
		s.planted[id] = true
	}
	s.leases = slices.DeleteFunc(s.leases, func(l *testLease) bool { return l == lost })
	if err := s.storage.Storage.Delete(s.t.Context(), s.entryPath(lost.AccessKey())); err != nil {
		s.t.Fatal(err)
	}
}

func staticUser(s *scene) { s.addUser("db") }

func staticRoleDB(s *scene) {
	staticUser(s)
	s.write("static-roles/db", staticFields...)
}

// storeReconciliation puts the next search for orphans at a time that chance does not choose.
func (s *scene) storeReconciliation(next time.Time) {
	s.t.Helper()
	if err := save(s.t.Context(), s.storage.Storage, reconcilePrefix+"default", &reconcileState{Next: next}); err != nil {
		s.t.Fatal(err)
	}
}

// edit changes an entry in storage.
func edit[T any](v *testVault, path string, change func(*T)) {
	v.t.Helper()
	entry := stored[T](v, path)
	change(entry)
	if err := save(v.t.Context(), v.storage.Storage, path, entry); err != nil {
		v.t.Fatal(err)
	}
}
