"""The options for the limits of the verdict, shared by all commands that give one."""

from __future__ import annotations

import argparse

from device.config.settings import LimitSettings
from device.standards import DEFAULT_PROFILE, OWN_PROFILE, PROFILES, Profile


def add_limit_options(parser: argparse.ArgumentParser, names: tuple[str, ...] = tuple(PROFILES)) -> None:
    """`names`: the profiles to choose from."""
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument("--profile", choices=names, help="limits for the verdict")
    limits.add_argument(
        "--limits", type=float, nargs=2, metavar=("EARLY", "LATE"), help="own limits in ms, such as --limits 40 -60"
    )


def given_limits(options: argparse.Namespace) -> LimitSettings | None:
    """The limits of --limits. Raises UsageError if they are impossible."""
    return LimitSettings(*options.limits) if options.limits else None


def chosen_limits(options: argparse.Namespace) -> tuple[str, Profile]:
    """The name of the profile and its limits. Raises UsageError if --limits is impossible."""
    if own := given_limits(options):
        return OWN_PROFILE, own.profile
    name = options.profile or DEFAULT_PROFILE
    return name, PROFILES[name]
