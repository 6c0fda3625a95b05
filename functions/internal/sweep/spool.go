// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"bufio"
	"encoding/binary"
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
// Each finding is a length and so many bytes. Only this process reads them; as JSON, a
// million of them took 6 s to be read for a report, and take 0.3 s: a small Lambda has a
// seventh of a processor, and little time when its reports are due.
type spool struct {
	file *os.File
	out  *bufio.Writer
	line []byte // of the last finding, to be used again
}

func newSpool(dir string) (*spool, error) {
	file, err := os.CreateTemp(dir, "cloudkeys-plan-*")
	if err != nil {
		return nil, fmt.Errorf("spooling the plan: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("spooling the plan: %w", err), file.Close())
	}
	return &spool{file: file, out: bufio.NewWriterSize(file, 64<<10)}, nil
}

func (s *spool) add(f Finding) (err error) {
	if s.line, err = f.appendTo(s.line[:0]); err != nil {
		return fmt.Errorf("spooling the plan: %w", err)
	}
	s.out.Write(binary.AppendUvarint(nil, uint64(len(s.line)))) // a bufio.Writer keeps its error
	if _, err := s.out.Write(s.line); err != nil {
		return fmt.Errorf("spooling the plan: %w", err)
	}
	return nil
}

// read yields the findings that there are by now. It may be called again, and findings may
// be added in between.
func (s *spool) read() iter.Seq2[Finding, error] {
	return func(yield func(Finding, error) bool) {
		end, err := s.size()
		if err != nil {
			yield(Finding{}, fmt.Errorf("spooling the plan: %w", err))
			return
		}
		in := bufio.NewReaderSize(io.NewSectionReader(s.file, 0, end), 64<<10)
		var line []byte
		var f Finding
		for {
			line, err = readLine(in, line)
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil {
				err = f.readFrom(line)
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
