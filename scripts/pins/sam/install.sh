#!/usr/bin/env bash
# Copyright (c) vault-cloudkeys contributors
# SPDX-License-Identifier: MPL-2.0
#
# Installs aws-sam-cli, cfn-lint and moto, pinned with their hashes, into a virtual
# environment below .cache/. The stamp is written last: an install that was cut off
# is begun anew.
set -euo pipefail
cd "$(dirname "$0")/../../.."

venv=.cache/sam
stamp=$venv/installed.txt
wanted=scripts/pins/sam/requirements.txt

if cmp --silent "$wanted" "$stamp"; then
    exit 0
fi
if ! python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'; then
    echo "make sam needs Python 3.11 or newer with its venv module (Debian: apt-get install python3-venv)" >&2
    exit 1
fi
rm -rf "$venv"
python3 -m venv "$venv"
# The file names every package: without --no-deps, pip looks for newer ones of those with extras.
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes -r "$wanted"
"$venv/bin/pip" check --quiet --disable-pip-version-check
cp "$wanted" "$stamp"
