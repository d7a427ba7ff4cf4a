"""The file that `avdrift fix` writes: whether it may, how it is opened and named, and errors with their remedies."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer

from device.capture.container import is_cover
from device.errors import AvdriftError, InputFormatError, UsageError
from device.fix.unfinished import unfinished

_MP4_LIKE = {".mp4", ".m4v", ".mov"}
_SOUND_IN_PICTURES = {"dv", "gxf", "mxf_d10", "mxf_opatom"}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}  # on FAT, for one
_FULL = {errno.ENOSPC: "no space left", errno.EDQUOT: "quota used up", errno.EFBIG: "too large for this file system"}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_REMEDY = "Give a name that ends in .mp4, .mkv, .mov, .webm or .ts, in a folder that can be written"


class InMemory(io.BytesIO):
    """A file in memory, with a name that tells the container."""

    def __init__(self, target: Path) -> None:
        super().__init__()
        self.name = target.name


def check_target(source: Path, target: Path, force: bool) -> None:
    """Raises UsageError if this path may not become the copy."""
    with suppress(OSError):
        if source.samefile(target):
            raise UsageError("is the recording itself", where=str(target), remedy="Give another name for the copy")
    if not target.parent.is_dir():
        raise UsageError(
            "cannot be written (no such folder)", where=str(target), remedy=f"Make the folder {target.parent} first"
        )
    if target.is_dir() or (os.path.lexists(target) and not force):
        raise exists_error(target)


def exists_error(target: Path) -> UsageError:
    """The error for a path that is taken."""
    return UsageError("exists already", where=str(target), remedy="Give another name, or --force to overwrite a file")


@contextmanager
def reserved(target: Path) -> Iterator[Path]:
    """An unfinished file beside the target. Raises UsageError if it cannot be made."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(unfinished(target))
        except (OSError, ValueError) as error:
            raise _write_error(error, target) from None
        yield made


def _write_error(error: Exception, target: Path) -> UsageError:
    number, reason = getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)
    if number in _FULL:
        remedy = "Make room there, or write to another disk"
        return UsageError(f"cannot be written ({_FULL[number]} in {target.parent})", where=str(target), remedy=remedy)
    if number in _CLOSED:
        remedy = "Give a folder that you may write to"
        return UsageError(f"cannot be written ({reason}: {target.parent})", where=str(target), remedy=remedy)
    return UsageError(f"cannot be written ({reason})", where=str(target), remedy=_REMEDY)


def copy_error(error: Exception, source: Path, target: Path) -> AvdriftError:
    """The error for a copy that failed: the disk is full, or FFmpeg refuses a track."""
    if getattr(error, "errno", None) in _FULL:
        return _write_error(error, target)
    reason = getattr(error, "strerror", None) or error
    what = f"cannot be copied into {target.suffix}, where FFmpeg does not write its tracks ({reason})"
    return InputFormatError(what, where=str(source), remedy=try_another(target))


def try_another(target: Path) -> str:
    """The remedy if this container is unsuitable."""
    return f"Try another container, such as {'OUT.mp4' if target.suffix.lower() == '.mkv' else 'OUT.mkv'}"


def give_name(made: Path, target: Path, force: bool) -> None:
    """Give the complete file its name. Raises FileExistsError without `force`."""
    if force:
        made.replace(target)
        return
    try:
        os.link(made, target)  # never replaces a file that has appeared meanwhile
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        made.replace(target)


def open_target(made: Path | InMemory, target: Path, given: InputContainer) -> OutputContainer:
    """Open the container for writing. Raises UsageError if it cannot be made, or cannot move sound."""
    # Either metadata of any name or a cover: FFmpeg's muxer writes only one of the two.
    any_name = target.suffix.lower() in _MP4_LIKE and not any(is_cover(stream) for stream in given.streams)
    options = {"movflags": "use_metadata_tags"} if any_name else {}
    try:
        out = av.open(f"file:{made}" if isinstance(made, Path) else made, "w", options=options)
    except (OSError, ValueError, av.FFmpegError) as error:
        raise _write_error(error, target) from None
    if out.format.name in _SOUND_IN_PICTURES:
        out.close()
        what = f"cannot be written ({out.format.long_name} has no way to move audio against video)"
        raise UsageError(what, where=str(target), remedy="Give a name that ends in .mov or .mkv")
    return out
