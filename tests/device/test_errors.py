"""Every error carries its documented exit code and says what happened, where, and what to do."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from device import errors
from device.errors import AvdriftError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AvdriftError)]
TREE = errors.__doc__ or ""


def documented() -> dict[str, tuple[int, str | None]]:
    """Exit code and parent of each class, read from the tree that the docstring draws."""
    found: dict[str, tuple[int, str | None]] = {}
    above: list[tuple[int, str]] = []
    for line in TREE.splitlines():
        if match := re.match(r"([ │├└─]*)(\w+Error) +(\d)", line):
            depth = len(match[1])
            above = [(d, name) for d, name in above if d < depth]
            found[match[2]] = (int(match[3]), above[-1][1] if above else None)
            above.append((depth, match[2]))
    return found


def test_the_tree_shows_every_class() -> None:
    assert set(documented()) == {kind.__name__ for kind in KINDS} and len(KINDS) == 20


@pytest.mark.parametrize("kind", KINDS)
def test_exit_code_and_parent_are_the_documented_ones(kind: type[AvdriftError]) -> None:
    code, parent = documented()[kind.__name__]
    assert kind.exit_code == code
    assert kind.__bases__[0].__name__ == (parent or "Exception")


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    codes = {kind.__name__: kind.exit_code for kind in KINDS}
    assert (codes["UsageError"], codes["CaptureError"], codes["ModelError"], codes["TransportError"]) == (2, 3, 4, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_says_what_where_and_what_to_do(kind: type[AvdriftError]) -> None:
    error = kind("has no sound", where="talk.mp4", remedy="Record it again")
    assert str(error) == "talk.mp4: has no sound. Record it again"
    assert (error.what, error.where, error.remedy) == ("has no sound", "talk.mp4", "Record it again")


def test_place_and_remedy_cannot_be_left_out() -> None:
    with pytest.raises(TypeError):
        AvdriftError("has no sound")  # type: ignore[call-arg]


def test_errors_of_ours_are_not_errors_of_pythons() -> None:
    """`except OSError` or `except ValueError` beside them must not catch them unnoticed."""
    for kind in KINDS:
        assert not issubclass(kind, OSError | ValueError | RuntimeError | KeyError)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_travels_between_processes(kind: type[AvdriftError]) -> None:
    """Work in parallel hands its errors to the process that reports them."""
    error = kind("has no sound", where="talk.mp4", remedy="Record it again")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind and str(back) == str(error) and back.where == "talk.mp4"
