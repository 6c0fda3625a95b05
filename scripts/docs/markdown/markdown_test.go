// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package markdown

import "testing"

const text = `# A page: with "marks"

<!-- run -->
    vault status

    vault list x

1. In a list:

   <!-- run dev -->
   ` + "```sh" + `
   vault read \
       x
   ` + "```" + `

<!-- policy engine -->
` + "```json" + `
{}
` + "```" + `

    not a command
`

func TestParse(t *testing.T) {
	page := parse(text)
	for name, test := range map[string]struct {
		note string
		want Block
	}{
		"an indented block follows a comment": {"run", Block{Line: 4, Language: "sh", Note: "run", Text: "vault status\n\nvault list x\n"}},
		"a block in a list loses its margin":  {"run dev", Block{Line: 12, Language: "sh", Note: "run dev", Text: "vault read \\\n    x\n"}},
		"a policy is found by its name":       {"policy engine", Block{Line: 18, Language: "json", Note: "policy engine", Text: "{}\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := page.Noted(test.note); len(got) != 1 || got[0] != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
	t.Run("without a comment, an indented block is prose", func(t *testing.T) {
		if len(page.Blocks) != 3 {
			t.Errorf("%+v", page.Blocks)
		}
	})
	t.Run("a heading has the anchor that GitHub gives it", func(t *testing.T) {
		if !page.Anchors["a-page-with-marks"] {
			t.Errorf("%v", page.Anchors)
		}
	})
}
