// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"bufio"
	"fmt"
	"html"
	"io"
)

// markup writes HTML. html/template would do it in less code, but looks methods up by name
// at run time, and a binary with such a look-up keeps every method of OUTSCALE's SDK: the
// function would be 27 MB instead of 15.
type markup struct {
	out *bufio.Writer // keeps its error until Flush
}

func newMarkup(w io.Writer) markup { return markup{bufio.NewWriterSize(w, 64<<10)} }

// print writes the format, which is our own, and the arguments, which are not: whatever is no
// number is escaped, for text and for quoted attributes alike.
func (m markup) print(format string, args ...any) {
	for i, arg := range args {
		switch arg.(type) {
		case int, float64:
		default:
			args[i] = html.EscapeString(fmt.Sprint(arg))
		}
	}
	fmt.Fprintf(m.out, format, args...)
}
