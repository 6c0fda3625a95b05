// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"testing"
	"time"
)

// A lease looks at one user. A copy of the account's list, which it was once looked up in, takes a tenth of a millisecond with 1,200
// users, and a whole lease four.
func TestWhetherAUserIsTheOneOfItsRoleTakesNoLookAtTheOthers(t *testing.T) {
	ids := map[string]string{}
	for i := range 1200 {
		ids[fmt.Sprintf("user-%d", i)] = fmt.Sprintf("id-%d", i)
	}
	b, a := &backend{}, &account{users: &userList{}}
	a.users.note(ids, time.Now(), time.Now())
	allocations := testing.AllocsPerRun(100, func() {
		if err := b.refuseAnother(t.Context(), a, "user-7", "id-7", "roles/app"); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 0 {
		t.Errorf("%.0f allocations", allocations)
	}
	if b.refuseAnother(t.Context(), a, "user-7", "id-8", "roles/app") == nil {
		t.Error("another user is not refused")
	}
}
