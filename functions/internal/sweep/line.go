// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"bufio"
	"encoding/binary"
	"io"
	"slices"
	"time"
)

// timeLength is what time.AppendBinary makes of a time in UTC.
const timeLength = 15

// texts are the fields of a finding that are texts, in the order in which they are spooled.
func (f *Finding) texts() []*string {
	return []*string{
		&f.Account, &f.AccessKey, &f.User, &f.Label, (*string)(&f.Class), &f.Reason, (*string)(&f.Action), (*string)(&f.Outcome), &f.Detail,
	}
}

// times are those that are times.
func (f *Finding) times() []*time.Time {
	return []*time.Time{&f.Created, &f.Changed, &f.Expires, &f.Due}
}

// appendTo writes a finding down. A test holds it to all fields that a Finding has.
func (f *Finding) appendTo(line []byte) (_ []byte, err error) {
	active := byte(0)
	if f.Active {
		active = 1
	}
	line = append(line, active)
	for _, t := range f.times() {
		if line, err = t.UTC().AppendBinary(line); err != nil {
			return nil, err
		}
	}
	for _, text := range f.texts() {
		line = binary.AppendUvarint(line, uint64(len(*text)))
		line = append(line, *text...)
	}
	return line, nil
}

// readFrom reads what appendTo wrote. A text that is the same as in the finding read before stays
// as it is: most are, and a report of a million keys would be garbage for the most part.
func (f *Finding) readFrom(line []byte) error {
	if len(line) < 1+timeLength*len(f.times()) {
		return io.ErrUnexpectedEOF
	}
	f.Active, line = line[0] == 1, line[1:]
	for _, t := range f.times() {
		if err := t.UnmarshalBinary(line[:timeLength]); err != nil {
			return err
		}
		line = line[timeLength:]
	}
	for _, text := range f.texts() {
		length, n := binary.Uvarint(line)
		if n <= 0 || length > uint64(len(line)-n) {
			return io.ErrUnexpectedEOF
		}
		end := n + int(length)
		if *text != string(line[n:end]) { // a comparison makes no string
			*text = string(line[n:end])
		}
		line = line[end:]
	}
	return nil
}

// readLine reads the line of one finding, in the place of another. io.EOF means that there are
// no more.
func readLine(in *bufio.Reader, line []byte) ([]byte, error) {
	length, err := binary.ReadUvarint(in)
	if err != nil {
		return line, err
	}
	line = slices.Grow(line[:0], int(length))[:length]
	if _, err := io.ReadFull(in, line); err != nil {
		return line, io.ErrUnexpectedEOF
	}
	return line, nil
}
