#!/usr/bin/env bash
# Copyright (c) vault-cloudkeys contributors
# SPDX-License-Identifier: MPL-2.0
#
# Leaves a built template the one architecture that its binaries are for, as default and as the only allowed value: invoked or
# deployed as the other one, they would not start, and sam exits with 0 all the same.
#
#   architecture.sh .aws-sam/build/template.yaml x86_64
set -euo pipefail
template=$1 architecture=$2

sed "/^  Architecture:/,/^  [B-Z]/ {
    s/^    Default: .*/    Default: $architecture/
    /^    - /d
    s/^    AllowedValues:.*/&\\
    - $architecture/
}" "$template" >"$template.new"
if ! grep -A 4 '^  Architecture:' "$template.new" | grep -q "^    Default: $architecture\$"; then
    echo "$template has no parameter Architecture as sam writes it: it cannot be bound to $architecture" >&2
    exit 1
fi
mv "$template.new" "$template"
