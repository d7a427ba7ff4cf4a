"""The contents of a recording, and what is missing or out of place in its copy. Reads packets, decodes nothing.

Conventions: times in s on a file's own clock. `wrong` lists differences that were not announced, so the copy must not
be kept; `lost` lists what the other container cannot express.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from av.stream import Disposition, Stream

from device.capture.container import (
    AS_PLAYED,
    called,
    choose_tracks,
    demuxed,
    is_chapter_list,
    is_cover,
    open_recording,
)
from device.capture.joints import Joints
from device.fix.copy import Copied
from device.fix.plan import Plan

_FLAGS = (
    Disposition.default | Disposition.forced | Disposition.comment | Disposition.original | Disposition.dub
    | Disposition.lyrics | Disposition.karaoke | Disposition.hearing_impaired | Disposition.visual_impaired
)  # fmt: skip
_CLOSE_S = 0.003  # what containers round, twice
_PLACES = 24
_STEADY_S = 0.5  # half of the stretch that is searched for, with a margin
_TECHNICAL = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "software"}
_CLIPPED_S = 0.045  # more than one encoder block
_SPAN_S = 0.25  # for containers that pad, and an encoder's last block


@dataclass(slots=True)
class Track:
    """One stream; `hidden` packets are those that an edit list excludes."""

    name: str
    kind: str
    codec: str
    flags: Disposition
    title: str
    language: str
    packets: int = 0
    hidden: int = 0
    begin_s: float | None = None  # of the visible part
    end_s: float = 0.0
    last_s: float = 0.0  # time of the last packet


@dataclass(slots=True)
class Inventory:
    tracks: dict[int, Track]  # by stream index
    chapters: int
    pictures: int  # covers and attachments
    words: dict[str, str]  # the file's own metadata
    played_audio_index: int  # the audio stream that is measured by default


@dataclass(slots=True)
class Differences:
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def inventory(path: Path, *, video_index: int, audio_index: int) -> Inventory:
    """Take the inventory of a file with these video and audio streams. Raises CaptureError."""
    with open_recording(path) as given:
        _, played = choose_tracks(given, path, AS_PLAYED)
        aside = [s for s in given.streams if is_cover(s) or s.type == "attachment"]
        plain = [s for s in given.streams if s not in aside and not is_chapter_list(s)]
        tracks = {stream.index: _track(stream) for stream in plain}
        found = Inventory(tracks, len(given.chapters()), len(aside), _lower(given.metadata), played.index)
        for packet in Joints(given.format.name, (video_index, audio_index)).follow(demuxed(given)):
            track = tracks.get(packet.stream.index)
            stamp = packet.pts if packet.pts is not None else packet.dts
            if track is None or stamp is None or not packet.size or not packet.time_base:
                continue
            at_s = float(stamp * packet.time_base)
            track.packets += 1
            track.hidden += packet.is_discard
            track.last_s = max(track.last_s, at_s) if track.packets > 1 else at_s
            if not packet.is_discard:
                track.begin_s = at_s if track.begin_s is None else min(track.begin_s, at_s)
                track.end_s = max(track.end_s, at_s + float((packet.duration or 0) * packet.time_base))
    return found


def _lower(metadata: dict[str, str]) -> dict[str, str]:
    return {word.lower(): value for word, value in metadata.items()}


def _track(stream: Stream) -> Track:
    context = getattr(stream, "codec_context", None)
    codec = context.name if context is not None else getattr(stream, "name", None) or ""
    language = stream.language or ""
    return Track(
        called(stream), stream.type, codec, stream.disposition & _FLAGS,
        stream.metadata.get("title") or stream.metadata.get("name", ""),  # MP4's name for it
        "" if language == "und" else language,
    )  # fmt: skip


def differences(before: Inventory, after: Inventory, plan: Plan, copied: Copied, *, audio_index: int) -> Differences:
    """List what the copy does not hold as it should."""
    found = Differences()
    moved_s = picture_moved_s(before, after, copied)
    if moved_s is None:
        found.wrong.append("the video is missing")
        return found
    for index, track in before.tracks.items():
        if index not in copied.kept:
            continue  # dropped and announced
        copy = after.tracks.get(copied.kept[index])
        if copy is None or copy.kind != track.kind:
            found.wrong.append(f"{track.name} is missing")
            continue
        at = plan if index == audio_index or (copied.all_sound and track.kind == "audio") else None
        found.wrong += _missing_time(track, copy, at, moved_s, copied, found)
        alone = sum(other.kind == track.kind for other in before.tracks.values()) == 1
        # with a single track the flag has no effect
        flags = track.flags & ~Disposition.default if alone else track.flags
        _compare_words(replace(track, flags=flags), copy, found, same_container=copied.same_container)
    found.wrong += _out_of_place(before.tracks[audio_index], after, plan, moved_s, copied)
    _compare_rest(before, after, found, copied, audio_index=audio_index)
    return found


def picture_moved_s(before: Inventory, after: Inventory, copied: Copied) -> float | None:
    """How much later a frame is on the copy's clock, because some containers begin elsewhere. None without video."""
    video = before.tracks[next(i for i, made in copied.kept.items() if made == copied.video_index)]
    copy = after.tracks.get(copied.video_index)
    return copy.last_s - video.last_s if copy is not None and copy.packets else None


