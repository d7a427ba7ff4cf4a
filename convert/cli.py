"""The command `avdrift-convert`. Exit codes are those of `avdrift`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from convert.deployment.canary import deploy_by_canary
from convert.deployment.deploy import TIMEOUT_S, deploy, exit_code, plan, read_hosts, table
from convert.deployment.remote import SERVICE, Access
from convert.gate import accept
from convert.kinds import KINDS
from device import __version__
from device.bundles.bundle import Bundle, load_bundle
from device.bundles.gate import require_gate
from device.bundles.signature import sign
from device.commands.guard import guarded
from device.commands.options.output_file import check_output
from device.errors import UsageError
from train.model_card import DEFAULT_CARD
from train.models.backend import require_tensorflow


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="avdrift-convert", description="Makes a bundle of a trained model, and deploys it."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser(
        "build", help="make bundles of a training run in four formats, and prove that they agree"
    )
    build.add_argument("run", type=Path, help="folder that avdrift-train fit wrote")
    build.add_argument("--shards", type=Path, nargs="+", required=True, help="prepared clips, of both splits")
    build.add_argument("--out", type=Path, required=True, help="folder to write OUT/int8, OUT/float16 … into")
    build.add_argument("--calibration", type=Path, help="what avdrift-train calibrate wrote")
    build.add_argument("--name", default="avdrift-towers", help="name of the models (default: %(default)s)")
    build.add_argument("--model-version", default=__version__, help="version of the models (default: that of avdrift)")
    build.add_argument(
        "--examples", type=_count, default=300, help="number of clip segments that set the scales of int8 (300)"
    )
    build.add_argument(
        "--max-loss", type=_share, default=0.005, help="largest share of windows that a format may lose (0.005)"
    )
    build.add_argument("--card", type=Path, default=DEFAULT_CARD, help="texts of the model card (train/card.toml)")
    build.add_argument("--evaluation", type=Path, metavar="FILE.json", help="what avdrift-train evaluate wrote")
    build.add_argument("--recipe", type=Path, metavar="FILE.json", help="what avdrift-train retrain wrote")
    build.add_argument("--gate", type=Path, metavar="FILE.json", help="what avdrift-train gate wrote for this run")
    card = commands.add_parser("card", help="show the model card of a bundle, or make a new one (the digest changes)")
    card.add_argument("bundle", type=Path, help="folder with the bundle")
    card.add_argument("--page", type=Path, metavar="FILE.md", help="write the card to this page")
    card.add_argument("--force", action="store_true", help="let --page overwrite a file that is no Markdown")
    card.add_argument(
        "--texts", type=Path, metavar="CARD.toml", help="make a new card, with these texts (see train/card.toml)"
    )
    card.add_argument(
        "--evaluation", type=Path, metavar="FILE.json", help="use these figures of avdrift-train evaluate"
    )
    card.add_argument("--provenance", type=Path, metavar="FILE.json", help="use this instead of what fit recorded")
    verify = commands.add_parser("verify", help="verify a bundle as the device does")
    verify.add_argument("bundle", type=Path, help="folder with the bundle")
    signed = commands.add_parser("sign", help="sign a bundle with ssh-keygen, so that devices accept it")
    signed.add_argument("bundle", type=Path, help="folder with the bundle")
    signed.add_argument("--key", type=Path, required=True, help="private key, made by ssh-keygen -t ed25519")
    signed.add_argument("--accept-worse", action="store_true", help="sign models that failed their quality gate")
    _add_deploy(commands)
    return parser


def _add_deploy(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sent = commands.add_parser("deploy", help="deploy a bundle to devices over ssh and rsync, and wait for its trial")
    sent.add_argument("hosts", metavar="HOST", nargs="*", help="as for ssh: NAME or USER@NAME")
    sent.add_argument("--bundle", type=Path, required=True, help="folder with the bundle")
    sent.add_argument("--inventory", type=Path, metavar="FILE", help="file with more hosts, one per line")
    sent.add_argument("--key", type=Path, metavar="FILE", help="private key for ssh (default: as ssh is configured)")
    sent.add_argument("--ssh-config", type=Path, metavar="FILE", help="use this instead of ~/.ssh/config")
    called = sent.add_mutually_exclusive_group()
    called.add_argument(
        "--remote",
        metavar="COMMAND",
        type=_words,
        default="avdrift",
        help="the command on the device (default: avdrift)",
    )
    called.add_argument(
        "--service", action="store_true", help="install into the service on the device, as its own user"
    )
    sent.add_argument(
        "--timeout", type=_seconds, default=TIMEOUT_S, metavar="S",
        help=f"seconds to wait for the verdict of the trials; 0: do not wait ({TIMEOUT_S:g})",
    )  # fmt: skip
    sent.add_argument(
        "--canary", type=_count, metavar="N", help="deploy to N hosts first, and to the others once these pass"
    )
    sent.add_argument("--allow-unsigned", action="store_true", help="see avdrift model install")
    sent.add_argument("--allow-downgrade", action="store_true", help="see avdrift model install")
    sent.add_argument("--accept-worse", action="store_true", help="see avdrift model install")
    sent.add_argument("--dry-run", action="store_true", help="connect to every device, and change nothing")
    sent.add_argument("--json", action="store_true", help="print one JSON object per device instead of the table")


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def _seconds(text: str) -> float:
    return _number(text, 0, 1e6)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _share(text: str) -> float:
    return _number(text, 0, 1)


def _number(text: str, low: float, high: float) -> float:
    with suppress(ValueError):
        if low <= float(text) <= high:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:.0f} to {high:.0f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    return guarded("avdrift-convert", lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    commands = {"build": _build, "card": _card, "verify": _verify, "sign": _sign, "deploy": _deploy}
    return commands[options.command](options)


def _verify(options: argparse.Namespace) -> int:
    print(f"{options.bundle}: {_checked(options.bundle).label}, all checks passed")
    return 0


def _card(options: argparse.Namespace) -> int:
    from convert.card import page, read_evaluation, read_object, write_card
    from train.model_card import read_card

    anew = options.texts or options.evaluation or options.provenance
    texts = read_card(options.texts or DEFAULT_CARD)
    evaluation = read_evaluation(options.evaluation) if options.evaluation else None
    provenance = read_object(options.provenance, "Give a JSON object") if options.provenance else None
    manifest = _checked(options.bundle).manifest
    try:
        if anew:
            write_card(options.bundle, texts, evaluation, provenance)
            manifest = _checked(options.bundle).manifest
        shown = page(manifest)
        if options.page:
            check_output(options.page, (b"#", b"<!--"), force=options.force)
            options.page.write_text(shown, encoding="utf-8")
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise UsageError(what, where=str(error.filename), remedy="Name a file that this user may write") from error
    print(shown if not options.page else f"{options.page}: the card of {_checked(options.bundle).label}")
    return 0


def _checked(folder: Path) -> Bundle:
    return load_bundle(folder, KINDS, trusted=False)


def _sign(options: argparse.Namespace) -> int:
    manifest = _checked(options.bundle).manifest  # never sign a bundle that no device would load
    if options.accept_worse:
        accept(options.bundle, manifest)
    else:
        require_gate(manifest, str(options.bundle))
    print(sign(options.bundle, options.key))
    return 0


def _deploy(options: argparse.Namespace) -> int:
    hosts, turn = read_hosts(options.hosts, options.inventory), threading.Lock()
    access = Access(SERVICE if options.service else options.remote, options.key, options.ssh_config)
    access.require_files()
    job = plan(
        options.bundle, allow_unsigned=options.allow_unsigned, allow_downgrade=options.allow_downgrade,
        accept_worse=options.accept_worse, timeout_s=options.timeout, dry_run=options.dry_run,
    )  # fmt: skip

    def report(host: str, words: str) -> None:
        with turn:
            print(f"{host}: {words}", file=sys.stderr, flush=True)

    if options.canary:
        outcomes = deploy_by_canary(hosts, options.canary, job, access, report)
    else:
        outcomes = deploy(hosts, job, access, report)
    print("\n".join(json.dumps(asdict(outcome)) for outcome in outcomes) if options.json else table(outcomes))
    return exit_code(outcomes)


def _build(options: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    require_tensorflow("avdrift-convert build")
    from convert.build import build  # TensorFlow takes seconds to load, and verify does not need it

    reports = build(
        options.run, options.shards, options.out, name=options.name, version=options.model_version,
        calibration=options.calibration, example_count=options.examples, max_loss=options.max_loss, card=options.card,
        evaluation=options.evaluation, recipe=options.recipe, gate=options.gate,
    )  # fmt: skip
    for fmt, report in reports.items():
        print(json.dumps({"format": fmt} | report.to_dict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
