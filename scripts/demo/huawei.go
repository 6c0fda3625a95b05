// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

// The second cloud, through the same plugin on a mount of its own.
const (
	huaweiMount      = "huawei"
	huaweiConfigPath = huaweiMount + "/config/default"
	huaweiRolePath   = huaweiMount + "/roles/" + userName
	huaweiCredsPath  = huaweiMount + "/creds/" + userName
	huaweiRegion     = "ap-southeast-1"
	huaweiMaxTTL     = "1h"
)

// addHuawei gives the simulated cloud an account of Huawei Cloud, too.
func (c *cloud) addHuawei() {
	c.domain = c.sim.AddDomain("demo")
	c.domain.AddUser(userName)
	c.domain.AddUser("vault", cloudsim.SecurityAdministrator)
	c.huaweiKey = c.domain.AddKey(cloudsim.IAMKeySpec{User: "vault"})
}

// huaweiKeys counts the keys of the user whose keys are leased.
func (c *cloud) huaweiKeys() int {
	user, _ := c.domain.User(userName)
	return user.Keys
}

// configureHuawei mounts the plugin a second time.
func (d *demo) configureHuawei(ctx context.Context) error {
	d.out.step("The same plugin for a simulated Huawei Cloud account")
	name := filepath.Base(d.plugin)
	d.out.command("%s secrets enable -path=%s %s", d.cli(), huaweiMount, name)
	if err := devserver.Mount(ctx, d.server.Client, huaweiMount, name, api.MountConfigInput{}); err != nil {
		return err
	}
	key := d.cloud.huaweiKey
	d.out.command("%s write %s provider=huawei region=%s endpoint=%s max_ttl=%s \\",
		d.cli(), huaweiConfigPath, huaweiRegion, d.cloud.base, huaweiMaxTTL)
	d.out.continued("access_key=%s secret_key=%s%s", key.AccessKey, mask(key.SecretKey), d.cloud.shownAuthority())
	_, err := d.server.Client.Logical().WriteWithContext(ctx, huaweiConfigPath, map[string]any{
		"provider": "huawei", "region": huaweiRegion, "endpoint": d.cloud.base, "max_ttl": huaweiMaxTTL,
		"access_key": key.AccessKey, "secret_key": key.SecretKey, "ca_cert": d.cloud.authority,
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", huaweiConfigPath, err)
	}
	d.out.command("%s write %s user_names=%s ttl=10m", d.cli(), huaweiRolePath, userName)
	_, err = d.server.Client.Logical().WriteWithContext(ctx, huaweiRolePath, map[string]any{"user_names": userName, "ttl": "10m"})
	if err != nil {
		return fmt.Errorf("write %s: %w", huaweiRolePath, err)
	}
	return nil
}

// leaseHuawei leases a key, uses it and revokes it.
func (d *demo) leaseHuawei(ctx context.Context) error {
	d.out.command("%s read %s", d.cli(), huaweiCredsPath)
	lease, err := d.read(ctx, huaweiCredsPath)
	if err != nil {
		return err
	}
	id := fmt.Sprint(lease.Data["access_key"])
	key, there := d.cloud.domain.Key(id)
	if !there {
		return fmt.Errorf("the cloud has no access key %s, although its lease lives", id)
	}
	_, date, _ := strings.Cut(key.Description, "/until/")
	due, err := time.Parse(time.RFC3339, date)
	if err != nil {
		return fmt.Errorf("the key's description %q holds no date: %w", key.Description, err)
	}
	d.out.field("lease_duration", "%s", short(time.Duration(lease.LeaseDuration)*time.Second))
	d.out.field("access_key", "%s", id)
	d.out.field("description", "until %s: this cloud ends no key by itself, Vault deletes it", clock(due))

	d.out.step("ShowPermanentAccessKey, signed with the leased key")
	if err := d.showOwn(ctx, lease); err != nil {
		return fmt.Errorf("the leased key does not work: %w", err)
	}
	d.out.field("answer", "200 OK")

	before := d.cloud.huaweiKeys()
	d.out.command("%s lease revoke -sync %s", d.cli(), lease.LeaseID)
	if err := d.server.Client.Sys().RevokeWithOptionsWithContext(ctx, &api.RevokeOptions{LeaseID: lease.LeaseID, Sync: true}); err != nil {
		return fmt.Errorf("revoke the lease: %w", err)
	}
	d.out.field("keys of "+userName, "%d -> %d in the cloud", before, d.cloud.huaweiKeys())

	d.out.step("ShowPermanentAccessKey, the same call again")
	var refused *provider.Error
	switch err := d.showOwn(ctx, lease); {
	case err == nil:
		return errors.New("the lease was revoked, but its key still works")
	case !errors.As(err, &refused) || refused.Status == 0:
		return fmt.Errorf("the revoked key was not refused by the cloud: %w", err)
	}
	d.out.field("answer", "%d, code %s", refused.Status, refused.Code)
	return nil
}

// showOwn asks the cloud for the key that signs, as every user may.
func (d *demo) showOwn(ctx context.Context, lease *api.Secret) error {
	client, err := clouds.Open(provider.Config{
		Provider:  clouds.Huawei,
		AccessKey: fmt.Sprint(lease.Data["access_key"]), SecretKey: provider.Secret(fmt.Sprint(lease.Data["secret_key"])),
		Region: huaweiRegion, Endpoint: d.cloud.base, DomainID: d.cloud.domain.ID(), Timeout: 15 * time.Second, PerSecond: 5,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.OwnKey(ctx)
	return err
}
