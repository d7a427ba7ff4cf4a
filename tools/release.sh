#!/usr/bin/env bash
# release.sh: what is published of a version, in dist/VERSION: wheel, source, a list of packages for each Python and processor
# (CycloneDX), the notes of CHANGELOG.md, and checksums of all. HEAD must have the tag vVERSION, with device/__init__.py and
# CHANGELOG.md saying the same. What is built comes from the commit alone: whoever builds it again gets the same wheel and lists.
#   PYTHON=.venv/bin/python   an environment with all packages
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
fail() { # WHAT REMEDY
    echo "release: $1. $2" >&2
    exit 1
}

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' device/__init__.py)
[[ -n $version ]] || fail "device/__init__.py has no __version__" "Write it there"
git diff --quiet HEAD -- || fail "there are changes that are not committed" "Commit them or put them aside"
git tag --points-at HEAD | grep -qxF "v$version" || fail "HEAD has no tag v$version" "Run: git tag --annotate v$version"
notes=$(sed -n "/^## \[$version\]/,/^## \[/{/^## \[/d;p}" CHANGELOG.md)
[[ -n ${notes//[[:space:]]/} ]] || fail "CHANGELOG.md has no section [$version]" "Give [Unreleased] its version and date"

dist=dist/$version
sources=$(mktemp -d)
trap 'rm -rf "$sources"' EXIT
git archive HEAD | tar -x -C "$sources"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
rm -rf "$dist" && mkdir -p "$dist"
"$python" -m uv build --quiet --python "$python" --build-constraints requirements/build.txt --require-hashes \
    --out-dir "$dist" "$sources"
for lock in "$sources"/requirements/run/*.txt; do
    "$python" tools/sbom.py "$lock" "$version" "$dist/avdrift-$version-$(basename "$lock" .txt).cdx.json"
done
printf '%s\n' "$notes" >"$dist/NOTES.md"
rm -f "$dist/.gitignore"
(cd "$dist" && sha256sum -- * >SHA256SUMS)
echo "$dist:"
ls "$dist"
