"""The command `avdrift check`: many recordings, limits, reports and an exit code."""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from device.capture.memory import MEMORY_MB
from device.check.find import ENDINGS, Found, find
from device.check.html_report import write_html
from device.check.journal import Journal
from device.check.junit import require_junit, write_junit
from device.check.markers import require_markers, write_markers
from device.check.measure_file import Models, measure_file
from device.check.pool import Lost, each
from device.check.row import FailOn, Result, Row, Rules, unreadable
from device.check.tables import line, print_table, totals, write_csv
from device.commands.options.limits import add_limit_options, chosen_limits
from device.commands.options.memory import add_memory_option
from device.commands.options.models import chosen_bundle
from device.commands.options.output_file import check_output
from device.commands.options.tracks import add_track_options, track_choice
from device.config.file import load_config
from device.config.settings import SEARCH_MS, MeasureSettings
from device.errors import UsageError
from device.features.model_download import require_face_model
from device.progress import Progress
from device.standards import limits_of

ALL_WITHIN_LIMITS, BEYOND_LIMITS, SOME_UNREADABLE = 0, 1, 3
_MAX_JOBS = 64
_REPORT_HEADS = (b"file,result,", b"<?xml ", b"<!DOCTYPE html>", b"name,comment,", b"TITLE:", b'{\n    "OTIO_SCHEMA"')
_ROW_HEAD = b'{"file": '
# per file: ten times real time for the lowest bit rates on a slow computer
_LIMIT_S, _LIMIT_BYTES_PER_S = 600.0, 100_000


def add_check_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], parents: list[argparse.ArgumentParser]
) -> None:
    check = commands.add_parser(
        "check", parents=parents, help="check many recordings against limits, and write reports"
    )
    check.add_argument("paths", metavar="PATH", nargs="+", help="a recording, or a folder with recordings")
    check.add_argument("--recursive", action="store_true", help="include the folders within a folder")
    check.add_argument("--jobs", type=int, metavar="N", help="files at a time (default: one per processor core)")
    add_limit_options(check)
    add_track_options(check)
    check.add_argument("--config", type=Path, metavar="FILE", help="take profile and limits from a configuration file")
    check.add_argument(
        "--fail-on", action="append", choices=[word.value for word in FailOn], default=[],
        help="also fail for this; may be given several times (what is unacceptable always fails)",
    )  # fmt: skip
    check.add_argument("--time-limit", type=float, metavar="S", help="for one file (default: by its size)")
    check.add_argument("--jsonl", metavar="FILE", help="a JSON object a file, written as files are done")
    check.add_argument("--resume", action="store_true", help="continue where an earlier run with this --jsonl stopped")
    check.add_argument("--csv", type=Path, metavar="FILE", help="a table")
    check.add_argument("--junit", type=Path, metavar="FILE", help="JUnit XML, for build servers")
    check.add_argument("--html", type=Path, metavar="FILE", help="one page with curves, for people")
    check.add_argument(
        "--markers", type=Path, metavar="FILE.otio|.edl|.csv", help="steps and pieces for an editor; of one recording"
    )
    add_memory_option(check)
    check.add_argument("--force", action="store_true", help="let reports overwrite files that are not reports")
    check.add_argument(
        "--beam", nargs=argparse.REMAINDER, metavar="OPTION",
        help="on Apache Beam; must come last, as all that follows is for Beam, such as --runner FlinkRunner",
    )  # fmt: skip


def check_command(options: argparse.Namespace) -> int:
    """Check all files; return the exit code. Raises UsageError, ModelError."""
    _refuse_clashes(options)
    rules, models = _rules(options)
    if options.beam is not None:
        rows, found = _on_beam(options, rules, models), Found()
    else:
        found = find([Path(path) for path in options.paths], recursive=options.recursive)
        if not found.files and not found.unreadable_folders:
            what = f"no recordings there ({found.skipped} other files)"
            remedy = f"Name files, or folders whose files end in {', '.join(sorted(ENDINGS))}"
            raise UsageError(what, where=", ".join(options.paths), remedy=remedy)
        rows = _check(options, rules, models, found)
    _write_reports(options, rules, rows)
    print_table(rows)
    print(totals(rows) + _left_out(found))
    if any(row.result is Result.UNREADABLE for row in rows):
        return SOME_UNREADABLE
    return BEYOND_LIMITS if any(row.result is Result.FAILED for row in rows) else ALL_WITHIN_LIMITS


