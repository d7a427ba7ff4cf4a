#!/usr/bin/env bash
# outdated.sh: prints what is behind, and changes nothing. First the locked packages that `make lock UPGRADE=1` would move, as
# "FILE: PACKAGE LOCKED -> NEWEST"; then the direct dependencies whose newest version pyproject.toml does not allow.
#   PYTHON=.venv/bin/python   an environment with all packages, uv among them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHON=${PYTHON:-.venv/bin/python}
newest=$(mktemp -d)
trap 'rm -rf "$newest"' EXIT

cp -r requirements/. "$newest"
OUT=$newest tools/lock.sh --upgrade

versions() { sed -n 's/^\([^ ]*\)==\([^ ]*\).*/\1 \2/p' "$1" | sort; }
for file in requirements/*.txt requirements/*/*.txt; do
    join -a 2 <(versions "$file") <(versions "$newest/${file#requirements/}") |
        awk -v file="${file#requirements/}" '$2 != $3 { print file ": " $1 " " ($3 ? $2 " -> " $3 : "-> " $2) }'
done

echo "held back by pyproject.toml, or not yet installed in this environment:"
"$PYTHON" -m uv pip list --python "$PYTHON" --outdated | sed 's/^/  /'
