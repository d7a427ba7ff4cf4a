"""Checks the models: verified, signed, and fast enough here."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from device.analysis.analyzer import Analyzer
from device.bundles import signature
from device.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from device.bundles.store import CURRENT, Store, verify_bundle
from device.capture.file import FileSource
from device.doctor.finding import CheckResult, failed, ok, warning
from device.features.model_download import require_face_model
from device.records import NS_PER_S, Chunk, Frame

SAMPLE = Path(__file__).parents[1] / "models" / "sample.mkv"
COMFORTABLE = 1.7  # times real time: 60 % of a core
_WHOLE = 2.0  # processor time of a whole daemon that also reads and decodes 640×360, against this chain
_MUCH = 0.7  # of a core
_SAMPLE_S = 3.0

ReadItems = Callable[[], list[Frame | Chunk]]


def bundle(given: Path | None, store: Store) -> CheckResult:
    """Check the bundle that would be used: hashes, contract, golden vectors and signature. Raises ModelError."""
    folder, source = chosen(given, store)
    if not signature.is_signed(folder):
        loaded = load_bundle(folder)
        if folder == DEFAULT_BUNDLE:
            return ok(f"{loaded.label}, {source}: hashes, contract and golden vectors are correct")
        return warning(f"{loaded.label}, {source}, is intact but not signed", "Sign it: avdrift-convert sign")
    if not store.signers.exists():
        loaded = load_bundle(folder)
        what = f"{loaded.label}, {source}, is intact and signed, but no key is trusted here"
        return warning(what, f"Put the public key into {store.signers}, as docs/raspberry-pi.md shows")
    loaded = verify_bundle(folder, store.signers)
    return ok(f"{loaded.label}, {source}: signature, hashes, contract and golden vectors are correct")


def chosen(given: Path | None, store: Store) -> tuple[Path, str]:
    """Folder and origin of the bundle that avdrift would use. Raises ModelError for a broken link."""
    if given is not None:
        return given, "configured"
    digest = store.linked(CURRENT)
    return (store.path_of(digest), "installed") if digest else (DEFAULT_BUNDLE, "built in")


def face_model() -> CheckResult:
    """Check the face detector's file. Raises ModelError."""
    return ok(f"{require_face_model()}: the pinned bytes")


def speed(
    loaded: Bundle,
    read: ReadItems | None = None,
    clock_s: Callable[[], float] = time.thread_time,
    wall_s: Callable[[], float] = time.monotonic,
) -> CheckResult:
    """Measure how many times faster than real time faces, mouths and encoders are, in processor time on one core.

    The share of the wall-clock time in which it ran tells how many streams other programs leave room for.
    """
    items = (read or _sample)()
    analyzer = Analyzer(loaded, require_face_model())
    length_s = (max(item.t_ns for item in items) - min(item.t_ns for item in items)) / NS_PER_S
    begun_s, wall_begun_s = clock_s(), wall_s()
    _run(analyzer, items)
    took_s = max(clock_s() - begun_s, 1e-6)
    factor, share = length_s / took_s, min(took_s / max(wall_s() - wall_begun_s, took_s), 1.0)
    what = f"the whole chain without decoding runs at {factor:.1f} times real time on one core"
    if factor < 1:
        return failed(what, "This computer is too slow for these models: use a Raspberry Pi 4 or newer, or cool it")
    if factor < COMFORTABLE:
        return warning(f"{what}, {COMFORTABLE:g} is comfortable", "End other programs, cool it, or use a faster one")
    streams = max(int(factor / _WHOLE * share * len(os.sched_getaffinity(0)) / COMFORTABLE), 1)
    if share < _MUCH:
        what += f", but other programs leave it {share:.0%} of one now"
    return ok(f"{what}: enough for {streams} at once here; avdrift bench --streams {streams} tries it")


def _sample() -> list[Frame | Chunk]:
    with FileSource(SAMPLE) as source:
        return list(itertools.takewhile(lambda item: item.t_ns < _SAMPLE_S * NS_PER_S, source))


def _run(analyzer: Analyzer, items: Iterable[Frame | Chunk]) -> None:
    for item in items:
        for _ in analyzer.push(item):
            continue
    for _ in analyzer.finish():
        continue
