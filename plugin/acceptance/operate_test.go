// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package acceptance

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// TestOperate is what operators do, as their tools do it: through the server's API.
func TestOperate(t *testing.T) {
	m := newMount(t)
	m.configure("ttl=10m", "max_ttl=1h")
	logic := m.server.Client.Logical()

	t.Run("a patch changes what it names, null resets, and what is missing is a 404", func(t *testing.T) {
		patch := map[string]any{"ttl": "5m", "max_ttl": nil, "max_active_keys": 2}
		if _, err := logic.JSONMergePatch(t.Context(), m.path+"/roles/app", patch); err != nil {
			t.Fatal(err)
		}
		role := m.read("roles/app")
		if number(t, role["ttl"]) != 300 || number(t, role["max_ttl"]) != 0 || number(t, role["max_active_keys"]) != 2 ||
			len(role["user_names"].([]any)) != 1 {
			t.Errorf("%v", role)
		}
		_, err := logic.JSONMergePatch(t.Context(), m.path+"/roles/nope", patch)
		var refused *api.ResponseError
		if !errors.As(err, &refused) || refused.StatusCode != http.StatusNotFound {
			t.Errorf("%v", err)
		}
	})
	l := m.lease("")
	t.Run("a user's keys are listed alone", func(t *testing.T) {
		for user, want := range map[string]bool{"app": true, "nobody": false} {
			list, err := logic.ReadWithData(m.path+"/keys", map[string][]string{"list": {"true"}, "user": {user}})
			if err != nil {
				t.Fatal(err)
			}
			if (list != nil) != want {
				t.Errorf("%s: %v", user, list)
			}
		}
	})
	t.Run("max_active_keys is a 400 with the count", func(t *testing.T) {
		second := m.lease("")
		_, err := m.tryLease("")
		m.mustRefuse(err, "2 of its keys", "max_active_keys is 2")
		second.revoke()
	})
	t.Run("a leaked key is killed, and its lease is revoked without fuss", func(t *testing.T) {
		if _, err := logic.Delete(m.path + "/keys/" + l.AccessKey); err != nil {
			t.Fatal(err)
		}
		if _, there := m.account.Key(l.AccessKey); there {
			t.Error("the key is still in the cloud")
		}
		l.revoke()
		_, err := logic.Delete(m.path + "/keys/" + l.AccessKey)
		m.mustRefuse(err, "not in this mount's ledger")
	})
	t.Run("an orphan is found by a dry run and removed by a tidy", func(t *testing.T) {
		kept := m.lease("")
		orphan := m.account.AddKey(cloudsim.KeySpec{
			User: "app", Tag: keylabel.New(m.instance(), keylabel.KindLease).String(), Expires: time.Now().Add(time.Hour),
		})
		for _, dry := range []string{"true", "false"} {
			status := m.tidy("dry_run=" + dry)
			if found, _ := status["orphans_found"].([]any); status["state"] != "done" || len(found) != 1 || found[0] != orphan.AccessKey {
				t.Errorf("%v", status)
			}
			if _, there := m.account.Key(orphan.AccessKey); there != (dry == "true") {
				t.Errorf("dry_run=%s: there: %v", dry, there)
			}
		}
		kept.revoke()
	})
	t.Run("a check tells the facts and the findings", func(t *testing.T) {
		check := m.read("check/default")
		if check["healthy"] != true || check["account_id"] != accountID || len(check["key_counts"].([]any)) != 2 {
			t.Errorf("%v", check)
		}
	})
}

func TestPoolOfUsers(t *testing.T) {
	m := newMount(t)
	m.configure("ttl=10m")
	m.account.AddUser("app2", "api:ReadVms")
	m.write("roles/app", "user_names=app,app2")
	for range 7 {
		m.account.AddKey(cloudsim.KeySpec{User: "app"}) // somebody else's
	}
	var leases []*lease
	byUser := map[any]int{}
	t.Run("its leases go where there is room", func(t *testing.T) {
		for range 3 + 10 {
			l := m.lease("")
			leases = append(leases, l)
			byUser[l.Data["user_name"]]++
		}
		if byUser["app"] != 3 || byUser["app2"] != 10 {
			t.Errorf("%v", byUser)
		}
		m.mustHold(leases)
	})
	t.Run("a full one is a 400 with the counts of each user", func(t *testing.T) {
		_, err := m.tryLease("")
		m.mustRefuse(err, "3 of 10 issued by this mount, 7 others", "10 of 10 issued by this mount")
	})
	t.Run("a revocation makes room", func(t *testing.T) {
		leases[0].revoke()
		leases[0] = m.lease("")
		m.mustHold(leases)
	})
	t.Run("the ledger is listed in pages", func(t *testing.T) {
		all, err := m.ledger()
		if err != nil {
			t.Fatal(err)
		}
		var paged []string
		for after := ""; len(paged) < len(all); after = paged[len(paged)-1] {
			page, err := m.page("keys", after, 5)
			if err != nil || len(page) == 0 || len(page) > 5 {
				t.Fatalf("after %q: %v, %v", after, page, err)
			}
			paged = append(paged, page...)
		}
		if !slices.Equal(paged, all) {
			t.Errorf("in pages %v, whole %v", paged, all)
		}
	})
}

// page lists what comes after a name.
func (m *mount) page(path, after string, limit int) ([]string, error) {
	query := map[string][]string{"list": {"true"}, "after": {after}, "limit": {strconv.Itoa(limit)}}
	list, err := m.server.Client.Logical().ReadWithDataWithContext(m.t.Context(), m.path+"/"+path, query)
	return names(list, err)
}
