"""Kinds of recordings that are hard to copy by packets: their contents are kept in place, or listed."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.container import OutputContainer
from av.stream import Disposition, Stream

from device.errors import InputFormatError, UsageError
from device.fix.copy import Copied, copy_moved
from device.fix.plan import Move, Plan
from device.fix.verify import verify
from tests.device.fix.test_copy import EARLY, FLASHES_S, LATE, UP, copied, delays_ms, recording
from tests.recordings import Picture, Sound, write
from tests.remux import edit_twice, joined, moved, remuxed


def fixed(source: Path, target: Path, plan: Plan, *, audio_index: int = 1) -> Copied:
    """Copied, and looked at before it is kept."""

    def check(made: Path, done: Copied) -> None:
        verify(source, target, made, plan, done, video_index=0, audio_index=audio_index, measured=None)

    return copy_moved(source, target, plan, video_index=0, audio_index=audio_index, force=False, check=check)


def moved_ms(source: Path, out: Path) -> list[float]:
    return [late - early for late, early in zip(delays_ms(out), delays_ms(source), strict=True)]


def begins_s(path: Path) -> float:
    with av.open(str(path)) as container:
        return (container.start_time or 0) / 1e6


# When it begins


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "ts"])
@pytest.mark.parametrize("begin_s", [18_000.0, 2**33 / 90_000 - 1.5])
def test_a_transport_stream_that_begins_late_or_wraps_begins_at_zero(
    tmp_path: Path, ending: str, begin_s: float
) -> None:
    source = moved(recording("ts"), tmp_path / "in.ts", begin_s)
    out = tmp_path / f"out.{ending}"
    assert fixed(source, out, EARLY).sound == "shifted"
    assert moved_ms(source, out) == pytest.approx([80.0] * 4, abs=1.5)
    assert 0.0 <= begins_s(out) < 1.5
    with av.open(str(out)) as container:
        shown = [packet for packet in container.demux(video=0) if packet.size and not packet.is_discard]
    assert len(shown) == 75, "all pictures are shown"


def test_recordings_that_were_joined_are_both_in_the_copy(tmp_path: Path) -> None:
    source = joined(tmp_path / "in.ts", recording("ts"), recording("ts"))
    out = tmp_path / "out.mp4"
    fixed(source, out, EARLY)
    with av.open(str(out)) as container:
        assert (container.duration or 0) / 1e6 == pytest.approx(6.1, abs=0.2)


# Containers without start times


@pytest.mark.parametrize(("plan", "expected_ms"), [(EARLY, 80.0), (LATE, -80.0)], ids=["early", "late"])
@pytest.mark.parametrize(
    ("ending", "video", "audio"),
    [("avi", "mpeg4", "libmp3lame"), ("avi", "mpeg4", "pcm_s16le"), ("mxf", "mpeg2video", "pcm_s16le")],
)
def test_sound_is_cut_or_padded_where_no_start_time_can_move_it(
    tmp_path: Path, plan: Plan, expected_ms: float, ending: str, video: str, audio: str
) -> None:
    picture = Picture(video, flashes_s=FLASHES_S)
    source = write(tmp_path / f"in.{ending}", picture, Sound(audio, clicks_s=FLASHES_S))
    out = tmp_path / f"out.{ending}"
    assert fixed(source, out, plan).sound == "pcm_s16le", "a coder's delay could not be taken out again"
    assert moved_ms(source, out) == pytest.approx([expected_ms] * 4, abs=1.5)


@pytest.mark.parametrize("plan", [EARLY, LATE], ids=["early", "late"])
def test_sound_that_does_not_begin_with_the_picture_goes_into_avi(tmp_path: Path, plan: Plan) -> None:
    for name, start_s in (("a", 0.28), ("b", 0.0)):
        picture = Picture("mpeg4", start_s=0.28 - start_s, flashes_s=FLASHES_S)
        source = write(tmp_path / f"{name}.mkv", picture, Sound("flac", start_s=start_s, clicks_s=FLASHES_S))
        fixed(source, tmp_path / f"{name}.avi", plan)
        wanted_ms = plan.moves[0].offset_ms
        assert moved_ms(source, tmp_path / f"{name}.avi") == pytest.approx([wanted_ms] * 4, abs=1.5)


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_a_shift_is_exact_where_time_stamps_are_coarse(tmp_path: Path, ending: str) -> None:
    """AVI counts MP3 in its blocks."""
    picture = Picture("mpeg4", flashes_s=FLASHES_S)
    source = write(tmp_path / "in.avi", picture, Sound("libmp3lame", clicks_s=FLASHES_S))
    for offset_ms in (91.0, -67.0):
        out = tmp_path / f"{offset_ms}.{ending}"
        fixed(source, out, Plan((Move(0.0, offset_ms),)))
        assert moved_ms(source, out) == pytest.approx([offset_ms] * 4, abs=1.5)


@pytest.mark.parametrize("name", ["out.dv", "out.gxf"])
def test_containers_that_cannot_move_sound_are_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"no way to move audio.*\.mov or \.mkv"):
        copied(recording("mov"), tmp_path / name, EARLY)
    assert not list(tmp_path.iterdir())


# What else it holds


def two_tracks(path: Path, ending: str) -> Path:
    """The second sound track is the one that is played; captions that must be seen; chapters, titles and a cover."""
    with av.open(str(recording("mkv"))) as given, av.open(str(path), "w") as made:
        made.metadata["title"] = "A talk"
        chapter = {"id": 1, "start": 0, "end": 2000, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
        made.set_chapters([chapter])  # type: ignore[list-item]
        picture, sound = given.streams
        tracks = [made.add_stream_from_template(stream, opaque=True) for stream in (picture, sound, sound)]
        captions = made.add_mux_stream("mov_text" if ending == "mp4" else "subrip")
        tracks[1].metadata.update({"language": "deu", "title": "Comment"})
        tracks[2].metadata["language"] = "eng"
        captions.metadata["language"] = "fra"
        for track, flags in ((tracks[1], Disposition.comment), (tracks[2], Disposition.default)):
            track.disposition = flags
        captions.disposition = Disposition.forced
        if ending == "mkv":
            made.add_attachment("cover.png", "image/png", still("png", "rgb24"))
            made.add_attachment("font.ttf", "application/x-truetype-font", b"font" * 99)
        seen = 0
        for packet in given.demux():
            if not packet.size:
                continue
            index = packet.stream.index
            if index == 0:
                packet.dts, seen = round((seen - 3) * Fraction(1, 25) / packet.time_base), seen + 1
            content, stamps = bytes(packet), (packet.pts, packet.dts, packet.time_base, packet.duration)
            packet.stream = tracks[index]
            made.mux(packet)
            if index == 1:
                twin = av.Packet(content)
                twin.pts, twin.dts, twin.time_base, twin.duration = stamps
                twin.stream = tracks[2]
                made.mux(twin)
        text = b"Hello" if ending == "mkv" else b"\0\5Hello"
        caption = av.Packet(text)
        caption.pts = caption.dts = 1000
        caption.duration, caption.time_base, caption.stream = 500, Fraction(1, 1000), captions
        made.mux(caption)
    return path


def still(codec: str, pix_fmt: str) -> bytes:
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width = context.height = 16
    context.pix_fmt, context.time_base = pix_fmt, Fraction(1, 25)
    packets = [*context.encode(av.VideoFrame(16, 16, pix_fmt)), *context.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def result(path: Path) -> list[tuple[str, Disposition, str | None, str | None]]:
    with av.open(str(path)) as container:
        return [(s.type, s.disposition, s.language, s.metadata.get("title")) for s in container.streams]


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
@pytest.mark.parametrize("plan", [EARLY, UP], ids=["shift", "step"])
def test_flags_titles_captions_covers_and_the_track_that_is_played_are_kept(
    tmp_path: Path, ending: str, plan: Plan
) -> None:
    source = two_tracks(tmp_path / f"in.{ending}", ending)
    out = tmp_path / f"out.{ending}"
    done = fixed(source, out, plan, audio_index=2)
    assert not done.left_out
    assert result(out) == result(source)


def test_a_cover_goes_from_matroska_to_mp4_and_back(tmp_path: Path) -> None:
    source = two_tracks(tmp_path / "in.mkv", "mkv")
    assert fixed(source, tmp_path / "out.mp4", EARLY, audio_index=2).left_out == ["subtitle 1 (fra)", "attachment 1"]
    fixed(tmp_path / "out.mp4", tmp_path / "back.mkv", EARLY, audio_index=2)
    for name in ("out.mp4", "back.mkv"):
        assert [flags for _, flags, *_ in result(tmp_path / name)].count(Disposition.attached_pic) == 1


def test_a_cover_that_became_a_track_of_one_picture_is_a_cover_again(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    with av.open(str(recording("mp4"))) as given, av.open(str(source), "w") as made:
        tracks = [made.add_stream_from_template(stream, opaque=True) for stream in given.streams]
        cover = made.add_mux_stream("mjpeg", width=16, height=16)
        cover.metadata.update({"FILENAME": "cover.jpg", "MIMETYPE": "image/jpeg"})
        picture = av.Packet(still("mjpeg", "yuvj420p"))
        picture.pts = picture.dts = 0
        picture.time_base, picture.stream = Fraction(1, 1000), cover
        made.mux(picture)
        for packet in given.demux():
            if packet.size:
                packet.stream = tracks[packet.stream.index]
                made.mux(packet)
    for name in ("out.mkv", "out.mp4"):
        fixed(source, tmp_path / name, EARLY)
        assert result(tmp_path / name)[-1][:2] == ("video", Disposition.attached_pic)


@pytest.mark.parametrize(
    ("codec", "tag", "pix_fmt"), [("libx265", "hvc1", "yuv420p"), ("prores_ks", "apco", "yuv422p10le")]
)
def test_what_only_the_tag_says_is_kept(tmp_path: Path, codec: str, tag: str, pix_fmt: str) -> None:
    options = {"profile": "proxy"} if codec == "prores_ks" else {"x265-params": "log-level=none", "bf": "0"}
    plain = write(
        tmp_path / "plain.mov", Picture(codec, pix_fmt=pix_fmt, options=options, flashes_s=FLASHES_S), Sound()
    )

    def tagged(made: OutputContainer, tracks: list[Stream]) -> None:
        tracks[0].codec_context.codec_tag = tag

    source = remuxed(plain, tmp_path / "in.mov", prepare=tagged)
    for name in ("out.mov", "out.mp4") if tag == "hvc1" else ("out.mov",):
        fixed(source, tmp_path / name, EARLY)
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.video[0].codec_context.codec_tag == tag


def test_a_timecode_track_is_kept_or_named(tmp_path: Path) -> None:
    def timecode(made: OutputContainer, tracks: list[Stream]) -> None:
        tracks[0].metadata["timecode"] = "01:02:03:04"

    source = remuxed(recording("mov"), tmp_path / "in.mov", prepare=timecode)
    assert [kind for kind, *_ in result(source)] == ["video", "audio", "data"]
    assert fixed(source, tmp_path / "out.mov", EARLY).left_out == []
    with av.open(str(tmp_path / "out.mov")) as container:
        assert container.streams[2].metadata["timecode"] == "01:02:03:04"
    assert fixed(source, tmp_path / "out.mkv", EARLY).left_out == ["timecode track"]


def test_two_edits_are_refused_with_the_reason(tmp_path: Path) -> None:
    picture = Picture(options={"bf": "2", "g": "75"}, flashes_s=FLASHES_S)
    source = edit_twice(write(tmp_path / "in.mp4", picture, Sound()), [(1.2, 2.6), (0.4, 1.4)])
    with pytest.raises(InputFormatError, match="edit list"):
        fixed(source, tmp_path / "out.mp4", EARLY)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_sound_that_an_edit_list_hides_is_not_called_cut(tmp_path: Path) -> None:
    picture = Picture(options={"bf": "2", "g": "75"}, flashes_s=FLASHES_S)
    source = edit_twice(write(tmp_path / "in.mp4", picture, Sound()), [(1.2, 4.0)])
    assert fixed(source, tmp_path / "out.mp4", EARLY).cut_s == 0


def test_sound_that_goes_from_stereo_to_more_channels_keeps_them(tmp_path: Path) -> None:
    picture = Picture(flashes_s=FLASHES_S)
    parts = [
        write(tmp_path / f"{layout}.ts", picture, Sound("ac3", layout=layout, clicks_s=FLASHES_S))
        for layout in ("stereo", "5.1")
    ]
    source = joined(tmp_path / "in.ts", *parts)
    fixed(source, tmp_path / "out.ts", Plan((Move(0.0, 40.0), Move(4.3, -40.0))))
    with av.open(str(tmp_path / "out.ts")) as container:
        assert container.streams.audio[0].codec_context.layout.name.startswith("5.1")


def test_dv_is_sent_to_a_container_that_moves_sound(tmp_path: Path) -> None:
    picture = Picture("dvvideo", width=720, height=576, flashes_s=FLASHES_S)
    source = write(tmp_path / "in.dv", picture, Sound("pcm_s16le", clicks_s=FLASHES_S))
    for name in ("out.dv", "out.mkv"):
        with pytest.raises((InputFormatError, UsageError), match=r"\.mov"):
            fixed(source, tmp_path / name, EARLY)
    fixed(source, tmp_path / "out.mov", EARLY)
    assert moved_ms(source, tmp_path / "out.mov") == pytest.approx([80.0] * 4, abs=1.5)


def test_a_picture_that_a_container_cannot_hold_is_named(tmp_path: Path) -> None:
    source = write(tmp_path / "in.wmv", Picture("wmv2", flashes_s=FLASHES_S), Sound("libmp3lame", clicks_s=FLASHES_S))
    with pytest.raises(InputFormatError, match=r"\.mkv, which cannot hold this video \(wmv2\).*OUT\.wmv"):
        fixed(source, tmp_path / "out.mkv", EARLY)
    fixed(source, tmp_path / "out.wmv", EARLY)
    assert moved_ms(source, tmp_path / "out.wmv") == pytest.approx([80.0] * 4, abs=2)


# Where it cannot be written


def test_a_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(UsageError, match=r"cannot be written \(.*: /sys\). Give a folder"):
        copied(recording("mkv"), Path("/sys/out.mkv"), EARLY)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("ending", ["mkv", "mp4", "ts"])
def test_a_full_disk_is_no_reason_to_try_another_container(tmp_path: Path, ending: str) -> None:
    source = recording("mp4")
    with file_size_limit(3_000), pytest.raises(UsageError, match=r"too large.*Make room"):
        copied(source, tmp_path / f"out.{ending}", EARLY)
    assert not list(tmp_path.iterdir())
