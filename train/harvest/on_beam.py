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
from train.harvest.run import DONE, filled_in, harvest_recording, list_recordings, read_finished, write_tables

_SHARDS = "harvest-beam.jsonl"


class HarvestRecording(beam.DoFn):
    """A relative path in the folder in, as JSON; one line of `harvest.jsonl` out."""

    def __init__(self, folder: str, out: str, bundle: str) -> None:
        self._folder, self._out, self._bundle = folder, out, bundle

    def setup(self) -> None:
        require_face_model()

    def process(self, element: str) -> Iterator[str]:
        source = json.loads(element)
        yield json.dumps(harvest_recording(Path(self._folder), Path(self._out), Path(self._bundle), source))


def harvest_with_beam(folder: Path, out: Path, arguments: Sequence[str], *, bundle: Path, corpus: str) -> int:
    """Make the clips of all recordings that are not done yet; return the number of clips in OUT.

    Raises CaptureError, UsageError.
    """
    options = beam_options(arguments)
    sources = [path.relative_to(folder).as_posix() for path in list_recordings(folder, out)]
    make_folder(out)
    filled_in(out)  # fail now, not after hours, if somebody has spoilt the table
    done = read_finished(out)
    if todo := [source for source in sources if source not in done]:
        with beam.Pipeline(options=options) as pipeline:
            lines = (
                pipeline
                | "recordings" >> beam.Create([json.dumps(source) for source in todo])
                | "spread" >> beam.Reshuffle()  # otherwise one worker would process everything
                | "harvest" >> beam.ParDo(HarvestRecording(str(folder), str(out), str(bundle)))
            )
            _ = lines | "table" >> beam.io.WriteToText(str(out / _SHARDS), shard_name_template="")
        with (out / DONE).open("a", encoding="ascii") as file:
            file.write((out / _SHARDS).read_text(encoding="ascii"))
        (out / _SHARDS).unlink()
        done = read_finished(out)
    return write_tables(out, [done[source] for source in sorted(done)], corpus)
