#!/usr/bin/env bash
# lock.sh [--upgrade]: writes requirements/ from pyproject.toml: each package with its version and its hashes, in one file for
# each Python and processor. A locked version stays while pyproject.toml allows it; --upgrade takes the newest of all.
#   PYTHON=.venv/bin/python   an environment with uv and pip     OUT=requirements   the folder that it writes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python} out=${OUT:-requirements}
versions=(3.11 3.12 3.13)
machines=(x86_64 aarch64)
glibc=36 # of Debian 12: 2.36
# No address of a registry, so that every machine uses its own; only wheels, so that nothing is compiled or run to install.
options=(--quiet --generate-hashes --only-binary :all: --constraints requirements/constraints.in
    --no-emit-index-url --no-header --no-annotate "$@")

compile() { # FILE SOURCE...
    mkdir -p "$(dirname "$1")"
    "$python" -m uv pip compile "${options[@]}" --output-file "$1" "${@:2}" >/dev/null
}

try() { # FILE VERSION MACHINE: would pip, which installs what uv has chosen, take it there?
    local platforms=() level
    [[ $out == requirements ]] || return 0 # it downloads everything: only for what is kept
    for level in $(seq -f "_2_%g" "$glibc" -1 5) 2014 2010 1; do platforms+=(--platform "manylinux${level}_$3"); done
    "$python" -m pip install --quiet --dry-run --target "$out" --no-deps --require-hashes --only-binary :all: \
        --python-version "$2" "${platforms[@]}" --requirement "$1"
}

for version in "${versions[@]}"; do
    for machine in "${machines[@]}"; do
        file=py$version-$machine.txt
        target=(--python-version "$version" --python-platform "$machine-manylinux_2_$glibc" pyproject.toml)
        compile "$out/test/$file" "${target[@]}" --extra train --extra test --extra docs --extra release
        compile "$out/run/$file" "${target[@]}" --constraints "$out/test/$file" # a device gets what was tested
        try "$out/test/$file" "$version" "$machine"
    done
done
compile "$out/build.txt" --universal --python-version "${versions[0]}" requirements/build.in
# Beside NumPy, which is locked above.
compile "$out/camera.txt" --universal --python-version "${versions[0]}" --no-deps requirements/camera.in
