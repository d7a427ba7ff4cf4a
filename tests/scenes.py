"""Shared by tests of the whole chain: a rendered talking face, tiny bundles, the command line. Made on first use."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Stream

from device.capture.file import FileSource
from device.cli import main
from device.records import Chunk, Frame
from tests.models.bundles import change_manifest, write_bundle
from train.synth.render import render_clip

ROOT = Path(__file__).resolve().parents[1]
TALK_S = 8.0
REPORT_KEYS = """
    schema seq boot_id uptime_s t_unix_ms clock_synced state offset_ms offset_std_ms direction confidence
    drift_ppm drift_std_ppm drift_class step_ms verdict profile window_s faces speech_ratio model video_dropped
    audio_dropped latency_ms fault reason evidence_age_s verdict_range faults
"""

_FOLDER = tempfile.TemporaryDirectory(prefix="avdrift-tests-")


@cache
def scene_folder() -> Path:
    return Path(_FOLDER.name)


@cache
def talking() -> Path:
    """8 s of a synthetic face that talks all the time."""
    path = scene_folder() / "talking.mkv"
    render_clip(path, seed=3, duration_s=TALK_S, size=(320, 240))
    return path


@cache
def talking_items() -> tuple[Frame | Chunk, ...]:
    with FileSource(talking()) as source:
        return tuple(source)


@cache
def silent() -> Path:
    """The same face, and a sound track in which nothing is heard."""
    path = scene_folder() / "silent.mkv"
    with av.open(str(talking())) as given, av.open(str(path), "w") as made:
        picture = made.add_stream_from_template(given.streams.video[0], opaque=True)
        sound = made.add_stream("flac", rate=16_000, layout="mono")
        assert isinstance(sound, av.AudioStream)
        _copy(given, made, [picture])
        frame = av.AudioFrame.from_ndarray(np.zeros((1, round(TALK_S * 16_000)), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
        made.mux(sound.encode(frame))
        made.mux(sound.encode(None))
    return path


@cache
def looped(times: int) -> Path:
    """The talking face, the same seconds again and again."""
    path = scene_folder() / f"looped-{times}.mkv"
    with av.open(str(path), "w") as made:
        with av.open(str(talking())) as given:
            tracks = [made.add_stream_from_template(stream, opaque=True) for stream in given.streams]
        for turn in range(times):
            with av.open(str(talking())) as given:
                _copy(given, made, tracks, turn * TALK_S)
    return path


def _copy(
    given: av.container.InputContainer, made: av.container.OutputContainer, tracks: list[Stream], later_s: float = 0
) -> None:
    """Packets of the first tracks, `later_s` later."""
    count = 0
    for packet in given.demux(*range(len(tracks))):
        if not packet.size or packet.pts is None:
            continue
        dts = packet.dts
        if packet.stream.type == "video":  # Matroska leaves out the first ones
            dts, count = round((count - 3) * Fraction(1, 25) / packet.time_base), count + 1
        shift = round(later_s / packet.time_base)
        packet.pts, packet.dts = packet.pts + shift, (packet.pts if dts is None else dts) + shift
        packet.stream = tracks[packet.stream.index]
        made.mux(packet)


@cache
def tiny_bundle() -> Path:
    """Random towers, usual calibration: says nothing of anything."""
    return write_bundle(scene_folder() / "tiny")


@cache
def overconfident_bundle() -> Path:
    """Random encoders with a confidence of 1 at any input: for the form of reports, not for their values."""
    folder = write_bundle(scene_folder() / "overconfident")
    calibration = {"logit_scale": 200.0, "temperature": 0.01, "null_log_odds": -1e9, "zero_offset_ms": 0.0,
            "confidence": {"bias": 50.0}}  # fmt: skip
    change_manifest(folder, lambda manifest: manifest.update(calibration=calibration))
    return folder


def avdrift(*arguments: object, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """The real command line in a process of its own."""
    command = [sys.executable, "-m", "device.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)


def avdrift_in_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same in this process, which costs no start; relative paths are those of this process."""
    words = [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            exit_code: Any = main(words)
        except SystemExit as ended:  # argparse
            exit_code = ended.code
    return subprocess.CompletedProcess(words, exit_code, out.getvalue(), err.getvalue())
