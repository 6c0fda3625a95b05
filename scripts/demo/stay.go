// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/cloudsim"
)

// rootKeyEvery is how often the root key's date is moved ahead while the demo stays up.
const rootKeyEvery = 30 * time.Second

// stayUp prints how to use what runs, and then each call that reaches the cloud, until ctx is done.
func (d *demo) stayUp(ctx context.Context) error {
	d.printExports()
	d.printExamples()
	d.out.line("\nThe calls that reach the cloud follow. Ctrl-C stops everything.")
	d.cloud.sim.OnAnswer(func(call cloudsim.Call) {
		if !d.movesRootKey(call) {
			d.out.call(call)
		}
	})

	ticker := time.NewTicker(rootKeyEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			// The account's policy ends the root key, too.
			if err := d.cloud.moveRootKey(ctx, time.Now().Add(d.rootKeyLife())); err != nil && ctx.Err() == nil {
				d.out.line(fmt.Sprintf("The root key's date could not be moved ahead (%s); it is tried again in %s.", err, rootKeyEvery))
			}
		}
	}
}

// rootKeyLife is as long as the policy of the moment allows.
func (d *demo) rootKeyLife() time.Duration {
	policy := time.Duration(d.cloud.account.Policy().MaxAccessKeyExpirationSeconds) * time.Second
	if policy == 0 {
		return rootLife
	}
	return min(rootLife, policy-10*time.Second)
}

// movesRootKey tells the demo's own upkeep from the calls of the engine and the user.
func (d *demo) movesRootKey(call cloudsim.Call) bool {
	return call.Op == "UpdateAccessKey" && strings.Contains(string(call.Body), d.cloud.root.AccessKey)
}

func (d *demo) printExports() {
	d.out.line("\nPaste into another shell:\n")
	if found, err := exec.LookPath(d.cli()); err != nil || found != d.bin {
		d.out.line("export PATH=" + quote(filepath.Dir(d.bin)) + `:"$PATH"`)
	}
	prefix := strings.ToUpper(d.cli()) // VAULT or BAO
	d.out.line("export " + prefix + "_ADDR=" + d.server.Addr())
	d.out.line("export " + prefix + "_TOKEN=" + d.server.Token())
}

func (d *demo) printExamples() {
	vault := d.cli()
	d.out.line("\nand try:\n")
	for _, example := range []struct{ what, command string }{
		{"lease a key", vault + " read " + credsPath},
		{"renew the lease that was printed", vault + " lease renew -increment=12m LEASE_ID"},
		{"list the keys that are out", vault + " list -detailed " + mount + "/keys"},
		{"read the account's access policy", vault + " read " + mount + "/policy/default"},
		{
			"raise it in the simulated cloud to one hour", fmt.Sprintf(`curl -d '{"account":"%s","max_access_key_expiration_seconds":3600}' %s`,
				accountID, d.cloud.base+adminPath+"/policy"),
		},
		{"have the engine read it now", vault + " write -f " + mount + "/policy/default"},
		{"see what a role can still give", vault + " read " + rolePath},
	} {
		d.out.line("# " + example.what)
		d.out.line(example.command)
	}
}
