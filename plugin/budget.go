// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import "time"

// Time that the work on a key may take in all, retries and queueing included.
// Vault's clients wait 60 s for an answer, and Vault gives a revoke 90 s.
const (
	issueBudget   = 45 * time.Second
	revokeBudget  = 60 * time.Second
	cleanupBudget = 15 * time.Second

	// walMinAge is when a WAL entry is rolled back: past the budgets of the issue and
	// of its own clean-up, so that no key is deleted while its request still runs.
	walMinAge = 90 * time.Second

	// tickBudget is how long the periodic work of one tick may take: Vault waits for it
	// when it seals or steps down.
	tickBudget = 10 * time.Second

	// reapBudget is how long the reaper may take over one key. Two that hang leave the tick
	// time for what comes after the reaper.
	reapBudget = 4 * time.Second

	// rollbackBudget is how long the WAL entries of a tick may take after that, together.
	rollbackBudget = 8 * time.Second
)
