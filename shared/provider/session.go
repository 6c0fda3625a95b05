// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"fmt"
	"time"
)

// Sessions issues temporary keys, on clouds that have them (Huawei).
type Sessions interface {
	// CreateSession makes a temporary key. It leaves nothing behind that could be
	// cleaned up, so it may be repeated; and nothing takes it back before its end.
	CreateSession(ctx context.Context, spec SessionSpec) (Session, error)
}

// SessionSpec describes a temporary key.
type SessionSpec struct {
	Agency       string        // the agency to assume; empty: the caller itself, with its own rights
	AgencyDomain string        // name of the domain that the agency belongs to; empty: the caller's own
	Policy       string        // a session policy, as JSON; empty: none. Huawei's OBS alone honours it
	Name         string        // shown in the cloud's audit log; empty: none
	Lifetime     time.Duration // whole seconds, between the cloud's bounds
}

// Session is a temporary key, which ends by itself.
type Session struct {
	AccessKey string
	Secret    Secret
	Token     Secret // goes with every request that the key signs
	Expires   time.Time
}

// Format leaves the secrets out, like IssuedKey's.
func (s Session) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "{%s %s}", s.AccessKey, s.Expires.Format(time.RFC3339)) // fmt takes no error
}
