"""Speech with exact phoneme times, from espeak-ng's shared library.

espeak-ng reports where each phoneme's *sound* starts. For a voiceless stop that is the burst: the silent closure lies
before it. For a voiced stop or a nasal it is the start of the closure, and the burst is found in the waveform, where
the high frequencies return. `Phoneme.closure_s` therefore always means the same: from contact to release.

Source: speak_lib.h of espeak-ng (API revision 12); `espeak_Initialize` options 1 (phoneme events) and 2 (IPA names).
"""

from __future__ import annotations

import _ctypes
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from device.errors import UsageError
from device.records import Samples

LIBRARY = "libespeak-ng.so.1"
VOICELESS_STOPS = frozenset("ptkqcʔʈ")
VOICED_CLOSURES = frozenset("bdgɡmnŋɾɖɟɲɱɳ")

_OUTPUT_RETRIEVAL = 1  # samples come to the callback instead of a loudspeaker
_PHONEME_EVENTS, _IPA, _DONT_EXIT = 1, 2, 0x8000
_EVENT_END, _EVENT_PHONEME = 0, 7
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4

_MAX_CLOSURE_S = 0.14
_MIN_CLOSURE_S = 0.02  # anything shorter is an echo in the closure, not its start
_UNKNOWN_CLOSURE_S = 0.07


@dataclass(frozen=True, slots=True)
class Voice:
    """Who speaks: an espeak-ng language and variant (`en-us`, `f3`), words per minute, pitch settings of 0 to 100."""

    language: str = "en-us"
    variant: str = ""
    words_per_min: int = 165
    pitch: int = 50
    pitch_range: int = 50

    @property
    def name(self) -> str:
        return f"{self.language}+{self.variant}" if self.variant else self.language


@dataclass(frozen=True, slots=True)
class Phoneme:
    """One speech sound (empty `ipa`: silence). `closure_s` is the time during which the vocal tract is shut, if any."""

    ipa: str
    start_s: float
    end_s: float
    closure_s: tuple[float, float] | None = None

    def shifted(self, by_s: float) -> Phoneme:
        closure_s = None if self.closure_s is None else (self.closure_s[0] + by_s, self.closure_s[1] + by_s)
        return Phoneme(self.ipa, self.start_s + by_s, self.end_s + by_s, closure_s)


@dataclass(frozen=True, slots=True)
class Utterance:
    """Mono samples and the phonemes heard in them; times count from the first sample."""

    samples: Samples
    rate_hz: int
    phonemes: tuple[Phoneme, ...]

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate_hz


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@contextmanager
def open_espeak(library: str = LIBRARY) -> Iterator[tuple[Any, int]]:
    """A freshly loaded espeak-ng and its sample rate in Hz. Raises UsageError when it is not installed.

    Loaded anew each time (some milliseconds): the library keeps the phase of its flutter and other state from one
    sentence to the next, even across `espeak_Terminate`, so that a sentence would depend on everything said before.
    """
    try:
        lib = ctypes.CDLL(library)
    except OSError as error:
        raise UsageError(
            f"the speech synthesiser cannot be loaded ({error})",
            where=library,
            remedy="Install it: apt install espeak-ng",
        ) from error
    rate_hz = int(lib.espeak_Initialize(_OUTPUT_RETRIEVAL, 200, None, _PHONEME_EVENTS | _IPA | _DONT_EXIT))
    if rate_hz <= 0:
        raise UsageError(
            "the speech synthesiser found no voice data",
            where=library,
            remedy="Install it: apt install espeak-ng-data",
        )
    try:
        yield lib, rate_hz
    finally:
        lib.espeak_Terminate()
        _ctypes.dlclose(lib._handle)
        ctypes.CDLL(None).fflush(None)  # what it complains of waits in C's buffer, and would come after everything else


def synthesize(text: str, voice: Voice) -> Utterance:
    """Say one sentence; equal text and voice always give equal samples. Raises UsageError for an unknown voice."""
    with open_espeak() as (lib, rate_hz):
        pcm, marks = _synthesize(lib, text, voice)
    if len(pcm) == 0 or not any(name for _, name in marks):
        raise UsageError("nothing in it can be spoken", where=f"sentence {text!r}", remedy="Give words of the language")
    samples = pcm.astype(np.float32) / 32768.0
    return Utterance(samples, rate_hz, measure_closures(samples, rate_hz, marks))


