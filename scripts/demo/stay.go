// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// stayUp prints how to use what runs, and then each call that reaches the cloud, until ctx is done. The engine replaces its
// own key meanwhile, which the account's policy would end.
func (d *demo) stayUp(ctx context.Context) error {
	d.printExports()
	d.printExamples()
	if d.functionsToken != "" {
		d.printForFunctions()
	}
	d.out.line("\nThe calls that reach the cloud follow. Ctrl-C stops everything.")
	d.cloud.sim.OnAnswer(d.out.call)
	<-ctx.Done()
	return nil
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
		{"lease one of Huawei Cloud", vault + " read " + huaweiCredsPath},
		{"renew the lease that was printed", vault + " lease renew -increment=12m LEASE_ID"},
		{"list the issued keys that still exist", vault + " list -detailed " + mount + "/keys"},
		{"read the account's access policy", vault + " read " + mount + "/policy/default"},
		{
			"raise it in the simulated cloud to one hour", fmt.Sprintf(`curl -d '{"account":"%s","max_access_key_expiration_seconds":3600}' %s`,
				accountID, d.cloud.base+adminPath+"/policy"),
		},
		{"have the engine read it now", vault + " write -f " + mount + "/policy/default"},
		{"see what a role can still give", vault + " read " + rolePath},
		{"have the account looked over", vault + " read " + mount + "/check/default"},
		{"replace the engine's own key", vault + " write -f " + mount + "/rotate-root/default"},
		{"delete a key that has leaked", vault + " delete " + mount + "/keys/ACCESS_KEY"},
	} {
		d.out.line("# " + example.what)
		d.out.line(example.command)
	}
}
