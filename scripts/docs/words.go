// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// wordList is the file that says which words are avoided, below the root. It is not searched itself.
const wordList = "scripts/docs/words.txt"

// words is the content of a list of words.
type words struct {
	avoid   map[string]string   // a lower-case word, and what to say instead
	names   map[string]string   // parts of an identifier in lower case with a space between them, and what to say instead
	whole   map[string]string   // an identifier, and what to call it instead
	allowed map[exception]int   // lines of the list that allow a word, by their line number
	used    map[exception]bool  // those that were needed
	lines   map[string][]string // findings by file
}

// exception is a word that stays in a file, or below a folder whose path ends in a slash, until somebody rewrites it.
type exception struct{ path, word string }

// checkWords searches the files below root, and returns an error that lists each avoided word that no line allows, and each line
// that allows what nobody says any more.
func checkWords(root string) error {
	list, err := readWords(filepath.Join(root, wordList))
	if err != nil {
		return err
	}
	if err := list.searchTree(root); err != nil {
		return err
	}
	if findings := list.findings(); len(findings) > 0 {
		return errors.New(strings.Join(findings, "\n"))
	}
	return nil
}

// readWords reads a list; its first comment describes the form.
func readWords(path string) (*words, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	w := &words{
		avoid: map[string]string{}, names: map[string]string{}, whole: map[string]string{},
		allowed: map[exception]int{}, used: map[exception]bool{}, lines: map[string][]string{},
	}
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			if err := w.add(line, number); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, number, err)
			}
		}
	}
	return w, lines.Err()
}

// add takes one line of a list in.
func (w *words) add(line string, number int) error {
	rule, reason, found := strings.Cut(line, ": ")
	fields := strings.Fields(rule)
	if !found || len(fields) < 2 {
		return fmt.Errorf("%q is not of the form KIND WORD ...: TEXT", line)
	}
	switch kind, rest := fields[0], fields[1:]; kind {
	case "avoid":
		for _, word := range rest {
			w.avoid[word] = reason
		}
	case "name":
		for _, name := range rest {
			w.names[strings.Join(parts(name), " ")] = reason
		}
	case "whole":
		for _, name := range rest {
			w.whole[name] = reason
		}
	case "allow":
		if len(rest) != 2 {
			return errors.New("allow wants a path and one word")
		}
		w.allowed[exception{rest[0], strings.Join(parts(rest[1]), " ")}] = number
	default:
		return fmt.Errorf("%q is none of avoid, name, whole, allow", kind)
	}
	return nil
}

// searchTree searches each file that people read: Go, pages, scripts, workflows. What git does not keep is passed over, and so is
// the list with its tests, which name the words.
func (w *words) searchTree(root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		switch {
		case entry.IsDir() && slices.Contains([]string{".git", ".cache", ".aws-sam", "dist"}, name):
			return filepath.SkipDir
		case entry.IsDir() || strings.HasPrefix(name, "scripts/docs/words"):
			return nil
		case filepath.Ext(name) == ".go":
			source, err := os.ReadFile(path)
			w.searchGo(name, source)
			return err
		case entry.Name() == "Makefile" || slices.Contains([]string{".md", ".sh", ".yaml", ".yml", ".hcl", ".tf"}, filepath.Ext(name)):
			text, err := os.ReadFile(path)
			w.searchText(name, 1, string(text))
			return err
		default:
			return nil
		}
	})
}

// searchGo looks at the identifiers of a Go file, and at the words of its comments and strings.
func (w *words) searchGo(name string, source []byte) {
	files := token.NewFileSet()
	file := files.AddFile(name, files.Base(), len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, scanner.ScanComments)
	for {
		at, kind, text := s.Scan()
		switch kind {
		case token.EOF:
			return
		case token.IDENT:
			w.identifier(name, file.Line(at), text)
		case token.COMMENT, token.STRING:
			w.searchText(name, file.Line(at), text)
		}
	}
}

// searchText looks at each word of a text that begins at a line of a file. A word with a capital inside is an identifier.
func (w *words) searchText(name string, line int, text string) {
	for each := range strings.Lines(text) {
		for _, word := range strings.FieldsFunc(each, func(r rune) bool { return !unicode.IsLetter(r) }) {
			if split := parts(word); len(split) > 1 {
				w.nameParts(name, line, word, split)
			} else {
				w.word(name, line, strings.ToLower(word))
			}
		}
		line++
	}
}

func (w *words) identifier(name string, line int, text string) {
	if instead, is := w.whole[text]; is {
		w.found(name, line, text, text, instead)
	}
	w.nameParts(name, line, text, parts(text))
}

// nameParts looks at each part of an identifier, and for each name that several parts make.
func (w *words) nameParts(name string, line int, text string, split []string) {
	for _, part := range split {
		w.word(name, line, part)
	}
	joined := " " + strings.Join(split, " ") + " "
	for parts, instead := range w.names {
		if strings.Contains(joined, " "+parts+" ") {
			w.found(name, line, parts, text, instead)
		}
	}
}

func (w *words) word(name string, line int, word string) {
	if instead, is := w.avoid[word]; is {
		w.found(name, line, word, word, instead)
	}
}

// found notes a word, unless a line of the list allows it there.
func (w *words) found(name string, line int, word, text, instead string) {
	for allowed := range w.allowed {
		if allowed.word == word && (allowed.path == name || strings.HasSuffix(allowed.path, "/") && strings.HasPrefix(name, allowed.path)) {
			w.used[allowed] = true
			return
		}
	}
	w.lines[name] = append(w.lines[name], fmt.Sprintf("%s:%d: %q: say %s (%s)", name, line, text, instead, wordList))
}

// findings are all that is wrong, by file, and then the lines of the list that nothing needs.
func (w *words) findings() []string {
	var all []string
	for _, lines := range w.lines {
		all = append(all, lines...)
	}
	for allowed, number := range w.allowed {
		if !w.used[allowed] {
			all = append(all, fmt.Sprintf("%s:%d: nothing in %s says %q any more: delete this line", wordList, number, allowed.path, allowed.word))
		}
	}
	slices.Sort(all)
	return all
}

// parts splits an identifier where its words begin, in lower case: rootKeyID is root, key, id.
func parts(identifier string) []string {
	var found []string
	letters := []rune(identifier)
	start := 0
	end := func(at int) {
		if start < at {
			found = append(found, strings.ToLower(string(letters[start:at])))
		}
		start = at
	}
	for at, r := range letters {
		switch {
		case !unicode.IsLetter(r):
			end(at)
			start = at + 1
		case at == 0 || !unicode.IsUpper(r):
		case unicode.IsLower(letters[at-1]), at+1 < len(letters) && unicode.IsLower(letters[at+1]):
			end(at)
		}
	}
	end(len(letters))
	return found
}
