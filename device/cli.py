"""The command `avdrift`. Exit codes: 0 done, 2 usage, 3 capture or input file, 4 model, 5 transport."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path

import cv2

from device import __version__
from device.capture.file import FileSource
from device.command import guarded
from device.config import DEFAULT_SEARCH_MS, Config, MeasureSettings
from device.config_file import DEFAULT_FILE, load_config, read_config
from device.errors import AvdriftError, UsageError
from device.features.fetch import fetch_face_model, require_face_model
from device.model_cli import add_model_commands, add_store_option, chosen_bundle, model_command
from device.records import Report
from device.runtime.daemon import Daemon
from device.runtime.measure import measure
from device.sync.verdict import PROFILES
from device.telemetry.log import Summary, as_json, as_text
from device.telemetry.systemd import Notifier
from device.towers.bundle import DEFAULT_BUNDLE, Bundle


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="avdrift", description="Measures how far sound and picture are apart.")
    parser.add_argument("--version", action="version", version=f"avdrift {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    # None is what was not given, and leaves it to the configuration.
    bundle = argparse.ArgumentParser(add_help=False)
    bundle.add_argument("--bundle", type=Path, help="folder with the models (default: the installed or built-in ones)")
    add_store_option(bundle)
    search = argparse.ArgumentParser(add_help=False)
    search.add_argument("--search-ms", type=float, help=f"largest offset to look for (default: {DEFAULT_SEARCH_MS:g})")
    daemon = argparse.ArgumentParser(add_help=False)
    daemon.add_argument(
        "--window", dest="window_s", type=float, metavar="S", help="seconds that one report looks back on"
    )
    daemon.add_argument("--every", dest="report_every_s", type=float, metavar="S", help="seconds from report to report")
    daemon.add_argument("--profile", choices=PROFILES, help="limits for the verdict")

    run = commands.add_parser("run", parents=[bundle, search, daemon], help="measure and report until stopped")
    run.add_argument("--source", metavar="FILE", help="a recording instead of camera and microphone, at real-time pace")
    run.add_argument("--config", type=Path, metavar="FILE", help="a configuration file; options given here win over it")
    replay = commands.add_parser("replay", parents=[bundle, search, daemon], help="the whole daemon on a recording")
    replay.add_argument("file", metavar="FILE")
    replay.add_argument("--speed", choices=("max", "realtime"), default="max")
    replay.add_argument("--json", action="store_true", help="one JSON report a line, the same as live")
    measured = commands.add_parser("measure", parents=[bundle, search], help="the offset of recordings")
    measured.add_argument("files", metavar="FILE", nargs="+")
    measured.add_argument("--window", type=float, metavar="S", help="also each consecutive window of S seconds")
    measured.add_argument("--json", action="store_true", help="one JSON object a file")
    bench = commands.add_parser("bench", help="what each stage costs here, beside SyncNet")
    bench.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder with the models")
    bench.add_argument("--source", metavar="FILE", help="the recording to work on (default: the built-in sample)")
    bench.add_argument("--json", action="store_true")
    add_model_commands(commands)
    checked = commands.add_parser("check-config", help="every problem of a configuration file")
    checked.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", default=DEFAULT_FILE, help="default: %(default)s"
    )
    checked.add_argument("--json", action="store_true", help="one JSON object")
    commands.add_parser("fetch-face", help="get the face detector's model, which is not part of avdrift")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    cv2.setNumThreads(1)  # pictures are small: threads cost more than they give
    options = build_parser().parse_args(argv)
    commands = {
        "run": _run, "replay": _replay, "measure": _measure, "bench": _bench, "check-config": _check_config,
        "fetch-face": _fetch_face, "model": model_command,
    }  # fmt: skip
    return guarded("avdrift", lambda: commands[options.command](options))


def _settings(options: argparse.Namespace, configured: MeasureSettings) -> MeasureSettings:
    """What is configured, with what was given on the command line put over it."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    return replace(configured, **{key.name: given[key.name] for key in fields(configured) if key.name in given})