def _missing_time(
    track: Track, copy: Track, plan: Plan | None, moved_s: float, copied: Copied, found: Differences
) -> list[str]:
    if track.begin_s is None:
        return []
    if copy.begin_s is None:
        return [f"{track.name} is empty"]
    if plan is None and copied.lost_packets == 0 and track.kind in ("video", "subtitle", "data"):
        gone = track.packets - track.hidden - (copy.packets - copy.hidden)
        if gone > 1:
            return [f"{gone} packets of {track.name} are missing"]
    begin_s, end_s = track.begin_s, track.end_s
    if plan is not None:
        begin_s, end_s = plan.to_s(begin_s) + copied.cut_s, plan.to_s(end_s)
    late_s, early_s = copy.begin_s - (begin_s + moved_s), end_s + moved_s - copy.end_s
    if plan is not None and _CLIPPED_S < early_s <= _SPAN_S:
        found.lost.append(f"the last {1000 * early_s:.0f} ms of {track.name}")
    if track.kind in ("video", "audio") and max(late_s, early_s) > _SPAN_S:
        return [f"{max(late_s, early_s):.1f} s of {track.name} are missing"]
    return []


def _compare_words(track: Track, copy: Track, found: Differences, *, same_container: bool) -> None:
    gone = [f"the flag `{flag.name}` of {track.name}" for flag in track.flags & ~copy.flags]
    gone += [f"the title of {track.name}"] if track.title and copy.title != track.title else []
    gone += [f"the language of {track.name}"] if track.language and not copy.language else []
    (found.wrong if same_container else found.lost).extend(gone)


def _out_of_place(track: Track, after: Inventory, plan: Plan, moved_s: float, copied: Copied) -> list[str]:
    """Whether audio that was not encoded again is out of place, according to the copy's own time stamps."""
    copy = after.tracks.get(copied.audio_index)
    if copy is None or copied.lost_packets or copied.sound != "shifted":
        return []
    pcm = track.codec.startswith("pcm_")  # each container splits it into blocks of its own
    wanted_s, is_s = (plan.to_s(track.end_s), copy.end_s) if pcm else (plan.to_s(track.last_s), copy.last_s)
    off_s = is_s - (wanted_s + moved_s)
    return [f"the audio lies {1000 * off_s:+.0f} ms from where it belongs"] if abs(off_s) > _CLOSE_S else []


def _compare_rest(before: Inventory, after: Inventory, found: Differences, copied: Copied, *, audio_index: int) -> None:
    gone = []
    if after.chapters < before.chapters:
        gone.append(f"{before.chapters - after.chapters} of {before.chapters} chapters")
    if before.words.get("title") != after.words.get("title"):
        gone.append("the title")
    found.lost += [f"`{word}`" for word in sorted(before.words.keys() - after.words.keys() - _TECHNICAL - {"title"})]
    left_out = copied.left_out.count("cover") + sum("attachment" in name for name in copied.left_out)
    if after.pictures < before.pictures - left_out:
        found.wrong.append("a cover or an attachment is missing")
    if before.played_audio_index == audio_index and after.played_audio_index != copied.audio_index:
        gone.append("which audio is played first")
    (found.wrong if copied.same_container else found.lost).extend(gone)


def places(plan: Plan, sound: Track, moved_s: float) -> list[tuple[float, float]]:
    """Some times of the audio, and their places in the copy; none near a step or an end."""
    begin_s, end_s = sound.begin_s or 0.0, sound.end_s
    steps_s = [begin_s, *(move.from_s for move in plan.moves[1:]), end_s]
    times_s = [begin_s + (end_s - begin_s) * (k + 0.5) / _PLACES for k in range(_PLACES)]
    steady_s = [t_s for t_s in times_s if min(abs(t_s - step_s) for step_s in steps_s) > _STEADY_S]
    return [(t_s, plan.to_s(t_s) + moved_s) for t_s in steady_s or [(begin_s + end_s) / 2]]
