"""What a user may ask of the running daemon, from wherever it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Verb(StrEnum):
    RECALIBRATE = "recalibrate"
    SET_PROFILE = "set-profile"
    MODEL_ROLLBACK = "model-rollback"
    RESTART_SOURCES = "restart-sources"
    DIAGNOSTICS = "diagnostics"


@dataclass(frozen=True, slots=True)
class Command:
    """One request. `reply` takes `{"verb", "ok", "error", …}`, once, from any thread."""

    verb: Verb
    args: dict[str, str | float | bool]
    reply: Callable[[dict[str, object]], None]
