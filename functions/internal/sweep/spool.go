// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
)

// spool is a file of findings, a JSON line each: a plan of a million keys needs a disk,
// and no memory. It holds whole key ids, so only its owner can read it, and it has no
// name: nothing is left behind even if the process is killed.
type spool struct {
	file *os.File
	out  *bufio.Writer
	enc  *json.Encoder
}

func newSpool(dir string) (*spool, error) {
	file, err := os.CreateTemp(dir, "cloudkeys-plan-*.jsonl")
	if err != nil {
		return nil, fmt.Errorf("spooling the plan: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("spooling the plan: %w", err), file.Close())
	}
	out := bufio.NewWriterSize(file, 64<<10)
	return &spool{file: file, out: out, enc: json.NewEncoder(out)}, nil
}

func (s *spool) add(f Finding) error {
	if err := s.enc.Encode(f); err != nil {
		return fmt.Errorf("spooling the plan: %w", err)
	}
	return nil
}

// size is where the next finding will stand, as a start of read.
func (s *spool) size() (int64, error) {
	if err := s.out.Flush(); err != nil {
		return 0, fmt.Errorf("spooling the plan: %w", err)
	}
	return s.file.Seek(0, io.SeekEnd)
}

// read yields the findings from an offset on. It may be called again, and findings may be
// added in between.
func (s *spool) read(from int64) iter.Seq2[Finding, error] {
	return func(yield func(Finding, error) bool) {
		end, err := s.size()
		if err != nil {
			yield(Finding{}, err)
			return
		}
		dec := json.NewDecoder(bufio.NewReaderSize(io.NewSectionReader(s.file, from, end-from), 64<<10))
		for {
			var f Finding
			err := dec.Decode(&f)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Finding{}, fmt.Errorf("reading the plan: %w", err))
				return
			}
			if !yield(f, nil) {
				return
			}
		}
	}
}

func (s *spool) close() error {
	if s == nil {
		return nil
	}
	return s.file.Close()
}
