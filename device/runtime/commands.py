"""What a running daemon can be asked for: commands from other threads, answered from the daemon's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from device.errors import AvdriftError, UsageError


class Verb(StrEnum):
    RECALIBRATE = "recalibrate"
    SET_PROFILE = "set-profile"
    MODEL_ROLLBACK = "model-rollback"
    RESTART_SOURCES = "restart-sources"
    DIAGNOSTICS = "diagnostics"


@dataclass(frozen=True, slots=True)
class Command:
    """One request. `reply` gets one answer, always: `verb`, `ok`, `error` (None or words), and what was asked for."""

    verb: Verb
    args: Mapping[str, str | float | bool]
    reply: Callable[[dict[str, object]], None]

    def answer(self, **found: object) -> None:
        self.reply({"verb": self.verb.value, "ok": True, "error": None, **found})

    def refuse(self, error: AvdriftError) -> None:
        self.reply({"verb": self.verb.value, "ok": False, "error": str(error)})


def refusal(verb: Verb, what: str, remedy: str) -> UsageError:
    """An error that says why a command is not carried out."""
    return UsageError(what, where=verb.value, remedy=remedy)
