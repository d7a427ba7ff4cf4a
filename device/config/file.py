"""The device's configuration file: reading it with all problems at once, and writing an older one in today's format.

`device.config.toml_reader` reports what is wrong in which line; this module defines the contents.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from device.config.migrations import migrated, version_of
from device.config.settings import CONFIG_VERSION, SECTIONS, Config, default_text
from device.config.toml_reader import Form, Problem, parse, read_form, read_text, require_correct
from device.errors import UsageError

DEFAULT_FILE = Path("/etc/avdrift/avdrift.toml")
FORM = Form(CONFIG_VERSION, SECTIONS)


def load_config(file: Path) -> Config:
    """Load the configuration from a file. Raises UsageError with all of its problems."""
    config, problems = read_config(file)
    require_correct(file, problems)
    return config


def read_config(file: Path) -> tuple[Config, list[Problem]]:
    """Return the configuration and its problems by line; with any problem, the configuration is the default."""
    sections, problems = read_form(file, FORM, migrated)
    return Config(**sections), problems


def older_version(file: Path) -> int | None:
    """The format version of a valid file that is older than today's; None for any other file."""
    text = read_text(file)
    document = parse(text) if isinstance(text, str) else text
    version = version_of(document) if isinstance(document, dict) else None
    return version if version is not None and version < CONFIG_VERSION and not read_config(file)[1] else None


def write_migrated(file: Path) -> Path:
    """Write a valid file's settings in today's format beside it, as FILE.new; the annotations are the default file's.

    The file itself and its owner's comments stay unchanged. Raises UsageError if the file has problems, or if nothing
    can be written.
    """
    new = file.with_name(f"{file.name}.new")
    text = default_text(load_config(file))
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "w") as stream:
            stream.write(text)
    except OSError as error:
        remedy = f"Make {file.parent} writable, or remove an older {new.name}"
        raise UsageError(f"nothing was written ({error.strerror})", where=str(new), remedy=remedy) from error
    return new