def _synthesize(lib: Any, text: str, voice: Voice) -> tuple[npt.NDArray[np.int16], list[tuple[int, str]]]:
    """Samples, and (first sample, IPA name) of each phoneme."""
    blocks: list[npt.NDArray[np.int16]] = [np.zeros(0, np.int16)]
    marks: list[tuple[int, str]] = []

    def collect(wav: Any, count: int, events: Any) -> int:
        if wav and count > 0:
            blocks.append(np.ctypeslib.as_array(wav, (count,)).copy())
        index = 0
        while events[index].type != _EVENT_END:
            if events[index].type == _EVENT_PHONEME:
                marks.append((int(events[index].sample), events[index].id.string.decode("utf-8", "ignore")))
            index += 1
        return 0

    ctypes.CDLL(None).srand(1)  # breath noise comes from the C library's random numbers
    callback = _Callback(collect)
    lib.espeak_SetSynthCallback(callback)
    if lib.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise UsageError("no such voice", where=f"espeak-ng voice {voice.name!r}", remedy="See: espeak-ng --voices")
    for parameter, value in ((_RATE, voice.words_per_min), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
        lib.espeak_SetParameter(parameter, value, 0)
    data = text.encode() + b"\0"
    lib.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 1, 0, _UTF8, None, None)
    lib.espeak_Synchronize()
    return np.concatenate(blocks), marks


def measure_closures(samples: Samples, rate_hz: int, marks: list[tuple[int, str]]) -> tuple[Phoneme, ...]:
    """Turn (sample, name) marks into phonemes, with each stop's and nasal's closure as the waveform shows it."""
    phonemes: list[Phoneme] = []
    ends = [start for start, _ in marks[1:]] + [len(samples)]
    for (start, name), end in zip(marks, ends, strict=True):
        ipa = name.strip("ˈˌ ")
        if end <= start:
            continue
        closure_s = None
        if ipa and ipa[0] in VOICELESS_STOPS:
            closure_s = _silent_closure_s(samples, rate_hz, start)
        elif ipa and ipa[0] in VOICED_CLOSURES:
            closure_s = _voiced_closure_s(samples, rate_hz, start, end)
        phonemes.append(Phoneme(ipa, start / rate_hz, end / rate_hz, closure_s))
    return tuple(phonemes)


def _silent_closure_s(samples: Samples, rate_hz: int, burst: int) -> tuple[float, float]:
    """The silence that ends at the burst. At the start of a sentence nothing tells how long: take a usual length."""
    earliest = max(0, burst - int(_MAX_CLOSURE_S * rate_hz))
    loud = np.flatnonzero(np.abs(samples[earliest : max(burst - int(0.002 * rate_hz), earliest)]) > 0.004)
    shut_s = (earliest + int(loud[-1])) / rate_hz if len(loud) else burst / rate_hz - _UNKNOWN_CLOSURE_S
    audible = np.flatnonzero(np.abs(samples[burst : burst + int(0.02 * rate_hz)]) > 0.004)
    release_s = (burst + (int(audible[0]) if len(audible) else 0)) / rate_hz
    if release_s - shut_s < _MIN_CLOSURE_S:
        shut_s = release_s - _UNKNOWN_CLOSURE_S
    return shut_s, release_s


def _voiced_closure_s(samples: Samples, rate_hz: int, start: int, end: int) -> tuple[float, float]:
    """From the event to where high frequencies return: shut lips let only the voice's lowest harmonics through."""
    stop = min(len(samples), end + int(0.03 * rate_hz))
    hop = max(1, rate_hz // 1000)
    bright = np.abs(np.diff(samples[start:stop], n=2))
    count = len(bright) // hop
    if count < 20:
        return start / rate_hz, max(end - 0.02 * rate_hz, start + 0.01 * rate_hz) / rate_hz
    per_ms = bright[: count * hop].reshape(count, hop).max(axis=1)
    murmur = float(np.percentile(per_ms[5 : max(12, count // 2)], 90))
    peak = float(per_ms[count // 2 :].max())
    # After a silence or a nasal the stop has no murmur of its own: its event is the burst.
    before = np.abs(np.diff(samples[max(0, start - 12 * hop) : start - hop], n=2))
    onset = float(per_ms[:8].max())
    if onset > 0.35 * peak and (len(before) == 0 or float(before.max()) < 0.5 * onset):
        return _silent_closure_s(samples, rate_hz, start)
    # Halfway, on a log scale, between the murmur's brightness and that of the vowel to come.
    rising = np.flatnonzero(per_ms[12:] > max(np.sqrt(murmur * peak), 1.6 * murmur))
    if len(rising) == 0:
        return start / rate_hz, max(end / rate_hz - 0.015, start / rate_hz + 0.02)
    return start / rate_hz, start / rate_hz + (12 + int(rising[0])) * hop / rate_hz
