#!/usr/bin/env bash
# Copyright (c) vault-cloudkeys contributors
# SPDX-License-Identifier: MPL-2.0
#
# Chooses the server of the demo, says which, builds and fetches what is not there yet, and
# runs the demo in its own place: a signal to make then reaches the demo, which ends the server.
set -euo pipefail
here=$PWD # VAULT_BIN may be relative to it
cd "$(dirname "$0")/../.."
source scripts/pins/server.sh

choose "$here"

# One build for both, with one set of flags: most of what they are made of is the same. make build makes the same plugin.
began=$SECONDS
echo "Building the plugin and the demo: about a minute where Go has nothing cached"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o .cache/bin/ ./plugin/cmd/vault-plugin-secrets-cloudkeys ./scripts/demo
took="built in $((SECONDS - began)) s"
echo "It is $took"

began=$SECONDS
case $kind in
openbao)
    scripts/pins/openbao/install.sh
    took+=", OpenBao ready in $((SECONDS - began)) s"
    ;;
vault)
    [[ -x $bin ]] || echo "Compiling Vault, once: about ten minutes"
    "${MAKE:-make}" --no-print-directory vault
    took+=", Vault compiled in $((SECONDS - began)) s"
    ;;
esac

exec env VAULT_BIN="$bin" CLOUDKEYS_PLUGIN="$root/.cache/bin/vault-plugin-secrets-cloudkeys" CLOUDKEYS_DEMO_TOOK="$took" .cache/bin/demo "$@"
