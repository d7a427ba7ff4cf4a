"""`avdrift-train harvest FOLDER OUT --beam`: the same with Apache Beam, one recording per element.

FOLDER and OUT are folders that all workers reach by the same path, such as a network share. Each worker writes the
clips of its recordings, and their results go into one table at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import apache_beam as beam

from device.check.beam import beam_options
from device.features.model_download import require_face_model
from train.files import make_folder
from train.harvest.run import DONE, harvest_recording, list_recordings, write_tables

_SHARDS = "harvest-beam.jsonl"


class HarvestRecording(beam.DoFn):
    """A relative path in the folder in; one line of `harvest.jsonl` out."""

    def __init__(self, folder: str, out: str, bundle: str) -> None:
        self._folder, self._out, self._bundle = folder, out, bundle

    def setup(self) -> None:
        require_face_model()

    def process(self, source: str) -> Iterator[str]:
        found = harvest_recording(Path(self._folder) / source, source, Path(self._out), Path(self._bundle))
        yield json.dumps(found, ensure_ascii=False)


def harvest_with_beam(folder: Path, out: Path, arguments: Sequence[str], *, bundle: Path, corpus: str) -> int:
    """Make the clips of all recordings; return their number. Raises CaptureError, UsageError."""
    options = beam_options(arguments)
    sources = [path.relative_to(folder).as_posix() for path in list_recordings(folder, out)]
    make_folder(out)
    with beam.Pipeline(options=options) as pipeline:
        lines = (
            pipeline
            | "recordings" >> beam.Create(sources)
            | "spread" >> beam.Reshuffle()  # otherwise one worker would process everything
            | "harvest" >> beam.ParDo(HarvestRecording(str(folder), str(out), str(bundle)))
        )
        _ = lines | "table" >> beam.io.WriteToText(str(out / _SHARDS), shard_name_template="")
    found = sorted((out / _SHARDS).read_text(encoding="utf-8").splitlines())
    (out / DONE).write_text("".join(f"{line}\n" for line in found), encoding="utf-8")
    (out / _SHARDS).unlink()
    return write_tables(out, sorted(map(json.loads, found), key=lambda line: str(line["source"])), corpus)
