// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"fmt"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// Tripped judges a whole plan before its first call, so that a wrong setting changes
// nothing at all rather than a hundred keys. Reaching a cap is allowed, passing it is not,
// and nothing is rounded: of four keys, one is 25 percent. It says why, or nothing.
func Tripped(s settings.Sweep, planned, seen int) string {
	switch {
	case planned > s.MaxKeys:
		return fmt.Sprintf("the plan changes %d keys, and MAX_KEYS is %d", planned, s.MaxKeys)
	case planned*100 > s.MaxPercent*seen:
		return fmt.Sprintf("the plan changes %d of %d keys, and MAX_PERCENT is %d", planned, seen, s.MaxPercent)
	default:
		return ""
	}
}

// RunTripped judges the plans of all accounts together, in the same way: what is a small
// change in each account may be one mistake in all of them.
func RunTripped(s settings.Sweep, planned, seen int) string {
	switch {
	case planned > s.RunMaxKeys:
		return fmt.Sprintf("the plans change %d keys together, and RUN_MAX_KEYS is %d", planned, s.RunMaxKeys)
	case planned*100 > s.RunMaxPercent*seen:
		return fmt.Sprintf("the plans change %d of %d keys, and RUN_MAX_PERCENT is %d", planned, seen, s.RunMaxPercent)
	default:
		return ""
	}
}
