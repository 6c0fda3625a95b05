// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
)

// spool is a file of findings: a plan of a million keys needs a disk, and no memory. It
// holds whole key ids, so only its owner can read it, and it has no name: nothing is left
// behind even if the process is killed.
//
// Only this process reads it. As JSON it took three times as long: a small Lambda has a
// seventh of a processor, and little time when its reports are due.
type spool struct {
	file *os.File
	out  *bufio.Writer
	enc  *gob.Encoder

	parts []part // one after the other
}

// part is where the findings of an account begin, which stand together: its page is written
// without reading those of all the others.
type part struct {
	account string
	from    int64
}

func newSpool(dir string) (*spool, error) {
	file, err := os.CreateTemp(dir, "cloudkeys-plan-*")
	if err != nil {
		return nil, fmt.Errorf("spooling the plan: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("spooling the plan: %w", err), file.Close())
	}
	out := bufio.NewWriterSize(file, 64<<10)
	return &spool{file: file, out: out}, nil
}

func (s *spool) add(f Finding) error {
	if n := len(s.parts); n == 0 || s.parts[n-1].account != f.Account {
		from, err := s.size()
		if err != nil {
			return fmt.Errorf("spooling the plan: %w", err)
		}
		s.parts, s.enc = append(s.parts, part{f.Account, from}), gob.NewEncoder(s.out) // which describes its types again
	}
	if err := s.enc.Encode(f); err != nil {
		return fmt.Errorf("spooling the plan: %w", err)
	}
	return nil
}

// read yields the findings that there are by now. It may be called again, and findings may
// be added in between.
func (s *spool) read() iter.Seq2[Finding, error] {
	return s.where(func(part) bool { return true })
}

// of yields the findings of one account.
func (s *spool) of(account string) iter.Seq2[Finding, error] {
	return s.where(func(p part) bool { return p.account == account })
}

func (s *spool) where(wanted func(part) bool) iter.Seq2[Finding, error] {
	return func(yield func(Finding, error) bool) {
		end, err := s.size()
		if err != nil {
			yield(Finding{}, fmt.Errorf("spooling the plan: %w", err))
			return
		}
		for i, p := range s.parts {
			to := end
			if i+1 < len(s.parts) {
				to = s.parts[i+1].from
			}
			if wanted(p) && !s.section(p.from, to, yield) {
				return
			}
		}
	}
}

// section yields what stands between two places, and tells whether more is wanted.
func (s *spool) section(from, to int64, yield func(Finding, error) bool) bool {
	dec := gob.NewDecoder(bufio.NewReaderSize(io.NewSectionReader(s.file, from, to-from), 64<<10))
	for {
		var f Finding // gob leaves fields that are empty as they are
		err := dec.Decode(&f)
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			yield(Finding{}, fmt.Errorf("reading the plan: %w", err))
			return false
		}
		if !yield(f, nil) {
			return false
		}
	}
}

// size is how many bytes have been written.
func (s *spool) size() (int64, error) {
	if err := s.out.Flush(); err != nil {
		return 0, err
	}
	return s.file.Seek(0, io.SeekEnd)
}

func (s *spool) close() error {
	if s == nil {
		return nil
	}
	return s.file.Close()
}
