// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// The stack of the functions as it is deployed without Go and without this repository: template.yaml, whose functions are the zips
// beside it, and the state machine's definition. There is one for each
// architecture, since a template names local files by their names alone.

const (
	stackName  = "cloudkeys-stack"
	definition = "revoke.asl.json"
)

// writeStacks packs a stack for each architecture whose functions were both built.
func (s source) writeStacks(products []built, out string) error {
	for arch, lambda := range map[string]string{"amd64": "x86_64", "arm64": "arm64"} {
		var files []file
		for _, p := range products {
			if !p.lambda || p.arch != arch {
				continue
			}
			zip, err := packZip(p.files, s.date)
			if err != nil {
				return err
			}
			files = append(files, file{name: strings.TrimPrefix(p.name, "cloudkeys-") + ".zip", content: zip})
		}
		if len(files) < 2 {
			continue
		}
		template, err := os.ReadFile(filepath.Join(s.dir, "template.yaml"))
		if err != nil {
			return err
		}
		machine, err := os.ReadFile(filepath.Join(s.dir, "functions", definition))
		if err != nil {
			return err
		}
		packaged, err := packagedTemplate(string(template), s.version, lambda)
		if err != nil {
			return err
		}
		files = append(files, file{name: "template.yaml", content: []byte(packaged)}, file{name: definition, content: machine})
		packed, err := packZip(files, s.date)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s_%s_linux_%s.zip", stackName, s.version, arch)
		if err := os.WriteFile(filepath.Join(out, name), packed, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// packagedTemplate has the functions' code come from zips, and allows their one architecture. A template in which something of that is
// not found is refused: it would be deployed with what is not there.
func packagedTemplate(template, version, architecture string) (string, error) {
	const built = `(?m)^    Metadata:\n      BuildMethod: makefile # target build-`
	for _, change := range []struct{ what, to string }{
		{`(?m)^    CodeUri: \.\n`, ""},
		{built + `RevokeExpiredKeysFunction\n    Properties:\n`, "    Properties:\n      CodeUri: revoke-expired-keys.zip\n"},
		{built + `SyncPolicyFunction\n    Properties:\n`, "    Properties:\n      CodeUri: sync-policy.zip\n"},
		{`(?m)^      DefinitionUri: functions/revoke\.asl\.json$`, "      DefinitionUri: " + definition},
		{
			`(?m)^  Architecture:\n(    .*\n){4}`,
			"  Architecture:\n    Type: String\n    Default: " + architecture + "\n    AllowedValues: [" + architecture + "]\n" +
				"    Description: What the zips are built for.\n",
		},
		{`(?m)^Description: >\n`, "Description: >\n  Release " + version + ".\n"},
	} {
		pattern := regexp.MustCompile(change.what)
		if n := len(pattern.FindAllString(template, -1)); n != 1 {
			return "", fmt.Errorf("template.yaml has %d places like %q, and the packaged template needs one: change "+
				"scripts/release/stack.go with it", n, change.what)
		}
		template = pattern.ReplaceAllLiteralString(template, change.to)
	}
	return template, nil
}
