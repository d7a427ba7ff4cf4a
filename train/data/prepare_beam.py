"""`avdrift-train prepare CLIPS OUT --beam`: prepare a corpus that outgrows one machine, with Apache Beam.

The same shards as from `prepare` on one machine, one clip per element: with the direct runner here, or with those of
Flink, Spark or Dataflow by Beam's own options (`--runner FlinkRunner --flink_master …`). CLIPS and OUT are whatever
Beam's file systems support (a shared folder, `gs://`, `s3://`, `hdfs://`). Workers copy a clip, prepare it, and copy
its shard back under its final name only when it is complete, so an interrupted run resumes where it stopped.

Workers need avdrift itself (`--setup_file`, or a container with it), and once the network, for the face models.
"""

from __future__ import annotations

import json
import posixpath
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import cv2
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from device.check.beam import beam_options, copy_here
from device.errors import CaptureError, InputMissingError, UsageError
from device.features.model_download import require_face_model
from train.data.clip_table import ClipRow, read_rows, shard_name
from train.data.landmarks import fetch_landmark_model
from train.data.prepare import prepare_clip

SKIPPED = "skipped.jsonl"


def prepare_with_beam(clips: str, out: str, arguments: Sequence[str]) -> int:
    """Write a shard for every clip that has none yet; return the number of skipped clips.

    `arguments` are Beam's own. Reasons for skipping are in `OUT/skipped.jsonl` and on standard error.
    Raises CaptureError for an unreadable folder or table, UsageError for invalid options or an impossible OUT.
    """
    options = beam_options(arguments)
    rows = read_remote_rows(clips)
    try:
        if not FileSystems.exists(out):
            FileSystems.mkdirs(out)
        there = {posixpath.basename(found.path) for found in FileSystems.match([_join(out, "*.npz")])[0].metadata_list}
        FileSystems.create(_join(out, SKIPPED)).close()  # fail now, not after hours, if it cannot be written
    except (OSError, ValueError, beam.io.filesystem.BeamIOError) as error:
        raise UsageError(f"cannot be used ({error})", where=out, remedy="Choose another folder") from error
    todo = [row for row in rows if shard_name(row.file) not in there]
    skipped: list[dict[str, str]] = []
    if todo:
        with beam.Pipeline(options=options) as pipeline:
            problems = (
                pipeline
                | "clips" >> beam.Create(todo)
                | "spread" >> beam.Reshuffle()  # otherwise one worker would process everything
                | "prepare" >> beam.ParDo(PrepareClip(clips, out))
            )
            _ = problems | "why" >> beam.io.WriteToText(_join(out, SKIPPED), shard_name_template="")
        with FileSystems.open(_join(out, SKIPPED), compression_type=CompressionTypes.UNCOMPRESSED) as lines:
            skipped = [json.loads(line) for line in lines.read().decode().splitlines()]
    for found in skipped:
        print(f"skipped: {found['problem']}", file=sys.stderr)
    print(f"{len(rows) - len(skipped)} of {len(rows)} clips ready in {out}, {len(skipped)} skipped")
    return len(skipped)


def read_remote_rows(clips: str) -> list[ClipRow]:
    """The clips of a folder that Beam can reach. Raises InputMissingError, InputFormatError."""
    with tempfile.TemporaryDirectory() as work:
        _download(_join(clips, "clips.csv"), Path(work) / "clips.csv")
        try:
            return read_rows(Path(work))
        except CaptureError as error:
            raise type(error)(error.what, where=_join(clips, "clips.csv"), remedy=error.remedy) from error


class PrepareClip(beam.DoFn):
    """A clip's row in; nothing out if its shard exists, `{file, problem}` as JSON if the clip is unusable."""

    def __init__(self, clips: str, out: str) -> None:
        self._clips, self._out = clips, out

    def setup(self) -> None:
        require_face_model()  # a worker without them would skip every clip
        fetch_landmark_model()
        cv2.setNumThreads(1)

    def process(self, row: ClipRow) -> Iterator[str]:
        source, shard = _join(self._clips, row.file), _join(self._out, shard_name(row.file))
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / f"clip{Path(row.file).suffix}"
            made = Path(folder) / shard_name(row.file)
            try:
                _download(source, local)
                prepare_clip(local, row, made)
            except CaptureError as error:
                yield json.dumps({"file": row.file, "problem": f"{source}: {error.what}. {error.remedy}"})
                return
            _upload(made, shard)


def _download(source: str, target: Path) -> None:
    try:
        copy_here(source, target)
    except (OSError, ValueError, beam.io.filesystem.BeamIOError) as error:
        raise InputMissingError(f"cannot be read ({error})", where=source, remedy="Check the name") from error


def _upload(made: Path, shard: str) -> None:
    partial = f"{shard}.{made.parent.name}.part"  # two workers may get the same clip
    with made.open("rb") as local, FileSystems.create(partial, "application/octet-stream") as remote:
        shutil.copyfileobj(local, remote, 1 << 20)
    FileSystems.rename([partial], [shard])


def _join(folder: str, name: str) -> str:
    return FileSystems.join(folder, name)
