"""Every error and every line of the log that a test of this folder meets has the form of a message."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from device.errors import AvdriftError


def faults_of_error(**parts: object) -> list[str]:
    """What is wrong with the parts of `where: what. Remedy`."""
    texts = {name: part.strip() if isinstance(part, str) else "" for name, part in parts.items()}
    found = [f"{name}: {parts[name]!r}" for name, text in texts.items() if not text or text.isupper()]
    if texts["what"].endswith("."):
        found.append(f"ends like a sentence: {texts['what']!r}")
    if texts["remedy"][:1].islower():
        found.append(f"does not begin like a sentence: {texts['remedy']!r}")
    return found


def fault_of_record(record: logging.LogRecord) -> str | None:
    try:
        text = record.getMessage() if isinstance(record.msg, str) else ""
    except (TypeError, ValueError) as error:
        return f"cannot be formatted: {record.msg!r} with {record.args!r} ({error})"
    return None if text.strip() and not text.isupper() else f"no message: {record.msg!r}"


class Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if fault := fault_of_record(record):
            self.faults.append(fault)


@pytest.fixture(autouse=True)
def _messages_have_their_form(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    listener, init = Listener(), AvdriftError.__init__

    def checked(self: AvdriftError, what: str, *, where: str, remedy: str) -> None:
        listener.faults += faults_of_error(what=what, where=where, remedy=remedy)
        init(self, what, where=where, remedy=remedy)

    monkeypatch.setattr(AvdriftError, "__init__", checked)
    log = logging.getLogger("device")
    log.addHandler(listener)
    yield
    log.removeHandler(listener)
    assert not listener.faults
