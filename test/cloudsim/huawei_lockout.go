// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import "time"

const (
	akRefusalsToLock = 5 // "more than five" says the vendor's page: the harsher reading
	akLockTime       = 5 * time.Minute
)

// akLock counts failed authentications in a row with one access key: the fifth locks the key, whether it exists or not, for
// five minutes. Attempts meanwhile are turned away uncounted.
type akLock struct {
	failures int
	until    time.Time
}

func (l *akLock) locked(now time.Time) bool { return now.Before(l.until) }

func (l *akLock) fail(now time.Time) {
	l.failures++
	if l.failures == akRefusalsToLock {
		*l = akLock{until: now.Add(akLockTime)}
	}
}

// lockOf returns the counter of an access key; the caller holds c.mu.
func (c *Cloud) lockOf(accessKey string) *akLock {
	if c.akLocks[accessKey] == nil {
		c.akLocks[accessKey] = &akLock{}
	}
	return c.akLocks[accessKey]
}

// Locked reports whether failed authentications have locked an access key.
func (d *Domain) Locked(accessKey string) bool {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()
	return d.cloud.lockOf(accessKey).locked(time.Now())
}

// UseWrongSecret is what somebody does who knows an access key's id alone: one failed authentication.
func (d *Domain) UseWrongSecret(accessKey string) {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()
	if lock, now := d.cloud.lockOf(accessKey), time.Now(); !lock.locked(now) {
		lock.fail(now)
	}
}