def _refuse_clashes(options: argparse.Namespace) -> None:
    def refuse(what: str, where: str, remedy: str) -> None:
        raise UsageError(what, where=where, remedy=remedy)

    if options.jobs is not None and not 1 <= options.jobs <= _MAX_JOBS:
        refuse(f"{options.jobs} is not possible", "--jobs", f"Give 1 to {_MAX_JOBS}")
    if options.time_limit is not None and not options.time_limit > 0:
        refuse(f"{options.time_limit:g} s is not possible", "--time-limit", "Give more than 0")
    if not MEMORY_MB.allows(options.max_memory_mb):
        refuse(f"{options.max_memory_mb:g} MB is not possible", "--max-memory", f"Give {MEMORY_MB} MB")
    if options.resume and not options.jsonl:
        refuse("needs the journal of the run that stopped", "--resume", "Give --jsonl FILE")
    if options.markers and (len(options.paths) != 1 or Path(options.paths[0]).is_dir()):
        refuse("is for one recording", "--markers", "Give one PATH, of a file")
    if options.config and (options.profile or options.limits):
        refuse("already gives the limits", "--config", "Leave out --profile and --limits")
    if options.beam is not None and (options.resume or options.jobs or options.markers):
        refuse("cannot be combined with --resume, --jobs or --markers", "--beam", "Leave them out")
    if options.beam is not None and not options.jsonl:
        refuse("needs a file that all workers can reach", "--beam", "Give --jsonl FILE")
    if options.beam is not None:
        check_output(Path(options.jsonl), (_ROW_HEAD,), force=options.force)  # remote files are not examined
    if options.junit:
        require_junit()
    if options.markers:
        require_markers(options.markers)
    for report in filter(None, (options.csv, options.junit, options.html, options.markers)):
        if not os.access(report.absolute().parent, os.W_OK):  # fail now, not after hours
            refuse("its folder is not there, or cannot be written to", str(report), "Give another file name")
        check_output(report, _REPORT_HEADS, force=options.force)


def _rules(options: argparse.Namespace) -> tuple[Rules, Models]:
    settings = MeasureSettings()
    if options.config:
        config = load_config(options.config)
        settings, profile = config.measure, config.measure.profile
        limits = limits_of(profile, config.limits.profile)
        assert limits is not None  # the configuration allows no other name
    else:
        profile, limits = chosen_limits(options)
    search_ms = settings.search_ms if options.search_ms is None else options.search_ms
    if not SEARCH_MS.allows(search_ms):
        raise UsageError(f"{search_ms:g} ms is not possible", where="--search-ms", remedy=f"Give {SEARCH_MS}")
    bundle = chosen_bundle(options.bundle, options.store)
    require_face_model()  # otherwise each worker would download it
    fail_on = tuple(sorted({FailOn.UNACCEPTABLE, *map(FailOn, options.fail_on)}))
    models = Models(options.bundle, options.store, bundle.digest)
    return Rules(profile, limits, fail_on, search_ms, bundle.label, track_choice(options)), models


def _check(options: argparse.Namespace, rules: Rules, models: Models, found: Found) -> list[Row]:
    """The rows of all files, in the order in which they were found; each is printed when it is done."""
    rows = {folder: unreadable(folder, f"cannot be read ({why})") for folder, why in found.unreadable_folders.items()}
    with ExitStack() as stack:
        journal = None
        if options.jsonl:
            journal = stack.enter_context(Journal(Path(options.jsonl), rules, resume=options.resume))
        progress = stack.enter_context(Progress("check", len(found.files), shown_after_s=0.0))
        known = {file: replace(row, file=file) for file in found.files if journal and (row := journal.done(file))}
        progress.advance(len(known))
        todo = [file for file in found.files if file not in known]
        for row in rows.values():
            progress.print(line(row))
        for row in stack.enter_context(closing(_measured(options, rules, models, todo))):
            if journal:
                journal.add(row)
            progress.print(line(row))
            progress.advance()
            rows[row.file] = row
    return [*(rows[folder] for folder in found.unreadable_folders), *((known | rows)[file] for file in found.files)]


def _measured(options: argparse.Namespace, rules: Rules, models: Models, files: Sequence[str]) -> Generator[Row]:
    """Yield rows as files are done."""

    def limit_s(file: str) -> float:
        if options.time_limit is not None:
            return float(options.time_limit)
        size = Path(file).stat().st_size if Path(file).is_file() else 0
        return _LIMIT_S + size / _LIMIT_BYTES_PER_S

    workers = options.jobs or min(len(os.sched_getaffinity(0)), _MAX_JOBS)
    measure = partial(measure_file, models, rules, max_memory_mb=options.max_memory_mb)
    with closing(each(measure, files, workers=workers, limit_s=limit_s)) as answers:
        for file, answer in answers:
            yield unreadable(file, answer.why) if isinstance(answer, Lost) else answer


def _on_beam(options: argparse.Namespace, rules: Rules, models: Models) -> list[Row]:
    try:
        from device.check.beam import check_with_beam
    except ImportError as error:
        remedy = "Install avdrift with it: pip install 'avdrift[beam]'"
        raise UsageError(f"Apache Beam cannot be imported ({error})", where="--beam", remedy=remedy) from error
    rows = check_with_beam(options.paths, options.jsonl, options.beam, models, rules, recursive=options.recursive)
    for row in rows:
        print(line(row))
    return rows


def _write_reports(options: argparse.Namespace, rules: Rules, rows: list[Row]) -> None:
    if options.csv:
        write_csv(rows, options.csv)
    if options.junit:
        write_junit(rows, rules, options.junit)
    if options.html:
        write_html(rows, rules, options.html)
    if options.markers:
        write_markers(rows[0], options.markers)


def _left_out(found: Found) -> str:
    left_out = [f"{found.skipped} other files skipped"] if found.skipped else []
    left_out += [f"{found.duplicates} found twice"] if found.duplicates else []
    return f" ({', '.join(left_out)})" if left_out else ""
