#!/bin/sh
# Copyright (c) vault-cloudkeys contributors
# SPDX-License-Identifier: MPL-2.0

# Makes sure of a headless Chromium for the tests of the HTML report: the one that
# CHROMIUM names, or the one on PATH. Only in CI, where the machine is thrown away, it
# installs Debian's package. Prints its path.
set -eu

browser=$(command -v "${CHROMIUM:-chromium}" || true)
if [ -z "$browser" ] && [ -n "${CHROMIUM:-}" ]; then
	echo "CHROMIUM is '$CHROMIUM', which is no executable file: correct or unset it" >&2
	exit 1
fi
if [ -z "$browser" ]; then
	if [ -z "${CI:-}" ] || ! command -v apt-get >/dev/null; then
		echo "no chromium on PATH: install it (Debian: apt-get install chromium), or name another browser of its family in CHROMIUM" >&2
		exit 1
	fi
	as_root=
	[ "$(id -u)" -eq 0 ] || as_root=sudo
	# Without the recommended packages: a headless browser needs no fonts but one, and no sandbox helper.
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-dejavu-core >&2 ||
		{ $as_root apt-get update >&2 && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-dejavu-core >&2; }
	browser=$(command -v chromium)
fi
echo "$browser"
