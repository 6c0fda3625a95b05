// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package transport

import "encoding/json"

// Text is a JSON string or number. Whatever else stands in its place is left out: clouds write one
// and the same field of an error as a number, a string or null.
type Text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *Text) UnmarshalJSON(data []byte) error {
	*t = ""
	var s string
	var n json.Number
	switch {
	case json.Unmarshal(data, &s) == nil:
		*t = Text(s)
	case json.Unmarshal(data, &n) == nil:
		*t = Text(n)
	}
	return nil
}
