"""Writes a bundle: model files, golden vectors, and the manifest that describes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from device.bundles.bundle import FORMAT, MANIFEST
from device.bundles.golden import GOLDEN
from device.bundles.model_kinds import Kind
from device.litert import Model
from device.sync.curve import TICK_MS
from device.towers.macs import count_macs


def pack(folder: Path, kind: Kind, models: Mapping[str, bytes], about: Mapping[str, Any]) -> None:
    """Write a bundle folder from its models, by the names of their files, and the rest of its manifest.

    Overwrites an older one; the device refuses a folder with files left over from something else.
    """
    folder.mkdir(exist_ok=True)
    vectors: dict[str, Any] = {}
    towers: dict[str, Any] = {}
    for file, content in models.items():
        (folder / file).write_bytes(content)
        model, stem = Model(content, name=file), Path(file).stem
        vectors[f"{stem}_in"] = golden_input(model.input_shape)
        vectors[f"{stem}_out"] = model(vectors[f"{stem}_in"])[0]
        towers[stem] = _tensors(content) | {"macs": count_macs(content)}
    np.savez_compressed(folder / GOLDEN, **vectors)
    first = vectors[f"{Path(kind.files[0]).stem}_out"]
    contract = {
        "front_end": dict(kind.front_end), "towers": towers, "offset_tick_ms": TICK_MS,
        "embedding_size": first.shape[-1],
    }  # fmt: skip
    files = {name: _entry(folder / name) for name in (*kind.files, GOLDEN)}
    manifest = {"format": FORMAT, "kind": kind.name, **about, "contract": contract, "files": files}
    write_json(folder / MANIFEST, manifest)


def golden_input(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """A synthetic input for a model, [1, n, …], coarse so that it compresses well.

    Never part of a clip: bundles are distributed, the faces and voices that trained them are not.
    """
    random = np.random.default_rng(0)
    coarse = random.integers(-12, 13, (*shape[:2], *(-(-size // 8) for size in shape[2:]))) / 8
    fine = np.kron(coarse, np.ones((1, 1, *(8 for _ in shape[2:]))))
    return fine[tuple(slice(size) for size in shape)].astype(np.float32)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _tensors(content: bytes) -> dict[str, Any]:
    """The input and output of a model for the manifest; scale 0 means not quantized."""
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


def _entry(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
