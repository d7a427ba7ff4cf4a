"""Writes a tiny valid bundle with random towers for tests, and changes it with the hashes kept true.

The towers satisfy the contract of real ones: lips [1, T, 64, 64] to [1, T - 4, E], audio [1, T, 40] to [1, T - 20, E].
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from device.bench.syncnet import Conv, Pool, Shape, _Graph
from device.bundles.bundle import FILES, FORMAT, MANIFEST
from device.bundles.calibration import Calibration
from device.bundles.golden import GOLDEN
from device.bundles.model_kinds import AUDIO, HEAD, LIPS
from device.features.contract import FRONT_END
from device.litert import Model

EMBEDDING = 8
PASSED = {"schema": 1, "passed": True, "sentence": "Better."}  # of a gate
CALIBRATION = Calibration(negative_reach_ticks=16)  # two blocks, as with the real towers: rows come evenly
LIP_TICKS, AUDIO_TICKS = 12, 52


def reshape(graph: _Graph, shape: Shape) -> None:
    target = graph._tensor(f"shape{len(graph._tensors)}", (len(shape),), np.array(shape, np.int32))
    options = schema.ReshapeOptionsT(newShape=list(shape))
    name = f"reshaped{len(graph._tensors)}"
    graph._operator("RESHAPE", [target], name, shape, schema.BuiltinOptions.ReshapeOptions, options)


def lip_encoder(
    ticks: int = LIP_TICKS, size: int = EMBEDDING, seed: int = 1, crop_px: int = FRONT_END.crop_px
) -> bytes:
    """Each row of a crop counts as a pixel of `crop_px` channels: pooled, then one convolution over the window."""
    window = FRONT_END.lip_window_ticks
    graph = _Graph((1, ticks, crop_px, crop_px), np.random.default_rng(seed))
    graph.add(Pool("pool", stride=(1, 8), kernel=(1, 8)))
    graph.add(Conv("window", size, (window, crop_px // 8)))
    reshape(graph, (1, ticks - window + 1, size))
    return graph.pack()


def audio_encoder(ticks: int = AUDIO_TICKS, size: int = EMBEDDING, seed: int = 2) -> bytes:
    window = FRONT_END.audio_window_ticks
    graph = _Graph((1, ticks, FRONT_END.mel_bands), np.random.default_rng(seed))
    reshape(graph, (1, ticks, 1, FRONT_END.mel_bands))
    graph.add(Conv("window", size, (window, 1)))
    reshape(graph, (1, ticks - window + 1, size))
    return graph.pack()


def head(groups: int = 4, ticks: int = 5, lags: int = 21, seed: int = 4) -> bytes:
    """What the direct kind has besides towers: products at each tick and lag in, one value each out."""
    graph = _Graph((1, ticks, lags, groups), np.random.default_rng(seed))
    graph.add(Conv("head", 1, (1, 1)))
    return graph.pack()


def identity_int8(scale: float, zero_point: int, values: int = 4) -> bytes:
    """A model [1, values] that gives back its int8 input; what it answers is what quantization leaves of it."""
    graph = _Graph((1, values), np.random.default_rng(0))
    reshape(graph, (1, values))
    for tensor in (graph._tensors[0], graph._tensors[graph._head]):
        tensor.type = schema.TensorType.INT8
        tensor.quantization = schema.QuantizationParametersT(scale=[scale], zeroPoint=[zero_point])
    return graph.pack()


def greedy_model() -> bytes:
    """A model [1, 1, 1, 1] that LiteRT loads, and takes 0.5 GB of memory for."""
    graph = _Graph((1, 1, 1, 1), np.random.default_rng(0))
    graph.add(Conv("wide", 1, (1, 1), pad=4000))
    return graph.pack()


def looping_model(*, endless: bool) -> bytes:
    """A well-formed model [1, 4] that no runtime should meet: a loop without end, or one whose body is itself.

    LiteRT loads the first and never answers; the second crashes it (seen with 2.3.0).
    """

    def tensor(name: str, kind: int = schema.TensorType.FLOAT32, buffer: int = 0) -> Any:
        return schema.TensorT(shape=[1, 4] if buffer == 0 else [1], type=kind, buffer=buffer, name=name)

    options = schema.WhileOptionsT(condSubgraphIndex=1, bodySubgraphIndex=2 if endless else 0)
    loop = schema.OperatorT(
        opcodeIndex=0, inputs=[0], outputs=[1], builtinOptionsType=schema.BuiltinOptions.WhileOptions,
        builtinOptions=options,
    )  # fmt: skip
    true = tensor("true", schema.TensorType.BOOL, buffer=1)
    graphs = [
        schema.SubGraphT(tensors=[tensor("in"), tensor("out")], inputs=[0], outputs=[1], operators=[loop], name="main"),
        schema.SubGraphT(tensors=[tensor("given"), true], inputs=[0], outputs=[1], operators=[], name="always"),
        schema.SubGraphT(tensors=[tensor("same")], inputs=[0], outputs=[0], operators=[], name="body"),
    ]
    number = schema.BuiltinOperator.WHILE
    model = schema.ModelT(
        version=3, operatorCodes=[schema.OperatorCodeT(deprecatedBuiltinCode=number, builtinCode=number, version=1)],
        subgraphs=graphs, buffers=[schema.BufferT(), schema.BufferT(data=np.ones(1, np.uint8))],
    )  # fmt: skip
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def golden_vectors(lips: bytes, audio: bytes, seed: int = 3, **more: bytes) -> dict[str, Any]:
    rng, arrays = np.random.default_rng(seed), {}
    for name, content in (("lips", lips), ("audio", audio), *more.items()):
        model = Model(content, name=name)
        arrays[f"{name}_in"] = rng.standard_normal(model.input_shape).astype(np.float32)
        arrays[f"{name}_out"] = model(arrays[f"{name}_in"])[0]
    return arrays


def write_bundle(folder: Path, lips: bytes | None = None, audio: bytes | None = None) -> Path:
    """A valid bundle in `folder`, which is made; towers other than the tiny ones may be given."""
    folder.mkdir(parents=True)
    lips, audio = lips or lip_encoder(), audio or audio_encoder()
    (folder / LIPS).write_bytes(lips)
    (folder / AUDIO).write_bytes(audio)
    np.savez(folder / GOLDEN, **golden_vectors(lips, audio))
    manifest = {
        "format": FORMAT, "min_software": "0", "name": "tiny", "version": "0", "files": {},
        "contract": {"front_end": FRONT_END.to_dict()}, "calibration": CALIBRATION.to_dict(), "gate": PASSED,
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    sign_off(folder)
    return folder


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def write_direct_bundle(folder: Path, content: bytes | None = None) -> Path:
    """The same of the direct kind."""
    write_bundle(folder)
    (folder / HEAD).write_bytes(content := content or head())
    np.savez(folder / GOLDEN, **golden_vectors(lip_encoder(), audio_encoder(), head=content))
    change_manifest(folder, lambda manifest: manifest.update(kind="direct"))
    sign_off(folder)
    return folder


def sign_off(folder: Path) -> None:
    """Make sizes and hashes in the manifest those of the files, as somebody who builds a bundle would."""
    contents = {path.name: path.read_bytes() for path in folder.iterdir() if path.name in (*FILES, HEAD)}
    entries = {name: {"size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in contents.items()}
    change_manifest(folder, lambda manifest: manifest.update(files=entries))
