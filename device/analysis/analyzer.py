"""The whole numeric chain as one object without threads or clocks: frames and chunks in, evidence out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.analysis.echo import EchoDetector
from device.analysis.frame_pace import FramePace
from device.bundles.bundle import Bundle
from device.config.settings import DEFAULT_SEARCH_MS, SEARCH_MS
from device.errors import UsageError
from device.features.chunks import ChunkJoiner
from device.features.contract import AUDIO_TICK_NS, AUDIO_TICKS_PER_LIP_TICK, LIP_TICK_NS
from device.features.face import FaceDetector
from device.features.logmel import LogMelStream
from device.features.mouth import MouthCrop, mouth_box
from device.features.mouth_grid import LipGrid, normalize
from device.features.tracker import DETECT_EVERY_NS, MAX_FACES, MouthTracker
from device.features.vad import SpeechMemory, SpeechStream, widen
from device.records import Chunk, Frame, SeenFace
from device.sync.curve import TICK_MS
from device.sync.direct import score_of
from device.sync.evidence_stream import EvidenceStream, LipEvidence
from device.towers.blocks import BlockStream, Embeddings

_KEPT_SPEECH_TICKS = 100 * 120


def search_ticks(search_ms: float) -> int:
    """Convert the search range to audio ticks. Raises UsageError if it is outside the configurable range."""
    if not SEARCH_MS.allows(search_ms):
        raise UsageError(f"{search_ms:g} ms is not possible", where="search range", remedy=f"Give {SEARCH_MS} ms")
    return round(search_ms / TICK_MS)


class Analyzer:
    """Turns the frames and chunks of one recording or one live rig into evidence per lip tick, in order."""

    def __init__(self, bundle: Bundle, faces: Path | FaceDetector, *, search_ms: float = DEFAULT_SEARCH_MS) -> None:
        """`faces` is a face detector, or the file of its model."""
        self._detector = FaceDetector(faces) if isinstance(faces, Path) else faces
        self.reach_ticks, self._load = search_ticks(search_ms), 0
        self.use(bundle)

    def use(self, bundle: Bundle) -> None:
        """Start again with these models."""
        self._bundle, self.calibration = bundle, bundle.calibration
        self.reset()

    def reset(self) -> None:
        """Forget all input so far: what follows is unrelated to it."""
        bundle = self._bundle
        self.faces: int | None = None
        self.frame_pace = FramePace()
        self._mouth = MouthTracker(self._detector)
        self._mel, self._speech = LogMelStream(), SpeechStream()
        self._lips: dict[int, tuple[LipGrid, BlockStream]] = {}  # for each followed face
        self._audio = BlockStream(bundle.audio)
        self._evidence = EvidenceStream(self.reach_ticks, bundle.calibration, score_of(bundle))
        self._sound = ChunkJoiner()
        self._echo = EchoDetector()
        self._spoken = SpeechMemory(_KEPT_SPEECH_TICKS)
        self.set_load(self._load)

    def set_load(self, step: int) -> None:
        """How much to skip: 0 nothing; 1 every second face detection; 2 also every second block of lips.

        With several faces, 1 also follows only the face that is most probably heard.
        """
        if step and not self._load:
            self._mouth.favourite = self._evidence.speaker
        self._load = step
        self._mouth.detect_every_ns = DETECT_EVERY_NS * (2 if step else 1)
        self._mouth.max_faces = 1 if step else MAX_FACES
        for _, lips in self._lips.values():
            lips.skips = step > 1

    def push(self, item: Frame | Chunk) -> Iterator[LipEvidence]:
        """Take the next frame or chunk and yield the evidence that it completes."""
        yield from self._without_echo(self._push(item))

    def _push(self, item: Frame | Chunk) -> Iterator[LipEvidence]:
        if isinstance(item, Frame):
            self.frame_pace.add(item.t_ns)
            for mouths in self._mouth.push(item):
                yield from self._push_mouths(mouths)
            return
        for chunk in self._sound.push(item):
            yield from self._push_sound(chunk)

    def finish(self) -> Iterator[LipEvidence]:
        """Yield the remaining evidence after the source has ended."""
        yield from self._without_echo(self._finish())

    def _finish(self) -> Iterator[LipEvidence]:
        for chunk in self._sound.finish():
            yield from self._push_sound(chunk)
        for mouths in self._mouth.finish():
            yield from self._push_mouths(mouths)
        for part in self._audio.finish():
            yield from self._evidence.push_audio(part)
        rest = [(face_id, part) for face_id, (_, lips) in self._lips.items() for part in lips.finish()]
        yield from self._evidence.push_faces(rest)
        yield from self._evidence.finish()

    @property
    def seen(self) -> tuple[SeenFace, ...]:
        """The followed faces, as last detected. A single face is the one that is heard."""
        faces, speaker = self._mouth.faces, self._evidence.speaker
        return tuple(
            SeenFace(face.box, mouth_box(face.eyes, face.mouth), face_id == speaker or len(faces) == 1)
            for face_id, face in faces.items()
        )

    def speech_ratio(self, from_ns: int, to_ns: int) -> float | None:
        """Share of the time with speech; None where there was no audio."""
        flags = self._speech_flags(from_ns, to_ns)
        return float(flags.mean()) if len(flags) else None

    def spoke_within(self, duration_ns: int) -> bool | None:
        """Whether there is any speech at the end of the audio so far; None before any audio."""
        flags = self._spoken.newest(duration_ns // AUDIO_TICK_NS)
        return bool(flags.any()) if len(flags) else None

    def low_frame_rate(self, from_ns: int, to_ns: int) -> bool:
        """Whether a face is in view, but frames come too seldom to read its lips."""
        return bool(self.faces) and self.frame_pace.is_slow(from_ns, to_ns)

    def speech_ns(self, from_ns: int, to_ns: int) -> int:
        """Duration of speech, within the last two minutes."""
        return int(self._speech_flags(from_ns, to_ns).sum()) * AUDIO_TICK_NS

    def _speech_flags(self, from_ns: int, to_ns: int) -> npt.NDArray[np.bool_]:
        return widen(self._spoken.between(*_ticks(from_ns, to_ns)))

    def _without_echo(self, rows: Iterable[LipEvidence]) -> Iterator[LipEvidence]:
        """Blank the evidence in an echo. Evidence waits for later audio, so an echo is known by then."""
        for row in rows:
            yield LipEvidence(row.tick, np.zeros_like(row.row), row.face, echo=True) if self._echo.on else row

    def _push_sound(self, chunk: Chunk) -> Iterator[LipEvidence]:
        self._spoken.add(*self._speech.push(chunk))
        self._echo.push(chunk)
        tick, rows = self._mel.push(chunk)
        for part in self._audio.push(tick, rows, np.ones(len(rows), np.bool_)):
            yield from self._evidence.push_audio(part)

    def _push_mouths(self, mouths: list[MouthCrop]) -> Iterator[LipEvidence]:
        parts: list[tuple[int, Embeddings]] = []
        ended = self._lips.keys() - {crop.face_id for crop in mouths}
        for face_id in ended:
            parts += [(face_id, part) for part in self._lips.pop(face_id)[1].finish()]
        for crop in mouths:
            self.faces = crop.faces
            grid, lips = self._lips.get(crop.face_id) or self._begin_face(crop)
            parts += [(crop.face_id, part) for part in lips.push(*grid.push(crop))]
        if parts or ended:
            yield from self._evidence.push_faces(parts, ended)

    def _begin_face(self, crop: MouthCrop) -> tuple[LipGrid, BlockStream]:
        # A block of audio completes the candidates of lips this much older. The block of their last negatives ends
        # there too, so that neither waits for the other.
        ends_at = self._evidence.negative_reach_ticks - self.reach_ticks // AUDIO_TICKS_PER_LIP_TICK
        lips = BlockStream(self._bundle.lips, normalize, ends_at=ends_at)
        lips.skips = self._load > 1
        self._evidence.begin(crop.face_id, -(-crop.t_ns // LIP_TICK_NS))
        self._lips[crop.face_id] = LipGrid(), lips
        return self._lips[crop.face_id]


def _ticks(from_ns: int, to_ns: int) -> tuple[int, int]:
    """The audio ticks from the first time to before the second."""
    return -(-from_ns // AUDIO_TICK_NS), -(-to_ns // AUDIO_TICK_NS)
