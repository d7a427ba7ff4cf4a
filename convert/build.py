"""`avdrift-convert build`: from a training run to bundles, float32 and int8, with the proof that they agree.

Output: `OUT/float32` and `OUT/int8`, each a whole bundle that the device loads, and `OUT/parity.json`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from convert.parity import Parity, compare, require_parity
from convert.quantize import Format, to_tflite
from device import __version__
from device.errors import InputMissingError, UsageError
from device.features.contract import FRONT_END
from device.sync.curve import TICK_MS, Calibration
from device.towers.bundle import AUDIO, FILES, FORMAT, GOLDEN, LIPS, MANIFEST, load_bundle
from device.towers.litert import Model
from device.towers.macs import count_macs
from train.data import Clip, front_end, load_clips
from train.fit import keras_towers
from train.load_towers import load_pair, read_calibration
from train.measure import bundle_towers

Floats = npt.NDArray[np.float32]

LIP_EMBEDDINGS_PER_RUN = 25  # one second at a time: windows overlap, so longer runs share more and wait longer
AUDIO_EMBEDDINGS_PER_RUN = 100
_FORMATS: tuple[Format, ...] = ("float32", "int8")


def build(
    run: Path, shards: list[Path], out: Path, *, name: str, version: str, calibration: Path | None, example_count: int,
    max_loss: float,
) -> Parity:  # fmt: skip
    """Convert, pack, compare. Raises ModelError when int8 loses more than `max_loss`; the bundles stay for a look."""
    pair = load_pair(run)
    scale = keras_towers(pair).logit_scale
    settings = read_calibration(calibration, scale) if calibration else Calibration(logit_scale=scale)
    clips = load_clips(shards)
    training = [clip for clip in clips if clip.split == "train"]
    validation = [clip for clip in clips if clip.split == "valid"]
    if not training or not validation:
        raise InputMissingError(
            f"{len(training)} training and {len(validation)} validation clips, both are needed",
            where=", ".join(map(str, shards)), remedy="Prepare clips of both splits",
        )  # fmt: skip
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"not a folder ({error.strerror})", where=str(out), remedy="Give another --out") from error
    about = {
        "format": FORMAT, "min_software": __version__, "name": name, "version": version,
        "calibration": asdict(settings), "training": _describe(run),
    }  # fmt: skip
    lips, audio = examples(training, example_count)
    bundles = {}
    for fmt in _FORMATS:
        models = {LIPS: to_tflite(pair.lips, lips, fmt), AUDIO: to_tflite(pair.audio, audio, fmt)}
        _pack(out / fmt, models, about | {"number_format": fmt})
        bundles[fmt] = load_bundle(out / fmt)
    parity = compare(bundle_towers(bundles["float32"]), bundle_towers(bundles["int8"]), validation, settings)
    _write_json(out / "parity.json", asdict(parity))
    for fmt, bundle in bundles.items():
        _write_json(out / fmt / MANIFEST, bundle.manifest | {"parity": asdict(parity)})
    require_parity(parity, max_loss, where=str(out))
    return parity


def examples(clips: list[Clip], count: int) -> tuple[Floats, Floats]:
    """Representative inputs of both towers, [n, ticks, ...]: stretches of many clips, then a still picture and silence.

    At least `count` stretches, from one clip of each speaker in turn, so that no large corpus sets the scales alone.
    """
    random = np.random.default_rng(0)
    lip_ticks = LIP_EMBEDDINGS_PER_RUN + FRONT_END.lip_window_ticks - 1
    audio_ticks = AUDIO_EMBEDDINGS_PER_RUN + FRONT_END.audio_window_ticks - 1
    by_speaker: dict[str, list[Clip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    lips: list[Floats] = []
    audio: list[Floats] = []
    while len(lips) < count:
        for choices in by_speaker.values():
            crops, _, _, rows, _ = front_end(choices[int(random.integers(len(choices)))])
            lips.append(_stretch(crops, lip_ticks, random))
            audio.append(_stretch(rows, audio_ticks, random))
    lips += [np.repeat(lips[0][:1], lip_ticks, 0), np.zeros_like(lips[0])]
    audio += [np.zeros_like(audio[0])]
    return np.stack(lips), np.stack(audio)


def _stretch(values: Floats, ticks: int, random: np.random.Generator) -> Floats:
    if len(values) < ticks:
        return np.concatenate([values, np.repeat(values[-1:], ticks - len(values), 0)])
    start = int(random.integers(len(values) - ticks + 1))
    return values[start : start + ticks]


def golden_input(shape: tuple[int, ...]) -> Floats:
    """A made-up input of a tower, [1, ticks, bands] or [1, ticks, height, width], coarse so that it packs small.

    Never a stretch of a clip: bundles are given away, the faces and voices that trained them are not.
    """
    random = np.random.default_rng(0)
    coarse = random.integers(-12, 13, (*shape[:2], *(size // 8 for size in shape[2:]))) / 8
    return np.kron(coarse, np.ones((1, 1, *(8 for _ in shape[2:])))).astype(np.float32)


def _pack(folder: Path, models: dict[str, bytes], about: dict[str, Any]) -> None:
    """A bundle folder from its parts, over an older one; the device refuses it where files of something else remain."""
    folder.mkdir(exist_ok=True)
    vectors: dict[str, Any] = {}
    towers = {}
    for file, content in models.items():
        (folder / file).write_bytes(content)
        model, key = Model(content, name=file), Path(file).stem
        vectors[f"{key}_in"] = golden_input(model.input_shape)
        vectors[f"{key}_out"] = model(vectors[f"{key}_in"])[0]
        towers[key] = _tensors(content) | {"macs": count_macs(content)}
    np.savez_compressed(folder / GOLDEN, **vectors)
    contract = {
        "front_end": FRONT_END.to_dict(), "towers": towers, "offset_tick_ms": TICK_MS,
        "embedding_size": vectors["lips_out"].shape[-1],
    }  # fmt: skip
    _write_json(folder / MANIFEST, about | {"contract": contract, "files": {f: _entry(folder / f) for f in FILES}})


def _tensors(content: bytes) -> dict[str, Any]:
    """Input and output of a model as the manifest tells of them; scale 0 means not quantized."""
    interpreter = Interpreter(model_content=content)
    sides = {"input": interpreter.get_input_details()[0], "output": interpreter.get_output_details()[0]}
    return {
        side: {
            "name": tensor["name"],
            "shape": tensor["shape"].tolist(),
            "dtype": np.dtype(tensor["dtype"]).name,
            "scale": float(tensor["quantization"][0]),
            "zero_point": int(tensor["quantization"][1]),
        }
        for side, tensor in sides.items()
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _entry(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _describe(run: Path) -> dict[str, Any]:
    """For the manifest: what `fit` wrote down of its data and its configuration."""
    found = {}
    for key in ("data", "config"):
        path = run / f"{key}.json"
        found[key] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found
