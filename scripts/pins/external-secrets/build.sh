#!/usr/bin/env bash
# Copyright (c) vault-cloudkeys contributors
# SPDX-License-Identifier: MPL-2.0
#
#   build.sh FILE
#
# builds the pinned External Secrets. All that it links of forty clouds and fifteen generators is Vault's: the others would
# take most of the time. Go lets nobody lay another file over one of its module cache, so the source is copied.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
copy=$(cd "$here/../../.." && pwd)/.cache/external-secrets
module=github.com/external-secrets/external-secrets

go -C "$here" mod download
source=$(go -C "$here" list -m -f '{{.Dir}}' $module)
rm -rf "$copy" && mkdir -p "$copy"
cp -r "$source/go.mod" "$source/main.go" "$source/apis" "$source/cmd" "$source/pkg" "$copy"
chmod -R u+w "$copy"
for kind in provider generator; do
    printf 'package register\n\nimport _ "%s/pkg/%s/vault"\n' $module $kind >"$copy/pkg/$kind/register/register.go"
done
CGO_ENABLED=0 go -C "$here" build -modfile=build.mod -trimpath -ldflags '-s -w' -o "$1" $module
