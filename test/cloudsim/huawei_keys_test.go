// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestAKeyIsCreatedShownChangedAndDeleted(t *testing.T) {
	c, d, root := newHuawei()
	id := d.AddUser("deploy")

	made := root.must(t, 201, createIAMKey, `{"credential":{"user_id":"`+id+`","description":"a label"}}`).Credential
	if len(made.Access) != 20 || len(made.Secret) != 40 || made.Status != "active" || made.UserID != id || made.Description != "a label" {
		t.Errorf("created %+v", made)
	}
	view := root.must(t, 200, showIAMKey+made.Access, "").Credential
	if view.Secret != "" || view.LastUseTime != made.CreateTime || view.UserID != id {
		t.Errorf("returned %+v", view)
	}
	changed := root.must(t, 200, updateIAMKey+made.Access, `{"credential":{"description":"another","status":"inactive"}}`).Credential
	if changed.Description != "another" || changed.Status != "inactive" || changed.Secret != "" {
		t.Errorf("changed %+v", changed)
	}
	listed := root.must(t, 200, listIAMKeys+"?user_id="+id, "").Credentials
	if len(listed) != 1 || listed[0].Status != "inactive" || listed[0].LastUseTime != "" {
		t.Errorf("listed %+v", listed)
	}
	root.must(t, 204, deleteIAMKey+made.Access, "")
	root.mustRefuse(t, deleteIAMKey+made.Access, "", 404, "Could not find credential")
	if got := c.CountCalls("DeletePermanentAccessKey"); got != 2 {
		t.Errorf("%d deletes recorded", got)
	}
}

func TestAUserHasTwoKeysAtMost(t *testing.T) {
	_, d, root := newHuawei()
	id := d.AddUser("deploy")
	root.newKey(t, id)
	second := root.newKey(t, id)
	d.SetKeyState(second.AccessKey, IAMInactive)
	got := root.mustRefuse(t, createIAMKey, `{"credential":{"user_id":"`+id+`"}}`, 400, "akSkNumExceed")
	if got.Error.Code != 400 || got.Error.Title != "Bad Request" {
		t.Errorf("got %s", got.Raw)
	}
	root.must(t, 204, deleteIAMKey+second.AccessKey, "")
	root.newKey(t, id)
}

func TestConcurrentCreatesNeverExceedHuaweisQuota(t *testing.T) {
	_, d, root := newHuawei()
	body := `{"credential":{"user_id":"` + d.AddUser("deploy") + `"}}`
	var made atomic.Int64
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if got, err := root.try(t.Context(), "POST", iamCredentials, body); err != nil {
				t.Error(err)
			} else if got.Status == 201 {
				made.Add(1)
			}
		})
	}
	group.Wait()
	if made.Load() != iamKeyQuota {
		t.Errorf("%d keys were made, want 2", made.Load())
	}
}
