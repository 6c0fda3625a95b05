// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package settings

// SettingsRefusedError tells that the settings, or the event, do not fit, and that nothing
// was done. It repeats the package's name since Lambda reports an error by the bare name of
// its type.
type SettingsRefusedError struct{ Err error }

// Error is a sentence for an operator.
func (e *SettingsRefusedError) Error() string { return e.Err.Error() }

// Unwrap returns what does not fit.
func (e *SettingsRefusedError) Unwrap() error { return e.Err }
