"""`avdrift-convert build`: from a training run to bundles in four number formats, with proof that they agree.

Output: `OUT/float32`, `OUT/float16`, `OUT/dynamic` and `OUT/int8`, each a complete bundle, and a comparison in
`OUT/parity.json` and `OUT/parity.png`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convert.card import card_of, read_evaluation, read_object
from convert.gate import read_gate
from convert.models.trained import open_run
from convert.pack import pack, write_json
from convert.parity import Parity, compare, require_parity
from convert.quantize import FORMATS, to_tflite
from convert.report import FormatReport, draw, report
from device import __version__
from device.bundles.bundle import MANIFEST, load_bundle
from device.errors import InputMissingError, UsageError
from train.data.shards import Clip, load_clips
from train.evaluation.tracks import Track
from train.model_card import DEFAULT_CARD, read_card
from train.models.load import read_calibration
from train.models.provenance import summary
from train.models.run_files import PROVENANCE

REFERENCE = "float32"


def build(
    run: Path, shards: list[Path], out: Path, *, name: str, version: str, calibration: Path | None, example_count: int,
    max_loss: float, card: Path = DEFAULT_CARD, evaluation: Path | None = None, recipe: Path | None = None,
    gate: Path | None = None,
) -> dict[str, FormatReport]:  # fmt: skip
    """Convert, pack, compare. Raises ModelError if a format loses more than `max_loss`; the bundles stay.

    card, evaluation: for the model card, texts that cannot be measured and the output of evaluate. recipe: the output
    of retrain. gate: the gate's result for this run, without which no device accepts the bundle by default.
    """
    texts, figures = read_card(card), read_evaluation(evaluation) if evaluation else None
    passage = read_gate(gate, run) if gate else None
    trained = open_run(run)
    training = _describe(run)
    if recipe is not None:
        training["recipe"] = read_object(recipe, "Give what avdrift-train retrain wrote")
    settings = trained.calibration
    if calibration is not None:
        settings = read_calibration(calibration, settings.logit_scale)
    clips = load_clips(shards)
    shown = [clip for clip in clips if clip.split == "train"]
    validation = [clip for clip in clips if clip.split == "valid"]
    if not shown or not validation:
        raise InputMissingError(
            f"{len(shown)} training and {len(validation)} validation clips, both are needed",
            where=", ".join(map(str, shards)), remedy="Prepare clips of both splits",
        )  # fmt: skip
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"not a folder ({error.strerror})", where=str(out), remedy="Give another --out") from error
    about = {
        "min_software": __version__, "name": name, "version": version, "calibration": settings.to_dict(),
        "training": training, "card": card_of(texts, training, figures, _strangers(clips)), "gate": passage,
    }  # fmt: skip
    examples = trained.examples(shown, example_count)
    contents: dict[str, dict[str, bytes]] = {}
    answers: dict[str, list[Track]] = {}
    for fmt in FORMATS:
        contents[fmt] = {file: to_tflite(net, examples[file], fmt) for file, net in trained.networks.items()}
        pack(out / fmt, trained.kind, contents[fmt], about | {"number_format": fmt})
        answers[fmt] = trained.answers(load_bundle(out / fmt, (trained.kind,)).models, validation)
    parities: dict[str, Parity] = {fmt: compare(answers[REFERENCE], answers[fmt], settings) for fmt in FORMATS}
    reports = report(contents, parities, REFERENCE)
    tables = {fmt: each.to_dict() for fmt, each in reports.items()}
    write_json(out / "parity.json", tables)
    draw(reports, out / "parity.png", f"{name} {version}, {len(validation)} validation clips")
    for fmt in FORMATS:
        manifest = json.loads((out / fmt / MANIFEST).read_text(encoding="utf-8"))
        # Times differ between builds; a manifest does not, so that the same data make the same bundle.
        parity = {key: value for key, value in tables[fmt].items() if key != "latency_ratio"}
        write_json(out / fmt / MANIFEST, manifest | {"parity": parity})
    require_parity({fmt: parity.telling_loss for fmt, parity in parities.items()}, max_loss, where=str(out))
    return reports


def _strangers(clips: list[Clip]) -> tuple[int, int]:
    """The number of validation speakers who are not trained on, and of all."""
    trained, valid = ({clip.speaker for clip in clips if clip.split == split} for split in ("train", "valid"))
    return len(valid - trained), len(valid)


def _describe(run: Path) -> dict[str, Any]:
    """For the manifest: what `fit` recorded about its data, its configuration and their sources; or null."""
    remedy = "Give the folder that fit wrote"

    def read(file: str) -> dict[str, Any] | None:
        return read_object(run / file, remedy) if (run / file).is_file() else None

    provenance = read(PROVENANCE)
    return {
        "data": read("data.json"), "config": read("config.json"), "provenance": provenance and summary(provenance),
    }  # fmt: skip
