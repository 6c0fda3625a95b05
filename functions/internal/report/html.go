// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"bufio"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// The pages' one style and their scripts. They stand in every page: it needs nothing else, not even a network.
var (
	//go:embed assets/style.css
	styleCSS string
	//go:embed assets/account.js
	accountJS string
	//go:embed assets/index.js
	indexJS string
)

// markup writes HTML. html/template would do it in less code, but looks methods up by name
// at run time, and a binary with such a look-up keeps every method of OUTSCALE's SDK: the
// function would be 27 MB instead of 15.
type markup struct {
	out   *bufio.Writer // keeps its error until Flush
	bytes *int64        // written so far
}

func newMarkup(w io.Writer) markup {
	m := markup{bytes: new(int64)}
	m.out = bufio.NewWriterSize(counter{w, m.bytes}, 64<<10)
	return m
}

// counter counts what passes.
type counter struct {
	io.Writer
	n *int64
}

func (c counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	*c.n += int64(n)
	return n, err
}

// print writes the format, which is our own, and the arguments, which are not: whatever is no
// number is made visible and escaped, for text and for quoted attributes alike.
func (m markup) print(format string, args ...any) {
	for i, arg := range args {
		switch arg.(type) {
		case int, float64:
		default:
			args[i] = html.EscapeString(visible(fmt.Sprint(arg)))
		}
	}
	fmt.Fprintf(m.out, format, args...)
}

// visible spells letters out that nobody sees, or that turn their neighbours around: with one of them, a name looks like
// another's. Ends of lines stay.
func visible(text string) string {
	if !strings.ContainsFunc(text, unseen) {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		if unseen(r) {
			fmt.Fprintf(&out, "\\u{%X}", r)
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}

func unseen(r rune) bool {
	switch {
	case r >= ' ' && r <= '~' || r == '\n' || r == '\t':
		return false
	case r == '\u2800': // an empty pattern of Braille, which is a symbol to Unicode
		return true
	}
	return unicode.In(r, unicode.C, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// begin opens a page. Its policy lets nothing in but this style and this script, by their hashes:
// what a cloud sent runs nowhere, even if it were taken for markup, and nothing is fetched.
func (m markup) begin(title, script string) {
	scripts := ""
	if script != "" {
		scripts = " script-src " + hashOf(script) + ";"
	}
	m.print("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
	fmt.Fprintf(
		m.out,
		"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src %s;%s base-uri 'none'; form-action 'none'\">\n",
		hashOf(styleCSS),
		scripts,
	)
	m.print("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n" +
		"<meta name=\"referrer\" content=\"no-referrer\">\n")
	m.print("<title>%s</title>\n<style>", title)
	m.out.WriteString(styleCSS)
	m.print("</style>\n</head>\n<body>\n<main>\n")
}

// end closes the page, with its script.
func (m markup) end(about About, more, script string) error {
	m.print(
		"<footer>%s %s · run %s · settings %s%s</footer>\n</main>\n",
		about.Function,
		about.Version,
		orDash(about.RunID),
		about.Digest,
		more,
	)
	if script != "" {
		m.out.WriteString("<script>" + script + "</script>\n")
	}
	m.print("</body>\n</html>\n")
	if err := m.out.Flush(); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// tile is one number at the top of a page, and where its keys are.
type tile struct {
	n       int
	name    string
	href    string // empty: nowhere
	visible bool
	hot     bool
}

func (m markup) tiles(tiles ...tile) {
	m.print("<ul class=\"tiles\" id=\"counts\">\n")
	for _, t := range tiles {
		if !t.visible {
			continue
		}
		class := ""
		if t.hot && t.n > 0 {
			class = " class=\"hot\""
		}
		opening, closing := "<div>", "</div>"
		if t.href != "" && t.n > 0 {
			opening, closing = "<a href=\""+html.EscapeString(t.href)+"\">", "</a>"
		}
		fmt.Fprintf(m.out, "  <li%s>%s<b>%s</b><span>%s</span>%s</li>\n", class, opening, thousands(t.n), t.name, closing)
	}
	m.print("</ul>\n")
}

// fact is a name and a value, shown where there is one.
type fact struct{ name, value string }

func (m markup) facts(facts ...fact) {
	m.print("<dl class=\"facts\">\n")
	for _, f := range facts {
		if f.value != "" {
			m.print("  <div><dt>%s</dt><dd>%s</dd></div>\n", f.name, f.value)
		}
	}
	m.print("</dl>\n")
}

// bar is one line of a chart: its marked part first.
type bar struct {
	name, note string
	n, marked  int
}

// bars draws lines as long as their numbers. One that has keys is never too short to be seen: one
// key of a million may be the one that matters.
func (m markup) bars(id string, bars []bar) {
	most := 1
	for _, b := range bars {
		most = max(most, b.n)
	}
	m.print("<ul class=\"bars\" id=\"%s\">\n", id)
	for _, b := range bars {
		marked, rest := share(b.marked, most), share(b.n-b.marked, most)
		m.print("  <li><span>%s", b.name)
		if b.note != "" {
			m.print("<span class=\"limit\">%s</span>", b.note)
		}
		m.print("</span><svg viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"+
			"<rect class=\"acted\" width=\"%.1f\" height=\"10\"/><rect class=\"kept\" x=\"%.1f\" width=\"%.1f\" "+
			"height=\"10\"/></svg><b>%s</b></li>\n",
			marked, marked, rest, thousands(b.n))
	}
	m.print("</ul>\n")
}

// share is a part of a thousand that can be seen.
func share(n, most int) float64 {
	if n <= 0 {
		return 0
	}
	return max(6, float64(n)*988/float64(most))
}

// thousands sets commas: 100000 and 10000 look alike.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + one + "s"
}

func orDash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

func moment(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04:05 UTC") }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// FileName is what an account's files are called, without their ending. Names are Vault's, but the
// environment's and a cloud's may be others; and "index" is the run's own page.
func FileName(account string, part int) string {
	name := strings.ReplaceAll(url.PathEscape(account), "~", "%7E")
	if strings.EqualFold(name, "index") || strings.Trim(name, ".") == "" {
		name = "%" + strings.ToUpper(strconv.FormatInt(int64((name + "_")[0]), 16)) + (name + "_")[1:]
	}
	if part > 0 {
		name += "~" + strconv.Itoa(part+1)
	}
	return name
}

// linkTo is the address of a file beside the page.
func linkTo(file string) string { return "./" + url.PathEscape(file) }
