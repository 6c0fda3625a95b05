// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/devserver"
)

const (
	mount      = "outscale"
	configPath = mount + "/config/default"
	rolePath   = mount + "/roles/" + userName
	credsPath  = mount + "/creds/" + userName
)

// demo is everything that runs.
type demo struct {
	out    *printer
	cloud  *cloud
	server *devserver.Server
	dir    string // of the server's configuration and log
	bin    string // the server's binary, which is its command line, too
	plugin string // the plugin's binary

	functionsToken string // empty where nothing is set up for the companion functions
}

// start brings up the cloud and the server, on loopback or an address of the machine, or leaves nothing running.
func start(ctx context.Context, on string, out *printer) (*demo, error) {
	d := &demo{out: out, bin: os.Getenv("VAULT_BIN"), plugin: os.Getenv("CLOUDKEYS_PLUGIN")}
	if d.bin == "" || d.plugin == "" {
		return nil, errors.New(
			"VAULT_BIN and CLOUDKEYS_PLUGIN must name the server's and the plugin's binary: make demo builds both and sets them",
		)
	}
	var err error
	if d.cloud, err = startCloud(ctx, on); err != nil {
		return nil, err
	}
	if d.dir, err = os.MkdirTemp("", "cloudkeys-demo-"); err != nil {
		return nil, errors.Join(fmt.Errorf("make a directory for the server: %w", err), d.stop())
	}
	d.server, err = devserver.Start(ctx, devserver.Options{
		Bin: d.bin, PluginDir: filepath.Dir(d.plugin), Dir: d.dir, Dev: true, LogLevel: "info", Host: on,
	})
	if err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

// stop ends what was started. It heeds no context: it also runs after Ctrl-C, and every step of it is bounded.
func (d *demo) stop() error {
	var errs []error
	if d.server != nil {
		errs = append(errs, d.server.Stop(context.Background()))
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(append(errs, d.cloud.stop())...)
}

// logTail is the end of the server's log, which is removed with everything else.
func (d *demo) logTail() string {
	log, err := d.server.Logs()
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return "The server's log ends with:\n" + strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// cli is the name of the server's command line: vault or bao.
func (d *demo) cli() string { return filepath.Base(d.bin) }

// configure does what an operator does once: plugin, mount, account, role.
func (d *demo) configure(ctx context.Context) error {
	health, err := d.server.Client.Sys().HealthWithContext(ctx)
	if err != nil {
		return fmt.Errorf("ask the server for its version: %w", err)
	}
	d.out.step("A simulated OUTSCALE account and a real server, both on this machine")
	d.out.field("cloud", "simulated OUTSCALE at %s, account %s", d.cloud.endpoint(), accountID)
	d.out.field("policy", "no access key may live longer than %d s", int(maxLife.Seconds()))
	d.out.field("server", "%s %s at %s", d.cli(), health.Version, d.server.Addr())

	if err := d.mountPlugin(ctx); err != nil {
		return err
	}
	if err := d.writeAccount(ctx); err != nil {
		return err
	}
	return d.writeRole(ctx)
}

func (d *demo) mountPlugin(ctx context.Context) error {
	name := filepath.Base(d.plugin)
	sum, err := devserver.RegisterPlugin(ctx, d.server.Client, filepath.Dir(d.plugin), name, name)
	if err != nil {
		return err
	}
	d.out.command("%s plugin register -sha256=%s... -version=%s secret %s", d.cli(), sum[:8], devserver.PluginVersion, name)

	d.out.command("%s secrets enable -path=%s %s", d.cli(), mount, name)
	return devserver.Mount(ctx, d.server.Client, mount, name, api.MountConfigInput{})
}

func (d *demo) writeAccount(ctx context.Context) error {
	root := d.cloud.root
	d.out.command("%s write %s provider=outscale region=%s endpoint=%s \\", d.cli(), configPath, region, d.cloud.endpoint())
	d.out.continued("access_key=%s secret_key=%s%s", root.AccessKey, mask(root.SecretKey), d.cloud.shownAuthority())
	_, err := d.server.Client.Logical().WriteWithContext(ctx, configPath, map[string]any{
		"provider":   "outscale",
		"region":     region,
		"endpoint":   d.cloud.endpoint(),
		"access_key": root.AccessKey,
		"secret_key": root.SecretKey,
		"ca_cert":    d.cloud.authority,
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", configPath, err)
	}
	return nil
}

func (d *demo) writeRole(ctx context.Context) error {
	d.out.command("%s write %s user_names=%s ttl=10m", d.cli(), rolePath, userName)
	_, err := d.server.Client.Logical().WriteWithContext(ctx, rolePath, map[string]any{"user_names": userName, "ttl": "10m"})
	if err != nil {
		return fmt.Errorf("write %s: %w", rolePath, err)
	}
	role, err := d.read(ctx, rolePath)
	if err != nil {
		return err
	}
	d.out.field("effective_max_ttl", "%v s, limited by the %v: %d s, less 60 s expiry_grace and 5 s clock margin",
		role.Data["effective_max_ttl"], role.Data["limited_by"], int(maxLife.Seconds()))
	return nil
}

// read reads a path that must have an answer.
func (d *demo) read(ctx context.Context, path string) (*api.Secret, error) {
	secret, err := d.server.Client.Logical().ReadWithContext(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if secret == nil {
		return nil, fmt.Errorf("read %s: the server has nothing there", path)
	}
	return secret, nil
}
