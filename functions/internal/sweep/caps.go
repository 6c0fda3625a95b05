// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"fmt"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// tripped judges a whole plan before its first call, so that a wrong setting changes
// nothing at all rather than a hundred keys. Reaching a cap is allowed, passing it is not,
// and nothing is rounded: of four keys, one is 25 percent.
func tripped(s settings.Sweep, counts Counts) string {
	switch {
	case counts.Planned > s.MaxKeys:
		return fmt.Sprintf("the plan changes %d keys, and MAX_KEYS is %d", counts.Planned, s.MaxKeys)
	case counts.Planned*100 > s.MaxPercent*counts.Seen:
		return fmt.Sprintf("the plan changes %d of %d keys, and MAX_PERCENT is %d", counts.Planned, counts.Seen, s.MaxPercent)
	default:
		return ""
	}
}
