// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// renewal is the increment that is asked for. It is longer than the role's ttl, so that the date visibly moves although
// no time has passed.
const renewal = 12 * time.Minute

// leaseOnce tells the life of one lease, and fails where the cloud does not bear it out.
func (d *demo) leaseOnce(ctx context.Context) error {
	lease, key, err := d.issue(ctx)
	if err != nil {
		return err
	}
	if err := d.use(ctx, key); err != nil {
		return err
	}
	if err := d.renew(ctx, lease, key); err != nil {
		return err
	}
	if err := d.revoke(ctx, lease); err != nil {
		return err
	}
	return d.useAgain(ctx, key)
}

func (d *demo) issue(ctx context.Context) (*api.Secret, cloudsim.Credentials, error) {
	d.out.command("%s read %s", d.cli(), credsPath)
	lease, err := d.read(ctx, credsPath)
	if err != nil {
		return nil, cloudsim.Credentials{}, err
	}
	key := cloudsim.Credentials{
		AccessKey: fmt.Sprint(lease.Data["access_key"]),
		SecretKey: fmt.Sprint(lease.Data["secret_key"]),
	}
	expires, err := d.expires(key)
	if err != nil {
		return nil, cloudsim.Credentials{}, err
	}
	d.out.field("lease_duration", "%s", short(time.Duration(lease.LeaseDuration)*time.Second))
	d.out.field("access_key", "%s", key.AccessKey)
	d.out.field("secret_key", "%s", mask(key.SecretKey))
	d.out.field("ExpirationDate", "%s in the cloud: the key dies then even if the server is gone", clock(expires))
	return lease, key, nil
}

// use makes a call as an application would.
func (d *demo) use(ctx context.Context, key cloudsim.Credentials) error {
	d.out.step("ReadVms, signed with the leased key by OUTSCALE's own SDK")
	vms, err := d.cloud.readVMs(ctx, key)
	if err != nil {
		return fmt.Errorf("the leased key does not work: %w", err)
	}
	d.out.field("answer", "200 OK, %d VMs", vms)
	return nil
}

func (d *demo) renew(ctx context.Context, lease *api.Secret, key cloudsim.Credentials) error {
	before, err := d.expires(key)
	if err != nil {
		return err
	}
	d.out.command("%s lease renew -increment=%s %s", d.cli(), short(renewal), lease.LeaseID)
	renewed, err := d.server.Client.Sys().RenewWithContext(ctx, lease.LeaseID, int(renewal.Seconds()))
	if err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	after, err := d.expires(key)
	if err != nil {
		return err
	}
	if !after.After(before) {
		return fmt.Errorf("the lease was renewed, but the key still ends at %s in the cloud", clock(before))
	}
	d.out.field("lease_duration", "%s", short(time.Duration(renewed.LeaseDuration)*time.Second))
	d.out.field("ExpirationDate", "%s -> %s in the cloud", clock(before), clock(after))
	return nil
}

func (d *demo) revoke(ctx context.Context, lease *api.Secret) error {
	before := d.cloud.userKeys()
	d.out.command("%s lease revoke -sync %s", d.cli(), lease.LeaseID)
	// Without sync the server answers before the key is gone.
	err := d.server.Client.Sys().RevokeWithOptionsWithContext(ctx, &api.RevokeOptions{LeaseID: lease.LeaseID, Sync: true})
	if err != nil {
		return fmt.Errorf("revoke the lease: %w", err)
	}
	after := d.cloud.userKeys()
	if after != 0 {
		return fmt.Errorf("the lease was revoked, but user %s still has %d keys in the cloud", userName, after)
	}
	d.out.field("keys of "+userName, "%d -> %d in the cloud", before, after)
	return nil
}

// useAgain repeats the call of use, which must now fail with an answer of the cloud.
func (d *demo) useAgain(ctx context.Context, key cloudsim.Credentials) error {
	d.out.step("ReadVms, the same call again")
	_, err := d.cloud.readVMs(ctx, key)
	var answer *refusal
	switch {
	case err == nil:
		return errors.New("the lease was revoked, but its key still works")
	case !errors.As(err, &answer):
		return fmt.Errorf("the revoked key was not refused by the cloud: %w", err)
	}
	d.out.field("answer", "%s", answer)
	return nil
}

// expires is the date of a key as the cloud has it.
func (d *demo) expires(key cloudsim.Credentials) (time.Time, error) {
	found, ok := d.cloud.account.Key(key.AccessKey)
	if !ok {
		return time.Time{}, fmt.Errorf("the cloud has no access key %s, although its lease lives", key.AccessKey)
	}
	return found.Expires, nil
}
