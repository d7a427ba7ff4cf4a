"""`avdrift check PATH… --jsonl FILE --beam`: the same rows on many machines, with Apache Beam.

One element per file: with the direct runner here, or with those of Flink, Spark or Dataflow by Beam's own options
(`--runner FlinkRunner --flink_master …`). PATH and FILE are whatever Beam's file systems support (a shared folder,
`gs://`, `s3://`, `hdfs://`): a worker copies a file, measures it, and deletes its copy. Workers need avdrift itself,
and once the network, for the face detector's model.

Elements are JSON texts, because Beam's coders reject names with bytes that are not UTF-8.
"""

from __future__ import annotations

import json
import posixpath
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import cv2
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from device.check.find import ENDINGS
from device.check.measure_file import Models, measure_file
from device.check.row import Row, Rules, row_from, unreadable
from device.errors import UsageError
from device.features.model_download import require_face_model

_COPY_BYTES = 1 << 20


def check_with_beam(
    paths: Sequence[str], jsonl: str, arguments: Sequence[str], models: Models, rules: Rules, *, recursive: bool
) -> list[Row]:
    """The rows of all files, in order; they are also the lines of `jsonl`. `arguments` are Beam's own.

    Raises UsageError for invalid options or locations, ModelError.
    """
    options = beam_options(arguments)
    try:
        files = list(dict.fromkeys(file for path in paths for file in _files(path, recursive)))
        FileSystems.create(jsonl).close()  # fail now, not after hours, if it cannot be written
        with beam.Pipeline(options=options) as pipeline:
            rows = (
                pipeline
                | "files" >> beam.Create([json.dumps(file) for file in files])
                | "spread" >> beam.Reshuffle()  # otherwise one worker would process everything
                | "measure" >> beam.ParDo(MeasureFile(models, rules))
            )
            _ = rows | "rows" >> beam.io.WriteToText(jsonl, shard_name_template="")
        with FileSystems.open(jsonl, compression_type=CompressionTypes.UNCOMPRESSED) as lines:
            found = [row_from(json.loads(line)) for line in lines.read().decode("ascii").splitlines()]
    except (OSError, ValueError, beam.io.filesystem.BeamIOError) as error:
        raise UsageError(f"cannot be used ({error})", where="--beam", remedy="Check PATH and --jsonl") from error
    order = {file: number for number, file in enumerate(files)}
    return sorted(found, key=lambda row: order[row.file])


class MeasureFile(beam.DoFn):
    """A file's name as JSON in, its row as JSON out, whatever the file is."""

    def __init__(self, models: Models, rules: Rules) -> None:
        self._models, self._rules = models, rules

    def setup(self) -> None:
        require_face_model()
        cv2.setNumThreads(1)

    def process(self, element: str) -> Iterator[str]:
        file = json.loads(element)
        yield json.dumps(self._row(file).to_dict(self._rules), allow_nan=False)

    def _row(self, file: str) -> Row:
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / f"recording{posixpath.splitext(file)[1]}"
            try:
                copy_here(file, local)
            except (OSError, ValueError, beam.io.filesystem.BeamIOError) as error:
                return unreadable(file, f"cannot be read ({error})")
            row = measure_file(self._models, self._rules, str(local))
        measured = row.measured and row.measured | {"file": file}
        return replace(row, file=file, measured=measured, identity=row.identity | {"path": file})


def beam_options(arguments: Sequence[str]) -> PipelineOptions:
    """Parse Beam's options. Raises UsageError for options that Beam would only warn about."""
    try:
        options = PipelineOptions(list(arguments))
        unknown = set(options.get_all_options(retain_unknown_options=True)) - set(options.get_all_options())
    except SystemExit as error:  # argparse has already printed the error
        raise UsageError("an option of Beam is wrong", where="--beam", remedy="See above") from error
    if unknown:
        named = ", ".join(f"--{name}" for name in sorted(unknown))
        remedy = "Options that avdrift does not have go to Apache Beam: see the documentation of its runner"
        raise UsageError(f"unknown: {named}", where="--beam", remedy=remedy)
    options.view_as(SetupOptions).save_main_session = False  # everything that workers run is in installed modules
    return options


def _files(path: str, recursive: bool) -> list[str]:
    """A file as it was named, or the recordings of a folder."""
    below = FileSystems.match([FileSystems.join(path, "**" if recursive else "*")])[0].metadata_list
    names = sorted(found.path for found in below)
    skipped = [name for name in names if posixpath.splitext(name)[1].lower() not in ENDINGS]
    if skipped:
        print(f"{path}: {len(skipped)} other files skipped", file=sys.stderr)
    return [name for name in names if name not in set(skipped)] if names else [path]


def copy_here(source: str, target: Path) -> None:
    """Copy a file from one of Beam's file systems to this machine. Raises OSError, ValueError or BeamIOError."""
    # Read without decompression: Beam would decompress a name that ends in .gz.
    with (
        FileSystems.open(source, compression_type=CompressionTypes.UNCOMPRESSED) as remote,
        target.open("wb") as local,
    ):
        shutil.copyfileobj(remote, local, _COPY_BYTES)
