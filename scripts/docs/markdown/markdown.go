// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package markdown reads the project's Markdown pages, so that tests can run what they tell readers to paste.
//
// A comment in the line before a block says more of it and is not rendered:
//
//	<!-- run -->            scripts/docs/run runs the commands, in the order of the page, on a server where the plugin is registered
//	<!-- run dev -->        the same, on a server that is set up like that of make dev
//	<!-- run sam -->        functions/samlocal runs the commands with sam local, in containers
//	<!-- policy NAME -->    a JSON policy: the test's user NAME gets these rights and no others
package markdown

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Page is one Markdown file.
type Page struct {
	Path    string // relative to where the tests run
	Name    string // relative to the repository
	Text    string
	Prose   string // the text without its blocks
	Blocks  []Block
	Anchors map[string]bool // of its headings
}

// Block is a piece of code: fenced, or indented by four spaces where a comment goes before it.
type Block struct {
	Line     int    // of its first line in the page, from 1
	Language string // of the fence; sh for an indented one
	Note     string // what the comment before it says; empty: there is none
	Text     string
}

// Pages returns README.md, CONTRIBUTING.md, SECURITY.md and the pages of docs/ below root.
func Pages(root string) ([]Page, error) {
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		return nil, err
	}
	var pages []Page
	for _, file := range append(files, filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md"), filepath.Join(root, "SECURITY.md")) {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading a page: %w", err)
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return nil, err
		}
		page := parse(string(text))
		page.Path, page.Name = file, name
		pages = append(pages, page)
	}
	return pages, nil
}

var (
	note    = regexp.MustCompile(`^<!-- ((?:run|policy|declaration).*) -->$`)
	heading = regexp.MustCompile(`^#+ (.+)$`)
)

const (
	fence  = "```"
	indent = "    "
)

// parse reads a page without its name.
func parse(text string) Page {
	page := Page{Text: text, Anchors: map[string]bool{}}
	var prose []string
	lines := strings.Split(text, "\n")
	pending := ""
	for at := 0; at < len(lines); at++ {
		line := lines[at]
		trimmed := strings.TrimLeft(line, " ") // a block may stand in a list
		switch {
		case strings.HasPrefix(trimmed, fence):
			block, end := fenced(lines, at)
			block.Note, pending = pending, ""
			page.Blocks = append(page.Blocks, block)
			at = end
		case pending != "" && strings.HasPrefix(line, indent):
			block, end := indented(lines, at)
			block.Note, pending = pending, ""
			page.Blocks = append(page.Blocks, block)
			at = end
		case note.MatchString(trimmed):
			pending = note.FindStringSubmatch(trimmed)[1]
		default:
			prose = append(prose, line)
			if match := heading.FindStringSubmatch(line); match != nil {
				page.Anchors[anchor(match[1])] = true
			}
		}
	}
	page.Prose = strings.Join(prose, "\n")
	return page
}

// fenced is the block whose fence is opened at a line, and the line that closes it.
func fenced(lines []string, at int) (Block, int) {
	margin, language, _ := strings.Cut(lines[at], fence)
	var text []string
	end := at + 1
	for ; end < len(lines) && lines[end] != margin+fence; end++ {
		text = append(text, strings.TrimPrefix(lines[end], margin))
	}
	return Block{Line: at + 2, Language: language, Text: strings.Join(text, "\n") + "\n"}, end
}

// indented is the block that begins at a line, and its last line.
func indented(lines []string, at int) (Block, int) {
	end := at
	for end+1 < len(lines) && (strings.HasPrefix(lines[end+1], indent) || lines[end+1] == "") {
		end++
	}
	var text []string
	for _, line := range lines[at : end+1] {
		text = append(text, strings.TrimPrefix(line, indent))
	}
	return Block{Line: at + 1, Language: "sh", Text: strings.TrimRight(strings.Join(text, "\n"), "\n") + "\n"}, end
}

var notInAnchors = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchor is what a heading is linked to by, as GitHub makes it.
func anchor(heading string) string {
	return strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// Noted are the blocks with that note, in order.
func (p Page) Noted(note string) []Block {
	return slices.DeleteFunc(slices.Clone(p.Blocks), func(b Block) bool { return b.Note != note })
}

// Policy is the text of the policy of that name.
func (p Page) Policy(name string) (string, error) {
	if blocks := p.Noted("policy " + name); len(blocks) == 1 {
		return blocks[0].Text, nil
	}
	return "", fmt.Errorf("%s has no policy %q", p.Name, name)
}
