"""`avdrift bench`: the cost of each pipeline stage per second of audio-video, beside SyncNet in the same run.

Method: a stretch of a recording is decoded into memory. Then each stage runs alone on the previous stage's output,
several times, and the median round counts, for SyncNet as well. One run of the whole chain on the file, including
decoding, checks that the stages add up. Everything runs on one thread, and processor time is measured, so that other
programs matter only by the caches that they occupy. Multiply-accumulates are those of each model's file times the
invocations that the stretch took, so overlapping blocks count twice; None is not counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2

from device.analysis.analyzer import Analyzer
from device.bench.stages import Chain, EverySecond
from device.bench.syncnet import measure_syncnet
from device.bench.timing import MS_PER_S, CostReport, StageCost, best_of, format_costs
from device.bundles.bundle import Bundle, load_bundle
from device.bundles.model_kinds import MEASURING
from device.capture.file import LONG_CHUNK_MS, FileSource, in_bursts
from device.errors import InputFormatError
from device.features.model_download import require_face_model
from device.records import NS_PER_S, Chunk, Frame

SAMPLE: Final = Path(__file__).parents[1] / "models" / "sample.mkv"
STRETCH_S: Final = 10.0
STRETCH_BYTES: Final = 160_000_000  # of decoded frames: must fit into a small computer
TOWERS: Final = "both towers"


@dataclass(frozen=True, slots=True)
class PipelineCosts:
    """The costs of the stages, and of the whole chain at once over the same stretch of `stretch_s`."""

    recording: str
    model: str
    stretch_s: float
    costs: CostReport
    whole_ms_per_s: float

    @property
    def realtime_factor(self) -> float:
        """How many times faster than real time the whole pipeline runs, including decoding."""
        return MS_PER_S / self.whole_ms_per_s

    @property
    def tower_share(self) -> float | None:
        """Multiply-accumulates of our encoders relative to SyncNet's: 0.02 is one fiftieth."""
        base = self.costs.syncnet_total
        ours = self.costs.subtotal(TOWERS).mmac_per_s
        return ours / base.mmac_per_s if base and base.mmac_per_s and ours is not None else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "recording": self.recording,
            "model": self.model,
            "threads": 1,
            "stretch_s": round(self.stretch_s, 3),
            **self.costs.to_dict(),
            "tower_mac_share": self.tower_share,
            "whole_ms_per_s": self.whole_ms_per_s,
            "realtime_factor": self.realtime_factor,
            "stages_of_whole": self.costs.total.ms_per_s / self.whole_ms_per_s,
        }


def bench(bundle_folder: Path, source: str | Path | None, *, as_json: bool) -> None:
    """Measure and print. `source` None is the built-in sample. Raises CaptureError, ModelError."""
    measured = measure_pipeline(bundle_folder, Path(source) if source else SAMPLE)
    print(json.dumps(measured.to_dict(), allow_nan=False) if as_json else format_pipeline(measured))


def format_pipeline(measured: PipelineCosts) -> str:
    """The table and a summary, without a newline at the end."""
    share = measured.tower_share
    lines = [
        f"{measured.recording}, {measured.stretch_s:.1f} s, bundle {measured.model}, one thread",
        format_costs(measured.costs),
        f"whole pipeline in one run: {measured.whole_ms_per_s:.1f} ms per second of audio-video, "
        f"{measured.realtime_factor:.1f} times faster than real time "
        f"(the stages alone add up to {measured.costs.total.ms_per_s / measured.whole_ms_per_s:.0%} of it)",
    ]
    if share:
        lines.append(f"both towers need 1/{1 / share:.0f} of SyncNet's multiply-accumulates")
    return "\n".join(lines)


def measure_pipeline(
    bundle_folder: Path, source: Path, *, repeat: int = 5, min_time_s: float = 0.2, stretch_s: float = STRETCH_S
) -> PipelineCosts:
    """Cost of every stage. Raises CaptureError if the stretch shows no face, because half of the stages would idle."""
    cv2.setNumThreads(1)
    bundle, face_model = load_bundle(bundle_folder, MEASURING), require_face_model()
    with FileSource(source, chunk_ms=LONG_CHUNK_MS) as opened:
        items = list(_stretch(opened, stretch_s))
    length_s = _length_s(items)
    chain = Chain(bundle, bundle_folder, face_model, items)
    if not any(part.valid.any() for part in chain.lip_parts):
        raise InputFormatError(
            f"no face in its first {length_s:.1f} s", where=str(source), remedy="Give a recording of somebody who talks"
        )

    def ms_per_s(work: Callable[[], object]) -> float:
        return best_of(work, repeat, min_time_s).median_s * MS_PER_S / length_s

    def decode() -> None:
        with FileSource(source, chunk_ms=LONG_CHUNK_MS) as again:
            for _ in _stretch(again, stretch_s):
                pass

    stages = [
        StageCost("decode", ms_per_s(decode)),
        StageCost("face", ms_per_s(chain.detect_faces), chain.face_macs / 1e6 / length_s),
        StageCost("crop", ms_per_s(chain.crop)),
        StageCost("features", ms_per_s(chain.features)),
        StageCost("lip tower", ms_per_s(chain.embed_lips), chain.lip_macs / 1e6 / length_s),
        StageCost("audio tower", ms_per_s(chain.embed_audio), chain.audio_macs / 1e6 / length_s),
        StageCost("curve", ms_per_s(chain.match), chain.curve_macs / 1e6 / length_s),
    ]
    whole_ms = ms_per_s(lambda: _run_whole(bundle, face_model, source, stretch_s))
    syncnet = measure_syncnet(repeat=repeat, min_time_s=min_time_s)
    costs = CostReport(stages, syncnet, {TOWERS: ["lip tower", "audio tower"]})
    return PipelineCosts(str(source), bundle.label, length_s, costs, whole_ms)


def _stretch(source: FileSource, stretch_s: float) -> Iterator[Frame | Chunk]:
    """The first seconds of a recording, or less if its frames are large."""
    begin_ns: int | None = None
    held_bytes = 0
    for item in source:
        begin_ns = item.t_ns if begin_ns is None else begin_ns
        held_bytes += item.picture.nbytes if isinstance(item, Frame) else 0
        if item.t_ns - begin_ns >= stretch_s * NS_PER_S or held_bytes > STRETCH_BYTES:
            return
        yield item


def _length_s(items: list[Frame | Chunk]) -> float:
    last = items[-1]
    return (last.t_ns - items[0].t_ns) / NS_PER_S + 0.02


def _run_whole(bundle: Bundle, face_model: Path, source: Path, stretch_s: float) -> None:
    analyzer = Analyzer(bundle, face_model)
    reports = EverySecond(analyzer)
    with FileSource(source, chunk_ms=LONG_CHUNK_MS) as opened:
        for item in in_bursts(_stretch(opened, stretch_s)):
            reports.add(analyzer.push(item))
        reports.add(analyzer.finish())
