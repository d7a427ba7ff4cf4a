"""The model card: in a bundle's manifest under `card`, and as a page. The manifest is its only source.

Texts come from `train.model_card`, corpora from the records of `fit`, figures from the JSON of `avdrift-train
evaluate`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convert.pack import write_json
from device.bundles.bundle import MANIFEST
from device.errors import InputFormatError, InputMissingError
from train.evaluation.metrics import FRAME_MS
from train.evaluation.tables import markdown_of
from train.model_card import CardTexts

CARD_SCHEMA = 1
_OWN_TRUTH = "by the same towers"
_NOT_STATED = "not stated"
NOT_MEASURED = (
    "Not measured for these models: faces turned away, small or half hidden, loud noise, reverberation, beards, "
    "singing, music under the voice, languages that they have not heard."
)
_PLAIN = 0.95  # share of right windows below which a window length is listed
# Teachers, by the settings for their share in the training.
_TEACHERS = {
    "MediaPipe's face mesh (Apache-2.0), for lip shapes": ("shape_steps", "shape_weight"),
    "espeak-ng's voices, for phonemes": ("phone_steps",),
}


def card_of(
    texts: CardTexts, training: Mapping[str, Any], evaluation: Mapping[str, Any] | None,
    strangers: tuple[int, int] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The card for a manifest with this part `training`; `evaluation`: the output of evaluate, None without it.

    strangers: the number of validation speakers who were not trained on, and of all; None if unknown.
    """
    found = asdict(texts)
    terms = found.pop("terms")
    found["measured_on"] = found["measured_on"] or _measured_on(strangers)
    found["may_fail"] = [*(limits(_measured(evaluation)) if evaluation else ()), *found["may_fail"], NOT_MEASURED]
    corpora = {
        name: {"terms": terms.get(name, _NOT_STATED), **figures}
        for name, figures in (training.get("data") or {}).items()
    }
    configs = [training.get("config") or {}, *_earlier_configs(training.get("provenance") or {})]
    taught_by = [
        teacher for teacher, keys in _TEACHERS.items() if any(config.get(key) for config in configs for key in keys)
    ]
    measured = evaluation and _measured(evaluation)
    return {"schema": CARD_SCHEMA, **found, "taught_by": taught_by, "corpora": corpora, "measured": measured}


