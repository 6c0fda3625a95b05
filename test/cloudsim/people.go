// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

// SetRules changes what is only assumed about OUTSCALE from now on. What exists keeps the delays it was made with.
func (c *Cloud) SetRules(rules Rules) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rules = rules
}

// KeyOwner is the name that the user of a key has now; empty for the root user's, and an unknown id.
func (a *Account) KeyOwner(id string) string {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	if k, ok := a.cloud.keys[id]; ok && k.account == a {
		return k.owner.name
	}
	return ""
}

// KeyOwner is the name that the user of a key has now; empty for an unknown id.
func (d *Domain) KeyOwner(id string) string {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()
	if k := d.key(id); k != nil {
		return k.owner.name
	}
	return ""
}
