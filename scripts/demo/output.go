// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

const (
	nameWidth   = 17 // of the longest name, effective_max_ttl
	shownChars  = 4
	minToShow   = 4 * shownChars
	styleBold   = "\x1b[1m"
	styleDim    = "\x1b[2m"
	styleNormal = "\x1b[0m"
)

// printer writes the story: commands and steps, each with its results indented below.
type printer struct {
	w     io.Writer
	color bool
}

func newPrinter(stdout *os.File) *printer {
	return &printer{w: stdout, color: wantsColor(stdout, os.Getenv)}
}

// wantsColor heeds NO_COLOR (https://no-color.org) and terminals that know no colour.
func wantsColor(stdout *os.File, env func(string) string) bool {
	info, err := stdout.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && env("NO_COLOR") == "" && env("TERM") != "dumb"
}

// line writes text as it is.
func (p *printer) line(text string) { fmt.Fprintln(p.w, text) }

// step names something that is done without the server's command line.
func (p *printer) step(text string) { p.line(p.style(styleBold, "# "+text)) }

// command shows a step as a user types it.
func (p *printer) command(format string, args ...any) {
	p.line(p.style(styleBold, "$ "+fmt.Sprintf(format, args...)))
}

// continued is the next line of a command.
func (p *printer) continued(format string, args ...any) {
	p.line(p.style(styleBold, "      "+fmt.Sprintf(format, args...)))
}

// field is one result, its value aligned with the others.
func (p *printer) field(name, format string, args ...any) {
	padded := fmt.Sprintf("%-*s", nameWidth, name)
	p.line("    " + p.style(styleDim, padded) + "  " + fmt.Sprintf(format, args...))
}

// took tells how long it took to get everything ready, as make says, and how long to show it.
func (p *printer) took(ready string, printed time.Duration) {
	if ready != "" {
		ready += ", "
	}
	p.line(fmt.Sprintf("Time: %sshown in %.0f s.", ready, printed.Seconds()))
}

// call is one call that the cloud has answered; never its body.
func (p *printer) call(c cloudsim.Call) {
	result := fmt.Sprint(c.Status)
	if c.Code != "" {
		result += " code " + c.Code
	}
	who := c.User
	if who == "" {
		who = "root"
	}
	p.field(clock(c.At), "%-20s by %-8s %s", c.Op, who, result)
}

func (p *printer) style(style, text string) string {
	if !p.color {
		return text
	}
	return style + text + styleNormal
}

// mask shows enough of a secret to tell two apart, and neither its length nor any part of a short one.
func mask(secret string) string {
	if len(secret) < minToShow {
		return "********"
	}
	return secret[:shownChars] + "********"
}

// clock is a time of day in UTC: all of the demo happens on one day.
func clock(t time.Time) string { return t.UTC().Format("15:04:05Z") }

// short writes whole minutes without their seconds, as the server's command line does.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		return strings.TrimSuffix(text, "0s")
	}
	return text
}

// quote makes text one word of a POSIX shell.
func quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
