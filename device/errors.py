"""Every error that avdrift raises on purpose, and the exit code that the command line turns it into.

AvdriftError                    1  never raised itself
├── UsageError                  2  an invalid option or setting
├── CaptureError                3  a camera, a microphone or an input file
│   ├── InputMissingError       3  no such file, or not readable
│   ├── InputFormatError        3  not a recording, or damaged before the first frame
│   ├── InputTrackError         3  a recording without video or without audio
│   ├── DeviceMissingError      3  no such camera or microphone, or not yet
│   ├── DeviceBusyError         3  another process holds it
│   ├── DeviceHungError         3  a hanging driver in this process holds it: only a new process helps
│   ├── DevicePermissionError   3  this user may not open it
│   ├── DeviceLostError         3  it disappeared, or stopped delivering, while it was open
│   └── StreamError             3  input from a network or a pipe cannot be measured at present
├── ModelError                  4  a bundle or a model file
│   ├── ModelMissingError       4  nothing there
│   ├── ModelCorruptError       4  hash, size or golden vectors differ, or LiteRT rejects it
│   ├── ModelContractError      4  made for another version or another front end
│   ├── ModelGateError          4  not shown to be as good as the previous models
│   ├── ModelSignatureError     4  not signed, not by a trusted key, or not for this bundle
│   └── ModelStoreError         4  the store on the device cannot be changed
└── TransportError              5  a broker or another receiver of reports
"""

from functools import partial


class AvdriftError(Exception):
    """Base of all errors here: an exit code, and a message that says what, where, and what to do."""

    exit_code = 1

    def __init__(self, what: str, *, where: str, remedy: str) -> None:
        super().__init__(f"{where}: {what}. {remedy}")
        self.what, self.where, self.remedy = what, where, remedy

    def __reduce__(self) -> tuple[object, ...]:  # lets a worker process raise it
        return partial(type(self), where=self.where, remedy=self.remedy), (self.what,)


# fmt: off
class UsageError(AvdriftError):
    exit_code = 2

class CaptureError(AvdriftError):
    exit_code = 3

class InputMissingError(CaptureError): ...
class InputFormatError(CaptureError): ...
class InputTrackError(CaptureError): ...
class DeviceMissingError(CaptureError): ...
class DeviceBusyError(CaptureError): ...
class DeviceHungError(CaptureError): ...
class DevicePermissionError(CaptureError): ...
class DeviceLostError(CaptureError): ...

class StreamError(CaptureError):
    """A stream's error; `word` is the fault without its prefix: `jumped` for `stream_jumped`."""

    def __init__(self, what: str, *, where: str, remedy: str, word: str = "lost") -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.word = word

class ModelError(AvdriftError):
    exit_code = 4

class ModelMissingError(ModelError): ...
class ModelCorruptError(ModelError): ...
class ModelContractError(ModelError): ...
class ModelGateError(ModelError): ...
class ModelSignatureError(ModelError): ...
class ModelStoreError(ModelError): ...

class TransportError(AvdriftError):
    exit_code = 5
