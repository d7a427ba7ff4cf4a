"""The command `avdrift-convert`. Exit codes as of `avdrift`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from device import __version__
from device.command import guarded
from device.towers.bundle import load_bundle
from device.towers.signature import sign
from train.fit_options import require_tensorflow


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="avdrift-convert", description="From trained towers to a bundle.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="float32 and int8 bundles of a training run, and proof that they agree")
    build.add_argument("run", type=Path, help="folder that avdrift-train fit has written")
    build.add_argument("--shards", type=Path, nargs="+", required=True, help="prepared clips, of both splits")
    build.add_argument("--out", type=Path, required=True, help="folder to write OUT/float32 and OUT/int8 into")
    build.add_argument("--calibration", type=Path, help="what avdrift-train calibrate has written")
    build.add_argument("--name", default="avdrift-towers")
    build.add_argument("--model-version", default=__version__)
    build.add_argument("--examples", type=_count, default=300, help="stretches that int8 takes its scales from (300)")
    build.add_argument("--max-loss", type=_share, default=0.01, help="share of windows that int8 may lose (0.01)")
    verify = commands.add_parser("verify", help="check a bundle as the device would")
    verify.add_argument("bundle", type=Path)
    signed = commands.add_parser("sign", help="sign a bundle with ssh-keygen, so that devices accept it")
    signed.add_argument("bundle", type=Path)
    signed.add_argument("--key", type=Path, required=True, help="private key that ssh-keygen -t ed25519 has made")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    options = build_parser().parse_args(argv)
    commands = {"build": _build, "verify": _verify, "sign": _sign}
    return guarded("avdrift-convert", lambda: commands[options.command](options))


def _verify(options: argparse.Namespace) -> int:
    print(f"{options.bundle}: {load_bundle(options.bundle).label}, all checks passed")
    return 0


def _sign(options: argparse.Namespace) -> int:
    load_bundle(options.bundle)  # nobody should vouch for what no device would load
    print(sign(options.bundle, options.key))
    return 0


def _build(options: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    require_tensorflow()
    from convert.build import build  # TensorFlow takes seconds to load, and verify does without

    parity = build(
        options.run, options.shards, options.out, name=options.name, version=options.model_version,
        calibration=options.calibration, example_count=options.examples, max_loss=options.max_loss,
    )  # fmt: skip
    print(json.dumps(asdict(parity)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