def _earlier_configs(provenance: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Of the trainings that this one learned from or started with."""
    for earlier in [*(provenance.get("teachers") or []), *([provenance["start"]] if "start" in provenance else [])]:
        yield earlier.get("config") or {}
        yield from _earlier_configs(earlier)


def _measured_on(strangers: tuple[int, int] | None) -> str:
    if strangers is None:
        return "Clips of the split `valid`."
    new, all_ = strangers
    return f"Clips of the split `valid`; {new} of its {all_} speakers were not trained on."


def limits(measured: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on where models may fail, each based on a figure of their own evaluation."""
    wide = [row for row in measured["windows"] if row["search_ms"] == max(w["search_ms"] for w in measured["windows"])]
    for row in wide:
        if row["within_frame"] is not None and row["within_frame"] < _PLAIN:
            right, numbered = (_percent(row[key]) for key in ("within_frame", "reported"))
            length = f"Windows of {row['window_s']:g} s by themselves"
            yield f"{length}: {right} % of {row['windows']} are right, {numbered} % have a number."
    for case in measured["hopeless"]:
        if case["numbered"] > 0:
            share, kind = _percent(case["numbered"]), case["kind"].capitalize()
            yield f"{kind}: {share} % of {case['windows']} windows of {case['window_s']:g} s have a number, wrongly."


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read the output of `avdrift-train evaluate --out`. Raises InputMissingError, InputFormatError."""
    remedy = "Give the evaluation.json that avdrift-train evaluate --out wrote"
    found = read_object(path, remedy)
    try:
        _measured(found)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputFormatError(f"not an evaluation ({error!r})", where=str(path), remedy=remedy) from error
    return found


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object. Raises InputMissingError, InputFormatError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputMissingError(f"cannot be read ({error.strerror})", where=str(path), remedy=remedy) from error
    except (ValueError, RecursionError) as error:
        raise InputFormatError(f"not JSON ({error})", where=str(path), remedy=remedy) from error
    if not isinstance(found, dict):
        raise InputFormatError("not a JSON object", where=str(path), remedy=remedy)
    return found


def _measured(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The figures for the card: nothing that names a clip."""
    truth = str(evaluation["truth"])
    windows = [
        {"search_ms": row["search_frames"] * FRAME_MS, "window_s": row["window_s"], **_figures(row["speech"])}
        for row in evaluation["rows"] if row["speech"]["windows"]
    ]  # fmt: skip
    keys = ("kind", "window_s", "windows", "numbered")
    unmeasurable = [{key: case[key] for key in keys} for case in evaluation["hopeless"]]
    return {
        "clips": evaluation["clips"],
        "speakers": evaluation["speakers"],
        "truth": truth if truth.endswith(_OWN_TRUTH) else "a table of offsets that another model made",
        "windows": windows,
        "corpora": {name: _figures(figures) for name, figures in evaluation["corpora"].items()},
        "hopeless": unmeasurable,
    }


def _figures(found: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("windows", "within_frame", "low", "high", "median_error_ms", "reported", "right_of_reported")
    return {key: found[key] for key in keys}


def write_card(
    bundle: Path, texts: CardTexts, evaluation: Mapping[str, Any] | None, provenance: Mapping[str, Any] | None
) -> None:
    """Put a new card, and the provenance if given, into the manifest of an existing bundle; its digest changes.

    Without an evaluation, the card keeps its figures. A signature is removed, because it no longer matches.
    """
    path = bundle / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    training = manifest.get("training") or {}
    if provenance is not None:
        training = training | {"provenance": dict(provenance)}
    card, before = card_of(texts, training, evaluation), manifest.get("card") or {}
    if evaluation is None and (measured := before.get("measured")):
        card["measured"] = measured
        card["may_fail"] = [*limits(measured), *card["may_fail"]]
    if not texts.measured_on and before.get("measured_on"):
        card["measured_on"] = before["measured_on"]
    write_json(path, manifest | {"training": training, "card": card})
    path.with_name(MANIFEST + ".sig").unlink(missing_ok=True)


def page(manifest: Mapping[str, Any]) -> str:
    """The card of a bundle as Markdown. Raises InputFormatError if it has none, or one of another format."""
    try:
        return "\n\n".join(_page(manifest, manifest["card"])) + "\n"
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        remedy = "Give one with: avdrift-convert card BUNDLE --texts FILE.toml --evaluation evaluation.json"
        raise InputFormatError(f"no usable model card ({error!r})", where=MANIFEST, remedy=remedy) from error


def _page(manifest: Mapping[str, Any], card: Mapping[str, Any]) -> Iterator[str]:
    name, version = manifest["name"], manifest["version"]
    towers, calibration = manifest["contract"]["towers"], manifest["calibration"]
    size = sum(entry["size"] for file, entry in manifest["files"].items() if file.endswith(".tflite"))
    yield f"# Model card: {name} {version}"
    yield "Generated from the bundle's manifest by `avdrift-convert card`; see [Bundles](bundle.md)."
    cost = ", ".join(f"{stem} {tower['macs'] / 1e6:.0f} million" for stem, tower in towers.items())
    front_end = manifest["contract"]["front_end"]
    seen_ms = front_end["lip_window_ticks"] * front_end["lip_tick_ms"]
    heard_ms = (front_end["audio_window_ticks"] - 1) * front_end["audio_tick_ms"]
    yield (
        f"**What it is.** Small networks ({manifest['number_format']}, {size / 1e6:.2f} MB) that compare {seen_ms} ms "
        f"of grey mouth crops with {heard_ms} ms of audio. The offset is the shift at which they match best. "
        f"Multiply-accumulates of one run: {cost}."
    )
    yield f"**What it is for.** {card['purpose']}"
    yield _listed("What it must not be used for", card["must_not"])
    yield _listed("Where it may fail", card["may_fail"])
    doubt = calibration.get("zero_uncertainty_ms")
    yield "**Zero.** " + (
        f"Where lips open at /p b m/, the models report {calibration['zero_offset_ms']:g} ms, which is subtracted. Its "
        f"standard error is {doubt:g} ms." if doubt is not None else "Not measured: it is the mean of the clips."
    )  # fmt: skip
    yield "## Training data"
    yield _table(["corpus", "clips", "speaker labels", "minutes", "terms"],
                 [[corpus, str(row["clips"]), str(row["speakers"]), f"{row['minutes']:g}", row["terms"]]
                  for corpus, row in card["corpora"].items()])  # fmt: skip
    teachers = f" It was also trained with {'; and with '.join(card['taught_by'])}." if card["taught_by"] else ""
    yield f"No clip, face or voice is in the bundle.{teachers}"
    yield "## Evaluation"
    yield from _accuracy(card["measured_on"], card["measured"])
    yield "## Training run"
    yield from _made(manifest.get("training") or {})


def _accuracy(measured_on: str, found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is None:
        yield "Not measured."
        return
    yield f"{measured_on} {found['clips']} clips of {found['speakers']} speakers. Truth: {found['truth']}."
    head = ["windows", "within a frame %", "95 %", "median ms", "given a number %", "of these right %"]
    yield "Windows with speech, whatever their confidence; chance is " \
          "9.7 % in a search of ±600 ms and 5.9 % in one of ±1000 ms:"  # fmt: skip
    yield _table(["search ±ms", "seconds", *head],
                 [[f"{w['search_ms']:g}", f"{w['window_s']:g}", *_row(w)] for w in found["windows"]])  # fmt: skip
    yield "By corpus, 2 s, search of ±1000 ms:"
    yield _table(["corpus", *head], [[corpus, *_row(f)] for corpus, f in found["corpora"].items() if f["windows"]])
    yield "Input that cannot be measured (hopeless input), which should get no number:"
    yield _table(["kind", "seconds", "windows", "given a number %"],
                 [[h["kind"], f"{h['window_s']:g}", str(h["windows"]), _percent(h["numbered"])]
                  for h in found["hopeless"]])  # fmt: skip


def _row(f: Mapping[str, Any]) -> list[str]:
    interval = f"{_percent(f['low'])} to {_percent(f['high'])}" if f["low"] is not None else "one speaker"
    median = "-" if f["median_error_ms"] is None else f"{f['median_error_ms']:.0f}"
    shares = [_percent(f["reported"]), _percent(f["right_of_reported"])]
    return [str(f["windows"]), _percent(f["within_frame"]), interval, median, *shares]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _made(training: Mapping[str, Any]) -> Iterator[str]:
    provenance = training.get("provenance")
    if not provenance:
        yield "Not recorded."
        return
    if note := provenance.get("note"):
        yield str(note)
    if teachers := provenance.get("teachers"):
        yield "It was distilled from the mean of these trainings, starting from the first: " + "; ".join(
            f"{each['run']}, seed {each.get('seed', 'unknown')}, weights `{each['sha256']}`" for each in teachers
        ) + "."  # fmt: skip
    if start := provenance.get("start"):
        bundle = "bundle {name} {version}, manifest"
        of_it = (bundle if "version" in start else "run {run}, weights").format(**start)
        yield f"It started with the weights of another training: {of_it} `{start['sha256']}`."
    if "versions" in provenance:
        versions = ", ".join(f"{name} {value}" for name, value in provenance["versions"].items() if value is not None)
        when = ""
        if sessions := provenance.get("sessions"):  # in older bundles
            count = f"{len(sessions)} session{'s' if len(sessions) > 1 else ''}"
            when = f"; from {sessions[0]['began']} to {sessions[-1]['ended']}, in {count}"
        yield f"Seed {provenance['seed']}; {versions}; {provenance['machine']['arch']}{when}."
        shards = "; ".join(f"{folder['count']} shards `{folder['sha256']}`" for folder in provenance["data"]["shards"])
        yield f"Data, as SHA-256: {shards}."


def _listed(title: str, items: Sequence[str]) -> str:
    return f"**{title}.**\n\n" + "\n".join(f"- {item}" for item in items)


def _table(head: list[str], body: list[list[str]]) -> str:
    return "\n".join(markdown_of(head, body))
