#!/usr/bin/env bash
# run.sh [BUNDLE...]: the built-in bundle and BUNDLEs (folders below this repository or none) on emulated Raspberry Pi 4
# and 5, with Python 3.11 and 3.13: are their answers those of this machine? Then the device package's own tests there.
#   SUITES="bookworm trixie"   which Debian     CPUS="cortex-a72 cortex-a76"   which processors answer
#   TESTS="tests/device"       what pytest runs, on the first processor; empty: nothing     VENV=.venv   Python here
# The tests' output is shown when they are done; until then it grows in ~/.cache/avdrift/aarch64/SUITE.log.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
suites=${SUITES:-bookworm trixie} cpus=${CPUS:-cortex-a72 cortex-a76} tests=${TESTS-tests/device}
folder=${AVDRIFT_AARCH64:-$HOME/.cache/avdrift/aarch64}
mkdir -p "$folder"
status=0
declare -A running=() # the tests of each Debian, at the same time: they are many, and slow here
python=${VENV:-.venv}/bin/python
for suite in $suites; do
    "$here/tree.sh" "$suite"
    mkdir -p "$folder/$suite/opt/bundles"
    bundles=(/avdrift/device/models/default)
    for bundle in "$@"; do
        cp -rT "$bundle" "$folder/$suite/opt/bundles/$(basename "$bundle")"
        bundles+=("/opt/bundles/$(basename "$bundle")")
    done
    PYTHONPATH=$PWD "$python" -m tests.aarch64.answers write "$folder/$suite/opt/answers.npz" device/models/default "$@"
    # What `make setup` has fetched: the face detector.
    [[ ! -d ${VENV:-.venv}/share/avdrift ]] || cp -rT "${VENV:-.venv}/share/avdrift" "$folder/$suite/opt/share"
    export AVDRIFT_SHARE=/opt/share
    for cpu in $cpus; do
        echo "$suite, $cpu:"
        QEMU_CPU=$cpu "$here/tree.sh" "$suite" python -m tests.aarch64.answers compare /opt/answers.npz "${bundles[@]}" \
            || status=1
    done
    [[ -n $tests ]] || continue
    QEMU_CPU=${cpus%% *} "$here/tree.sh" "$suite" \
        python -m pytest -p tests.aarch64.emulation -p no:cacheprovider -q -m "not slow and not soak and not quiet" \
        ${PYTEST_ARGS:-} $tests >"$folder/$suite.log" 2>&1 &
    running[$suite]=$!
done
for suite in "${!running[@]}"; do
    wait "${running[$suite]}" || status=1
    echo "$suite, tests:"
    cat "$folder/$suite.log"
done
exit $status