@contextmanager
def _stopping(daemon: Daemon) -> Iterator[None]:
    """SIGTERM and SIGINT end the daemon cleanly."""
    before = {number: signal.signal(number, lambda *_: daemon.stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(options: argparse.Namespace) -> int:
    config, folder = (load_config(options.config), options.config.parent) if options.config else (Config(), Path())
    file, bundle = options.source, options.bundle
    if file is None and config.source.file:
        file = str(folder / config.source.file)
    if bundle is None and config.model.bundle:
        bundle = folder / config.model.bundle
    if file is None:
        remedy = "Give --source FILE, or file under [source] in a configuration"
        raise UsageError("this version measures recordings only", where="avdrift run", remedy=remedy)
    settings, towers = _settings(options, config.measure), chosen_bundle(bundle, options.store)
    return _follow(settings, towers, file, realtime=True, as_lines=True)


def _replay(options: argparse.Namespace) -> int:
    settings, bundle = _settings(options, MeasureSettings()), chosen_bundle(options.bundle, options.store)
    return _follow(settings, bundle, options.file, realtime=options.speed == "realtime", as_lines=options.json)


def _follow(settings: MeasureSettings, bundle: Bundle, file: str, *, realtime: bool, as_lines: bool) -> int:
    summary = Summary()

    def publish(report: Report, t_s: float | None) -> None:
        print(as_json(report) if as_lines else as_text(report, t_s), flush=True)
        summary.add(report, t_s)
        systemd.report(report)
        systemd.heartbeat()

    with closing(Notifier()) as systemd, FileSource(file) as source:
        daemon = Daemon(bundle, require_face_model(), settings, publish)
        with _stopping(daemon):
            daemon.run(source, realtime=realtime)
        if source.damaged:
            print(f"avdrift: {file}: damaged: {source.damaged}", file=sys.stderr)
    sys.stdout.flush()
    summary.write(sys.stderr)
    return 0


def _measure(options: argparse.Namespace) -> int:
    bundle, face_model = chosen_bundle(options.bundle, options.store), require_face_model()
    search_ms = DEFAULT_SEARCH_MS if options.search_ms is None else options.search_ms
    exit_code = 0
    for file in options.files:
        try:
            found = measure(Path(file), bundle, face_model, window_s=options.window, search_ms=search_ms)
        except AvdriftError as error:
            if isinstance(error, UsageError):
                raise
            # One bad file must not keep the others from being measured.
            print(f"avdrift: {error}", file=sys.stderr)
            exit_code = exit_code or error.exit_code
            continue
        damaged = found.pop("damaged")
        if damaged:
            print(f"avdrift: {file}: damaged: {damaged}", file=sys.stderr)
        if options.json:
            print(json.dumps(found, allow_nan=False), flush=True)
        else:
            _print_measured(found)
    return exit_code


def _print_measured(found: dict[str, object]) -> None:
    windows = found.get("windows")
    rows = [("", found)]
    if isinstance(windows, list):
        rows += [(f"  {window['t_s']:8.1f} s", window) for window in windows]
    for name, row in rows:
        offset = f"{row['offset_ms']:+.0f} ms" if row["offset_ms"] is not None else "no offset"
        confidence = f", confidence {row['confidence']:.2f}" if row["confidence"] is not None else ""
        print(f"{name or str(found['file']) + ':'} {offset}, {row['state']}{confidence}")


def _bench(options: argparse.Namespace) -> int:
    from device.bench.pipeline import bench  # its SyncNet needs LiteRT's schema, which the daemon does not

    bench(options.bundle, options.source, as_json=options.json)
    return 0


def _check_config(options: argparse.Namespace) -> int:
    _, problems = read_config(options.file)
    if options.json:
        found = [asdict(problem) for problem in problems]
        print(json.dumps({"file": str(options.file), "correct": not problems, "problems": found}))
    else:
        text = "\n".join(problem.text(options.file) for problem in problems) or f"{options.file}: correct"
        # A file's name may hold bytes that no encoding can write.
        print(text.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding))
    return UsageError.exit_code if problems else 0


def _fetch_face(options: argparse.Namespace) -> int:
    print(fetch_face_model())
    return 0


if __name__ == "__main__":
    sys.exit(main())
