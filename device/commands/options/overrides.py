"""The configuration, overridden by the options of the command line."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace

from device.commands.options.limits import given_limits
from device.config.file import load_config
from device.config.settings import Config, MeasureSettings
from device.standards import OWN_PROFILE


def overridden_config(options: argparse.Namespace) -> Config:
    """The configuration file, overridden by the given options. Raises UsageError with all problems."""
    config = load_config(options.config) if options.config else Config()
    log = config.log
    if options.log_level is not None:
        log = replace(log, level=options.log_level)
    if options.log_json:
        log = replace(log, json=True)
    limits = given_limits(options) or config.limits
    return replace(config, measure=overridden_settings(options, config.measure), limits=limits, log=log)


def overridden_settings(options: argparse.Namespace, settings: MeasureSettings) -> MeasureSettings:
    """The settings, overridden by the given options."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    if options.limits:
        given["profile"] = OWN_PROFILE
    return replace(settings, **{key.name: given[key.name] for key in fields(settings) if key.name in given})
