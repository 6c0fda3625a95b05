// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package handler

import (
	"bytes"
	"log"
	"log/slog"
)

// logOnce makes one JSON line of all that is logged. aws-lambda-go writes every error that a
// handler returns to Go's standard logger, as it tells it to Lambda: Handle has logged that
// already. What else it has to say, before it ends the process, is passed on.
func logOnce(logger *slog.Logger) {
	slog.SetDefault(logger) // which takes the standard logger over
	log.SetFlags(0)
	log.SetOutput(passOn{logger})
}

type passOn struct{ logger *slog.Logger }

// Write implements io.Writer.
func (p passOn) Write(line []byte) (int, error) {
	if text := bytes.TrimSpace(line); !bytes.HasPrefix(text, []byte(`{"errorMessage"`)) {
		p.logger.Error("Lambda's runtime client", "problem", string(text))
	}
	return len(line), nil
}
