"""Every error that avdrift raises on purpose, and the exit code that the command line turns it into.

    AvdriftError                    1  never raised itself
    ├── UsageError                  2  an option or a setting that cannot be right
    ├── CaptureError                3  a camera, a microphone or an input file
    │   ├── InputMissingError       3  no such file, or not readable
    │   ├── InputFormatError        3  not a recording, or damaged before the first frame
    │   └── InputTrackError         3  a recording without picture or without sound
    ├── ModelError                  4  a bundle or a model file
    │   ├── ModelMissingError       4  nothing there
    │   ├── ModelCorruptError       4  hash, size or golden vectors differ, or LiteRT rejects it
    │   └── ModelContractError      4  made for another version or another front end
    └── TransportError              5  a broker or another receiver of reports

A message says what happened, where, and what to do about it.
"""

from functools import partial


class AvdriftError(Exception):
    """What all errors of this project have in common: a message for a person and an exit code."""

    exit_code = 1

    def __init__(self, what: str, *, where: str, remedy: str) -> None:
        super().__init__(f"{where}: {what}. {remedy}")
        self.what, self.where, self.remedy = what, where, remedy

    def __reduce__(self) -> tuple[object, ...]:  # so that a worker process can raise it
        return partial(type(self), where=self.where, remedy=self.remedy), (self.what,)


class UsageError(AvdriftError):
    exit_code = 2


class CaptureError(AvdriftError):
    exit_code = 3


class InputMissingError(CaptureError):
    pass


class InputFormatError(CaptureError):
    pass


class InputTrackError(CaptureError):
    pass


class ModelError(AvdriftError):
    exit_code = 4


class ModelMissingError(ModelError):
    pass


class ModelCorruptError(ModelError):
    pass


class ModelContractError(ModelError):
    pass


class TransportError(AvdriftError):
    exit_code = 5
