"""The benchmark of the pipeline: every stage is there, counts are those of the models, and no time is asserted."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from device.bench.pipeline import SAMPLE, PipelineCosts, _stretch, bench, format_pipeline, measure_pipeline
from device.bench.timing import CostReport, StageCost
from device.capture.file import FileSource
from device.errors import InputFormatError, InputMissingError, ModelMissingError
from device.features.contract import FRONT_END
from device.features.model_download import require_face_model
from device.records import NS_PER_S
from device.towers.macs import count_macs
from tests.models.bundles import AUDIO_TICKS, EMBEDDING, LIP_TICKS
from tests.recordings import Picture, Sound, write
from tests.scenes import talking, talking_items, tiny_bundle

STAGES = ["decode", "face", "crop", "features", "lip tower", "audio tower", "curve"]
STRETCH_S = 4.0


@cache
def measured() -> PipelineCosts:
    return measure_pipeline(tiny_bundle(), talking(), repeat=1, min_time_s=0, stretch_s=STRETCH_S)


def mmac(name: str) -> float | None:
    (found,) = [stage.mmac_per_s for stage in measured().costs.stages if stage.name == name]
    return found


def invocations(ticks_per_s: float, block: int, window: int) -> float:
    """Overlapping blocks: each gives only as many embeddings as windows fit into it, and so does the stretch."""
    return (ticks_per_s * STRETCH_S - window + 1) / (block - window + 1)


def test_every_stage_and_both_networks_are_timed() -> None:
    costs = measured().costs
    assert [stage.name for stage in costs.stages] == STAGES
    assert all(stage.ms_per_s > 0 for stage in [*costs.stages, *costs.syncnet])
    assert measured().whole_ms_per_s > 0
    assert measured().stretch_s == pytest.approx(STRETCH_S, abs=0.1)


def test_tower_counts_are_those_of_overlapping_blocks() -> None:
    lip_window, audio_window = FRONT_END.lip_window_ticks, FRONT_END.audio_window_ticks
    # One convolution each: outputs x kernel x channels.
    lips = (LIP_TICKS - lip_window + 1) * EMBEDDING * lip_window * (FRONT_END.crop_px // 8) * FRONT_END.crop_px
    audio = (AUDIO_TICKS - audio_window + 1) * EMBEDDING * audio_window * FRONT_END.mel_bands
    for name, macs, count in (
        ("lip tower", lips, invocations(25, LIP_TICKS, lip_window)),
        ("audio tower", audio, invocations(100, AUDIO_TICKS, audio_window)),
    ):
        # The first and the last block may be short, which costs as much as a whole one.
        found = mmac(name)
        assert found is not None
        assert count - 0.5 <= found * 1e6 / macs * STRETCH_S <= count + 2


def test_faces_are_detected_at_the_trackers_cadence() -> None:
    found = mmac("face")
    assert found is not None
    looks_per_s = found * 1e6 / count_macs(require_face_model().read_bytes())
    assert 3 < looks_per_s < 5.5, "every sixth frame of 25, and the first look takes two"


def test_the_curve_counts_its_cosines_and_a_codec_is_not_counted() -> None:
    found = mmac("curve")
    assert found is not None and found * 1e6 >= 0.9 * 25 * 201 * EMBEDDING
    assert mmac("decode") is mmac("crop") is mmac("features") is None


def test_tower_share_is_that_of_multiply_accumulates() -> None:
    costs = CostReport(
        [StageCost("lip tower", 1.0, 300.0), StageCost("audio tower", 1.0, 200.0), StageCost("decode", 8.0)],
        [StageCost("SyncNet", 100.0, 40_000.0)], {"both towers": ["lip tower", "audio tower"]},
    )  # fmt: skip
    found = PipelineCosts("a.mkv", "tiny 0", 10.0, costs, 20.0)
    assert found.tower_share == 1 / 80
    assert found.realtime_factor == 50.0
    assert "1/80 of SyncNet's" in format_pipeline(found)
    assert "50.0 times faster" in format_pipeline(found) and "50% of it" in format_pipeline(found)
    assert found.to_dict()["stages_of_whole"] == 0.5


def test_dict_is_the_table_and_the_figures_beside_it() -> None:
    found = json.loads(json.dumps(measured().to_dict(), allow_nan=False))
    assert [row["name"] for row in found["stages"]] == STAGES
    assert found["syncnet_total"]["mmac_per_s"] == pytest.approx(45_055, rel=0.01)
    assert found["threads"] == 1
    assert set(found) > {"recording", "model", "stretch_s", "tower_mac_share", "whole_ms_per_s", "realtime_factor"}


def test_printed_as_table_or_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("device.bench.pipeline.measure_pipeline", lambda *_: measured())
    bench(tiny_bundle(), talking(), as_json=True)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(measured().to_dict()))
    bench(tiny_bundle(), str(talking()), as_json=False)
    table = capsys.readouterr().out
    assert all(name in table for name in [*STAGES, "both towers", "SyncNet total", "whole pipeline"])


def test_a_recording_shorter_than_the_stretch_is_taken_whole() -> None:
    with FileSource(talking()) as source:
        assert len(list(_stretch(source, 60))) == len(talking_items())
    with FileSource(talking()) as source:
        assert max(item.t_ns for item in _stretch(source, 1)) < 1.1 * NS_PER_S


def test_wrong_input_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"none\.mkv"):
        measure_pipeline(tiny_bundle(), tmp_path / "none.mkv")
    with pytest.raises(ModelMissingError):
        measure_pipeline(tmp_path, talking())
    faceless = write(tmp_path / "flashes.mkv", Picture(), Sound())
    with pytest.raises(InputFormatError, match="no face"):
        measure_pipeline(tiny_bundle(), faceless)


def test_the_default_is_the_sample_that_ships() -> None:
    assert SAMPLE.relative_to(Path(__file__).resolve().parents[3]).as_posix() == "device/models/sample.mkv"
