// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"testing"
	"time"
)

func TestLeaseWithAUserOfItsOwn(t *testing.T) {
	m := newMount(t)
	m.configure()
	m.account.AddGroup("/", "readers")
	m.write("roles/job", "credential_type=iam_user", "ttl=10m", "groups=readers",
		`policy_document={"Statement": [{"Effect": "Allow", "Action": ["api:ReadVms"], "Resource": ["*"]}]}`)

	users := m.account.Users()
	l, err := m.tryLeaseOf("job", "")
	if err != nil {
		t.Fatal(err)
	}

	t.Run("the key may do what the role says", func(t *testing.T) {
		if err := l.call(); err != nil {
			t.Error(err)
		}
		if len(m.account.Users()) != len(users)+1 {
			t.Errorf("users %v", m.account.Users())
		}
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
