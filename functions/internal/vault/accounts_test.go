// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"testing"
)

// hasAccounts lets the server list so many accounts, in pages, and count what it is asked.
func (s *server) hasAccounts(n int) (lists *int) {
	lists = new(int)
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("a%05d", i))
	}
	s.answer["keys/config"] = func(w http.ResponseWriter, r *http.Request) {
		*lists++
		limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil {
			s.t.Error(err)
		}
		page := []string{}
		for _, name := range names {
			if name > r.URL.Query().Get("after") && len(page) < limit {
				page = append(page, name)
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"keys": page}}) // the client finds out
	}
	return lists
}

func TestThousandsOfAccountsAreListedByPage(t *testing.T) {
	for accounts, pages := range map[int]int{1: 1, 999: 1, 1000: 2, 2500: 3} {
		s := newServer(t)
		lists := s.hasAccounts(accounts)
		names, err := mustOpen(t).AccountNames(t.Context())
		if err != nil || len(names) != accounts || *lists != pages || !slices.IsSorted(names) || len(slices.Compact(names)) != accounts {
			t.Errorf("got %d of %d names on %d pages, and error %v", len(names), accounts, *lists, err)
		}
	}
}

func TestOneAccountIsReadWithoutAListOfAll(t *testing.T) {
	s := newServer(t)
	lists := s.hasAccounts(5000)
	s.says("keys/info", 200, `{"data":{"instance_id":"I"}}`)
	s.says("keys/config/a00007", 200, `{"data":{"provider":"outscale","access_key":"AK"}}`)
	accounts, err := mustOpen(t).Accounts(t.Context(), []string{"a00007", "gone"})
	if err != nil || len(accounts) != 1 || accounts[0].Name != "a00007" || accounts[0].Instance != "I" || *lists != 0 {
		t.Errorf("got %+v after %d lists, and error %v", accounts, *lists, err)
	}
}
