// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const readVMs = `policy_document={"Statement": [{"Effect": "Allow", "Action": ["api:ReadVms"], "Resource": ["*"]}]}`

func TestLeaseWithAUserOfItsOwn(t *testing.T) {
	m := newMount(t)
	m.configure()
	m.write("config/default", `username_template=ci-{{ .RoleName }}-{{ random 12 }}`)
	m.account.AddGroup("/ci/", "readers")
	orn := m.account.AddPolicy("reader", "api:ReadVms")
	m.write("roles/job", "credential_type=iam_user", "ttl=10m", "user_path=/ci/", "groups=/ci/readers", "policy_orns="+orn, readVMs)

	users := m.account.Users()
	l, err := m.tryLeaseOf("job", "")
	if err != nil {
		t.Fatal(err)
	}
	name := l.Data["user_name"].(string)

	t.Run("the key may do what the role says", func(t *testing.T) {
		if err := l.call(); err != nil {
			t.Error(err)
		}
		if len(m.account.Users()) != len(users)+1 {
			t.Errorf("users %v", m.account.Users())
		}
	})
	t.Run("the user has the role's path, policies and groups, and a name of the account's template", func(t *testing.T) {
		user, there := m.account.User(name)
		if !there || len(user.Inline) != 1 || !slices.Equal(user.Linked, []string{orn}) || !slices.Equal(user.Groups, []string{"/ci/readers"}) {
			t.Errorf("there: %v, %+v", there, user)
		}
		if !strings.Contains(user.Path, "/ci/") || !strings.Contains(user.Path, m.instance()) {
			t.Errorf("path %s, want the role's and the mount's label in it", user.Path)
		}
		if !strings.HasPrefix(name, "ci-job-") || len(name) != len("ci-job-")+12 {
			t.Errorf("name %s", name)
		}
	})
	t.Run("the next lease has another user", func(t *testing.T) {
		other, err := m.tryLeaseOf("job", "")
		if err != nil {
			t.Fatal(err)
		}
		if other.Data["user_name"] == name {
			t.Errorf("both are %s", name)
		}
		other.revoke()
	})
	t.Run("its date follows the lease", func(t *testing.T) {
		l.mustFit(time.Minute)
		l.renew(1200)
		l.mustFit(time.Minute)
	})
	t.Run("the user goes with the lease", func(t *testing.T) {
		l.revoke()
		if len(m.account.Users()) != len(users) {
			t.Errorf("users %v", m.account.Users())
		}
		if err := l.call(); err == nil {
			t.Error("the key still works")
		}
	})
}

// TestBadRolesWithUsers sees that what no lease could have is refused when it is written.
func TestBadRolesWithUsers(t *testing.T) {
	m := newMount(t)
	m.configure()
	refuse := func(name, path, field string, parts ...string) {
		t.Run(name, func(t *testing.T) {
			fields := []string{field}
			if strings.HasPrefix(path, "roles/") {
				fields = append(fields, "credential_type=iam_user")
			}
			_, err := m.tryWrite(path, fields...)
			m.mustRefuse(err, parts...)
		})
	}
	refuse("a document that is no JSON", "roles/job", "policy_document=allow everything", "policy_document", "not a JSON object")
	refuse("a document without an effect", "roles/job",
		`policy_document={"Statement": [{"Action": ["api:ReadVms"], "Resource": ["*"]}]}`, "statement 1 has no Effect")
	refuse("a path that the cloud would refuse", "roles/job", "user_path=ci", "user_path")
	refuse("a policy that is no ORN", "roles/job", "policy_orns=reader", "policy_orns")
	refuse("users of a pool", "roles/job", "user_names=app", "user_names is only valid with credential_type=access_key")
	refuse("a template that makes one name", "config/default", "username_template=ci-user", "twice", "add randomness")
	refuse("a template that makes names of more than 64 characters", "config/default", "username_template={{ random 65 }}", "of 65 characters")
	refuse("a template that makes characters which names cannot have", "config/default", "username_template={{ random 20 }}/ci",
		"username_template makes a user name of 23 characters")
	refuse("a template that is none", "config/default", "username_template={{ random", "username_template cannot be read")
}
