// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"path/filepath"
	"testing"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/scripts/docs/markdown"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
)

// TestAStrangersHour follows the pages in the order in which somebody new reads them, on one server with data on a disk: what one page
// leaves behind must not be in the way of the next, and nothing may be left in the end.
func TestAStrangersHour(t *testing.T) {
	pages, err := markdown.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]markdown.Page{}
	for _, page := range pages {
		byName[filepath.ToSlash(page.Name)] = page
	}
	d, _ := newBareDesk(t, policiesOf(t, pages), false)
	for _, stage := range []struct{ page, note, prelude string }{
		{"docs/install.md", "run", ""},
		{"docs/quickstart.md", "run", ""},
		{"README.md", "run dev", ""},
		{"docs/agent.md", "run dev", ""},
		{"docs/ci.md", "run dev", ""},
		{"docs/people.md", "run dev", ""},
		{"docs/migrate.md", "run dev", ""},
		{"docs/accounts.md", "run dev", ""},
		{"docs/incident.md", "run dev", "vault write outscale/static-roles/legacy user_name=legacy rotation_period=24h\n" + somebodyHasLostAKey},
		{"docs/remove.md", "run dev", ""},
		{"docs/remove.md", "run last", ""},
	} {
		blocks := byName[stage.page].Noted(stage.note)
		if len(blocks) == 0 {
			t.Fatalf("%s has no blocks to %s", stage.page, stage.note)
		}
		d.run(stage.page, stage.prelude, blocks)
	}
	t.Run("the engine has left no key but the one of each account with which it signed", func(t *testing.T) {
		own := map[string]int{}
		for _, key := range d.account.Keys() {
			label, err := keylabel.Parse(key.Tag)
			switch {
			case err != nil: // made by hand
			case label.Kind == keylabel.KindRoot && own[key.User] == 0:
				own[key.User]++
			default:
				t.Errorf("key %s of user %q is still there: %s", key.ID, key.User, key.Tag)
			}
		}
	})
}
