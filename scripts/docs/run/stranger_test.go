// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/scripts/docs/markdown"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
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
	t.Run("of the engine's keys none works on: one that the cloud deletes only inactive is off, and expires in minutes", func(t *testing.T) {
		for _, key := range d.account.Keys() {
			label, err := keylabel.Parse(key.Tag)
			switch {
			case err != nil: // made by hand
			case label.Kind == keylabel.KindRoot && key.State == cloudsim.Inactive && !key.Expires.IsZero() && time.Until(key.Expires) < 5*time.Minute:
			default:
				t.Errorf("key %s of user %q is still there: %s, %s, expires: %s", key.ID, key.User, key.Tag, key.State, key.Expires)
			}
		}
	})
	t.Run("the catalog has no version of the plugin left", func(t *testing.T) {
		if left := d.mustRun("vault plugin list -detailed -format=json secret"); strings.Contains(left, pluginFile) {
			t.Error(left)
		}
	})
}
