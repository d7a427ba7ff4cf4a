"""FileSource delivers each frame and each sample at the time at which it was recorded."""

from __future__ import annotations

import os
import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from device.capture.container import TrackChoice
from device.capture.file import FileSource
from device.capture.source import RecordingSource
from device.capture.tracks import RateWatch, SampleClock
from device.errors import AvdriftError, CaptureError, InputFormatError, InputMissingError, InputTrackError
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame
from tests.recordings import Picture, Sound, click_times_s, damage, flash_times_s, truncate, write
from tests.remux import remuxed

VP8 = Picture("libvpx", options={"deadline": "realtime", "cpu-used": "8"})
VP9 = Picture("libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"})
FLASHES = 4


def read(path: Path, **options: Any) -> tuple[list[Frame], list[Chunk], str | None]:
    with FileSource(path, **options) as source:
        items = list(source)
        return [i for i in items if isinstance(i, Frame)], [i for i in items if isinstance(i, Chunk)], source.damaged


def click_minus_flash_ms(path: Path) -> list[float]:
    frames, chunks, damaged = read(path)
    assert damaged is None
    flashes, clicks = flash_times_s(frames), click_times_s(chunks)
    assert len(flashes) == len(clicks) > 0
    return [1000 * (click - flash) for click, flash in zip(clicks, flashes, strict=True)]


@pytest.mark.parametrize(
    ("name", "picture", "sound", "within_ms"),
    [
        ("flac.mkv", Picture(), Sound("flac"), 3.0),
        ("flac16k.mkv", Picture(), Sound("flac", 16_000, "mono"), 3.0),
        ("surround.mkv", Picture(), Sound("flac", 48_000, "5.1"), 3.0),
        ("mjpeg.avi", Picture("mjpeg", pix_fmt="yuvj420p"), Sound("pcm_s16le", 44_100), 3.0),
        ("mpeg4.avi", Picture("mpeg4"), Sound("pcm_s16le", 8_000, "mono"), 3.0),
        ("pcm.mov", Picture(), Sound("pcm_s16le"), 3.0),
        ("aac.mp4", Picture(), Sound("aac"), 10.0),
        ("aac44k.mp4", Picture(), Sound("aac", 44_100), 10.0),
        ("bframes.mp4", Picture(options={"bf": "3"}), Sound("aac"), 10.0),
        ("opus.mp4", Picture(), Sound("libopus"), 10.0),
        ("mp3.mp4", Picture(), Sound("libmp3lame", 44_100), 10.0),
        ("aac.mov", Picture(), Sound("aac"), 10.0),
        ("aac.mkv", Picture(), Sound("aac"), 10.0),
        ("mp3.mkv", Picture(), Sound("libmp3lame", 44_100), 10.0),
        ("opus.webm", VP8, Sound("libopus"), 10.0),
        ("opus9.webm", VP9, Sound("libopus"), 10.0),
        ("aac.ts", Picture(), Sound("aac"), 10.0),
        ("mp2.ts", Picture("mpeg2video"), Sound("mp2"), 10.0),
        ("mp2.mpg", Picture("mpeg2video"), Sound("mp2"), 10.0),
        ("aac.flv", Picture(), Sound("aac", 44_100), 10.0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_click_lands_on_flash(tmp_path: Path, name: str, picture: Picture, sound: Sound, within_ms: float) -> None:
    path = write(tmp_path / name, picture, sound)
    differences = click_minus_flash_ms(path)
    assert len(differences) == FLASHES
    assert max(map(abs, differences)) < within_ms, differences


@pytest.mark.parametrize("shift_s", [-0.32, 0.2])
def test_shifted_click_is_off_by_its_shift(tmp_path: Path, shift_s: float) -> None:
    clicks = [t + shift_s for t in (0.4, 1.0, 1.8, 2.4)]
    differences = click_minus_flash_ms(write(tmp_path / "a.mp4", sound=Sound(clicks_s=clicks)))
    assert np.allclose(differences, 1000 * shift_s, atol=3)


@pytest.mark.parametrize("rate", [Fraction(10), Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60)])
def test_any_frame_rate(tmp_path: Path, rate: Fraction) -> None:
    path = write(tmp_path / "a.mkv", Picture(rate_hz=rate, flashes_s=[float(12 / rate)]), Sound("flac"))
    frames, _, _ = read(path)
    assert flash_times_s(frames) == pytest.approx([float(12 / rate)], abs=0.001)
    expected_s = [float(i / rate) for i in range(len(frames))]
    assert [f.t_ns / NS_PER_S for f in frames] == pytest.approx(expected_s, abs=0.001)


def test_variable_frame_rate_keeps_every_time_stamp(tmp_path: Path) -> None:
    times_s = np.cumsum([0] + [0.03, 0.05, 0.04, 0.3, 0.011] * 8).tolist()
    flash_s = times_s[20]
    path = write(tmp_path / "a.mp4", Picture(times_s=times_s, flashes_s=[flash_s]), Sound(clicks_s=[flash_s]))
    frames, chunks, _ = read(path)
    assert [f.t_ns / NS_PER_S for f in frames] == pytest.approx(times_s, abs=1e-4)
    assert flash_times_s(frames) == pytest.approx(click_times_s(chunks), abs=0.003)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov", "a.ts"])
@pytest.mark.parametrize("late", ["sound", "picture"])
def test_track_that_starts_late_stays_late(tmp_path: Path, name: str, late: str) -> None:
    moments = (1.0, 1.8, 2.4)
    picture = Picture(start_s=0.48 if late == "picture" else 0.0, flashes_s=moments)
    sound = Sound(start_s=0.5 if late == "sound" else 0.0, clicks_s=moments)
    path = write(tmp_path / name, picture, sound)
    assert max(map(abs, click_minus_flash_ms(path))) < 3
    frames, chunks, _ = read(path)
    begins_apart_ms = (chunks[0].t_ns - frames[0].t_ns) / NS_PER_MS
    assert begins_apart_ms == pytest.approx(500 if late == "sound" else -480, abs=25)  # up to one AAC frame of priming


def test_h264_in_avi_keeps_its_pictures_in_order(tmp_path: Path) -> None:
    """FFmpeg's guessed time stamps are in the order of decoding here; the pictures must not be shuffled by them."""
    path = write(tmp_path / "a.avi", Picture(options={"bf": "2"}), Sound("pcm_s16le"))
    frames, chunks, _ = read(path)
    assert len(frames) == 75
    assert np.diff([f.t_ns for f in frames]).tolist() == [40 * NS_PER_MS] * 74
    # One frame late: AVI has no presentation times (named in the module's docstring).
    lateness = np.array(flash_times_s(frames)) - click_times_s(chunks)
    assert np.allclose(lateness, 0.04, atol=0.003)


def test_gap_in_sound_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", sound=Sound("flac", clicks_s=(0.4, 1.8, 2.4), gap_s=(0.7, 1.3)))
    _, chunks, damaged = read(path)
    assert damaged is not None and "1 × gap" in damaged
    assert next(c.t_ns / NS_PER_S for c in chunks if c.t_ns >= NS_PER_S) == pytest.approx(1.3, abs=0.08)
    assert click_times_s(chunks) == pytest.approx([0.4, 1.8, 2.4], abs=0.003)


@pytest.mark.parametrize("pace", [0.98, 0.99, 1.01, 1.02])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_stamps_that_run_at_another_pace_than_their_samples_are_followed(
    tmp_path: Path, name: str, pace: float
) -> None:
    moments = [0.8, 1.4, 2.2, 3.4, 5.0, 7.0]
    sound = Sound("aac", clicks_s=[t_s / pace for t_s in moments])
    path = write(tmp_path / f"even-{name}", Picture(flashes_s=moments), sound, duration_s=8.5)
    frames, chunks, damaged = read(remuxed(path, tmp_path / name, sound_pace=pace))
    late_ms = 1000 * (np.array(click_times_s(chunks)) - flash_times_s(frames))
    assert np.abs(late_ms).max() < 5, late_ms
    assert damaged is not None and ("less" if pace < 1 else "more") in damaged and "gap" not in damaged


def test_rounding_to_milliseconds_is_no_other_pace(tmp_path: Path) -> None:
    for codec, rate_hz in (("libmp3lame", 44_100), ("aac", 44_100), ("libmp3lame", 22_050), ("flac", 44_100)):
        path = write(tmp_path / f"{codec}{rate_hz}.mkv", sound=Sound(codec, rate_hz), duration_s=9.0)
        _, chunks, damaged = read(path)
        assert damaged is None
        expected_ns = np.cumsum([0] + [len(c.samples) * NS_PER_S // 16_000 for c in chunks[:-1]])
        assert np.ptp((np.array([c.t_ns for c in chunks]) - expected_ns)[50:]) < 0.6 * NS_PER_MS


def test_items_come_in_order_of_time_and_are_numbered(tmp_path: Path) -> None:
    for name, picture, sound in (
        ("a.mp4", Picture(options={"bf": "3"}), Sound()),
        ("b.mpg", Picture("mpeg2video"), Sound("mp2")),  # this muxer keeps sound a second behind
    ):
        with FileSource(write(tmp_path / name, picture, sound)) as source:
            items = list(source)
        assert [i.t_ns for i in items] == sorted(i.t_ns for i in items)
        for kind in (Frame, Chunk):
            assert [i.seq for i in items if isinstance(i, kind)] == list(range(sum(isinstance(i, kind) for i in items)))
            assert all(isinstance(i.t_ns, int) for i in items)


def test_sound_is_mono_float_at_the_wished_rate_and_level(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", sound=Sound("flac", 44_100, level=0.5))
    for rate_hz in (16_000, 8_000):
        _, chunks, _ = read(path, audio_rate_hz=rate_hz)
        samples = np.concatenate([c.samples for c in chunks])
        assert samples.dtype == np.float32 and samples.ndim == 1 and {c.rate_hz for c in chunks} == {rate_hz}
        assert len(samples) == pytest.approx(3 * rate_hz, abs=rate_hz * 0.002)
        assert samples.max() == pytest.approx(0.5, abs=0.02)  # two equal channels must not add up


def test_chunk_times_do_not_carry_the_rounding_of_matroska(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", sound=Sound("aac", 44_100))
    _, chunks, _ = read(path)
    expected_ns = np.cumsum([0] + [len(c.samples) * NS_PER_S // 16_000 for c in chunks[:-1]])
    error_ms = (np.array([c.t_ns for c in chunks]) - expected_ns) / NS_PER_MS
    assert np.ptp(error_ms[25:]) < 0.2
    assert np.abs(error_ms).max() < 0.6


def test_pictures_are_scaled_down_only_and_are_rgb(tmp_path: Path) -> None:
    big = write(tmp_path / "big.mkv", Picture(width=1280, height=720, flashes_s=()), Sound("flac"), duration_s=0.4)
    assert read(big)[0][0].rgb.shape == (720, 1280, 3)
    assert read(big, max_height=240)[0][0].rgb.shape == (240, 426, 3)
    small = read(write(tmp_path / "small.mkv", Picture(flashes_s=[0.0]), Sound("flac")))[0][0].rgb
    assert small.shape == (48, 64, 3) and small.dtype == np.uint8 and small.flags.c_contiguous
    assert small.min() > 220 and np.ptp(small.mean((0, 1))) < 3


def test_tall_pictures_keep_their_width(tmp_path: Path) -> None:
    tall = write(tmp_path / "a.mkv", Picture(width=360, height=640, flashes_s=()), Sound("flac"), duration_s=0.4)
    assert read(tall)[0][0].rgb.shape == (640, 360, 3)


def test_rotation_is_honoured(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    content = path.read_bytes()
    one, unit = 1 << 16, 1 << 30
    upright = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, unit)
    turned = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, unit)
    video_header = content.index(upright, content.index(b"tkhd"))
    path.write_bytes(content[:video_header] + turned + content[video_header + len(turned) :])
    assert read(path)[0][0].rgb.shape == (64, 48, 3)


def test_frame_threads_give_the_same_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Picture(options={"bf": "3"}, noise=True))
    one, two = read(path)[0], read(path, threads=2)[0]
    assert [f.t_ns for f in one] == [f.t_ns for f in two]
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(one, two, strict=True))


def test_duration_and_rate(tmp_path: Path) -> None:
    with FileSource(write(tmp_path / "a.mp4")) as source:
        assert source.duration_s == pytest.approx(3.0, abs=0.05)
        assert source.video_rate_hz == pytest.approx(25)


def test_file_source_is_a_source_and_is_read_once(tmp_path: Path) -> None:
    source: RecordingSource = FileSource(write(tmp_path / "a.mkv", sound=Sound("flac")))
    with source:
        assert len(list(source)) > 0
        with pytest.raises(RuntimeError, match="once"):
            list(source)


def test_one_track_far_ahead_of_the_other_is_delivered_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ts", sound=Sound("aac"), audio_first=True)
    frames, chunks, _ = read(path)
    assert len(frames) == 75 and len(chunks) > 140


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    peaks = []
    for duration_s in (4.0, 16.0):
        picture = Picture(width=160, height=120)
        path = write(tmp_path / f"{duration_s}.mkv", picture, Sound("flac"), duration_s=duration_s)
        tracemalloc.start()
        with FileSource(path) as source:
            for _ in source:
                pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 100_000, peaks


# Damage


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.avi"])
def test_truncated_file_gives_what_is_there(tmp_path: Path, name: str) -> None:
    codec = {"a.mkv": "flac", "a.ts": "mp2", "a.avi": "pcm_s16le"}[name]
    video = "mpeg4" if name == "a.avi" else "libx264"
    path = truncate(write(tmp_path / name, Picture(video, noise=True), Sound(codec)), 0.5)
    frames, chunks, damaged = read(path)
    assert 20 < len(frames) < 60 and 40 < len(chunks) < 120
    if name == "a.mkv":  # only its header declares how long the file should have been
        assert damaged is not None and "of the 3.0 s" in damaged


def test_truncated_mp4_with_its_index_in_front(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", Picture(noise=True), options={"movflags": "+faststart"})
    frames, chunks, damaged = read(truncate(path, 0.5))
    assert 15 < len(frames) < 65 and len(chunks) > 40
    assert damaged is not None


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "frag_keyframe", "dash"])
def test_a_fragmented_mp4_is_whole(tmp_path: Path, flags: str) -> None:
    picture = Picture(options={"bf": "2", "g": "25"})
    path = write(tmp_path / "a.mp4", picture, Sound("aac"), options={"movflags": flags})
    assert max(map(abs, click_minus_flash_ms(path))) < 10


def test_captions_that_go_on_do_not_make_the_rest_cut_off(tmp_path: Path) -> None:
    """Only what the two tracks that are read declare counts."""
    path = tmp_path / "a.mkv"
    with av.open(str(write(tmp_path / "b.mp4"))) as given, av.open(str(path), "w") as made:
        tracks = [made.add_stream_from_template(stream, opaque=True) for stream in given.streams]
        captions = made.add_mux_stream("subrip")
        packets = [packet for packet in given.demux() if packet.dts is not None and packet.size]
        for packet in packets:
            packet.stream = tracks[packet.stream.index]
            made.mux(packet)
        caption = av.Packet(b"Goodbye")
        caption.pts = caption.dts = 60_000
        caption.duration, caption.time_base, caption.stream = 2000, Fraction(1, 1000), captions
        made.mux(caption)
    assert read(path)[2] is None


def test_a_stream_that_appears_in_the_middle_ends_nothing(tmp_path: Path) -> None:
    first = write(tmp_path / "first.flv", Picture(), Sound("libmp3lame", 44_100)).read_bytes()
    second = write(tmp_path / "second.flv", Picture(), Sound("aac", 44_100)).read_bytes()
    path = tmp_path / "a.flv"
    path.write_bytes(first + second[13:])  # its tags, of which the sound's are of another codec
    frames, chunks, _ = read(path)
    assert len(frames) > 70 and len(chunks) > 140


def test_a_whole_file_is_not_damaged_when_reading_stops_early(tmp_path: Path) -> None:
    with FileSource(write(tmp_path / "whole.mkv", Picture(), Sound())) as source:
        assert isinstance(next(item for item in source if isinstance(item, Frame)), Frame)
        assert source.damaged is None


def test_damage_in_the_middle_is_reported_and_the_rest_delivered(tmp_path: Path) -> None:
    picture = Picture(noise=True, options={"g": "10"}, flashes_s=(0.4, 2.8))
    # After damage a Matroska reader goes on at the next cluster, of which three seconds otherwise have but one.
    path = write(tmp_path / "a.mkv", picture, Sound("flac", clicks_s=(0.4, 2.8)), options={"cluster_time_limit": "500"})
    frames, chunks, damaged = read(damage(path, 0.4, 4000))
    assert damaged is not None
    assert frames[-1].t_ns > 2.7 * NS_PER_S and chunks[-1].t_ns > 2.7 * NS_PER_S
    assert flash_times_s(frames)[-1] == pytest.approx(2.8, abs=0.001)
    assert click_times_s(chunks)[-1] == pytest.approx(2.8, abs=0.003)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts", "a.avi", "a.flv"])
def test_noise_anywhere_never_raises_anything_but_our_errors(tmp_path: Path, name: str) -> None:
    codecs = ("mpeg4", "pcm_s16le") if name == "a.avi" else ("libx264", "aac")
    original = write(tmp_path / name, Picture(codecs[0]), Sound(codecs[1], 44_100), duration_s=1).read_bytes()
    rng = np.random.default_rng(7)
    for trial in range(25):
        path = tmp_path / f"{trial}-{name}"
        path.write_bytes(original)
        damage(path, float(rng.uniform(0, 0.95)), int(rng.integers(1, 400)), seed=trial)
        try:
            frames, chunks, _ = read(path)
        except CaptureError:
            continue
        assert np.all(np.diff([f.t_ns for f in frames]) > 0)
        assert np.all(np.diff([c.t_ns for c in chunks]) > 0)
        assert all(np.isfinite(c.samples).all() for c in chunks)


# Input that is wrong


def complain(path: Path | str) -> AvdriftError:
    with pytest.raises(CaptureError) as caught, FileSource(path) as source:
        list(source)
    error = caught.value
    assert error.exit_code == 3 and str(Path(path)) in str(error) and error.remedy
    assert error.__cause__ is None or error.__suppress_context__
    return error


def test_missing_directory_and_special_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "none.mp4", tmp_path, tmp_path / "pipe", tmp_path / "loop", tmp_path / ("x" * 300)):
        assert type(complain(path)) is InputMissingError


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    path.chmod(0)
    assert type(complain(path)) is InputMissingError


def test_empty_and_other_files(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(50_000)
    contents = {"empty.mp4": b"", "noise.mkv": noise, "page.mp4": b"<html>hello</html>"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert type(complain(tmp_path / name)) is InputFormatError
    assert "empty" in str(complain(tmp_path / "empty.mp4"))


def test_cut_off_before_the_first_frame(tmp_path: Path) -> None:
    assert type(complain(truncate(write(tmp_path / "index_at_end.mp4"), 0.5))) is InputFormatError
    path = write(tmp_path / "a.mkv", Picture(noise=True), Sound("flac"))
    path.write_bytes(path.read_bytes()[:900])
    assert isinstance(complain(path), InputFormatError | InputTrackError)


def test_missing_tracks(tmp_path: Path) -> None:
    silent = complain(write(tmp_path / "silent.mp4", sound=None))
    assert type(silent) is InputTrackError and "audio" in str(silent)
    blind = complain(write(tmp_path / "blind.mp4", picture=None))
    assert type(blind) is InputTrackError and "video" in str(blind)


def test_a_track_that_is_not_there_is_told_which_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", Picture(), Sound("flac"))
    with pytest.raises(InputTrackError, match="no deu for --audio-track; it has audio 1"):
        FileSource(path, which=TrackChoice(audio="deu"))


def test_declared_track_without_content(tmp_path: Path) -> None:
    empty = Picture(times_s=())
    assert "video" in str(complain(write(tmp_path / "a.mkv", empty, Sound("flac"))))


def test_playlist_does_not_reach_the_network(tmp_path: Path) -> None:
    path = tmp_path / "a.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    complain(path)


# The clock alone


def drive(clock: SampleClock, stamps_ns: list[int], count: int, rate_hz: int) -> list[int]:
    clock.restart(stamps_ns[0], rate_hz)
    placed = []
    for stamp_ns in stamps_ns:
        assert not clock.differs(stamp_ns)
        placed.append(clock.end_ns())
        clock.advance(stamp_ns, count)
    return placed


def test_clock_averages_jitter_and_follows_a_slow_recorder() -> None:
    rng = np.random.default_rng(3)
    true_ns = (np.arange(2000) * 1024 / 48_000 * (1 + 50e-6) * NS_PER_S).astype(int)
    placed = np.array(drive(SampleClock(), (true_ns + rng.uniform(-5e6, 5e6, 2000).astype(int)).tolist(), 1024, 48_000))
    assert np.abs(placed - true_ns)[200:].max() < 1.5 * NS_PER_MS
    assert np.all(np.diff(placed) > 0)


@pytest.mark.parametrize("pace", [0.98, 1.015])
def test_watch_sees_another_pace_through_jitter(pace: float) -> None:
    rng = np.random.default_rng(5)
    watch, found = RateWatch(), None
    for k in range(200):
        run_s = k * 1024 / 48_000
        watch.observe(run_s, run_s * (pace - 1) + rng.uniform(-0.005, 0.005))
        found = watch.slope()
        if found is not None:
            break
    assert found == pytest.approx(pace - 1, abs=0.006) and 0.3 < run_s < 2.5


def test_watch_takes_jitter_for_no_pace() -> None:
    rng = np.random.default_rng(6)
    watch = RateWatch()
    for k in range(20_000):
        watch.observe(k * 1024 / 48_000, 50e-6 * k * 1024 / 48_000 + rng.uniform(-0.005, 0.005))
        assert watch.slope() is None


def test_clock_without_stamps_counts_and_jumps_only_over_40_ms() -> None:
    clock = SampleClock()
    clock.restart(None, 16_000)
    for _ in range(10):
        clock.advance(None, 1600)
    assert clock.end_ns() == NS_PER_S
    assert not clock.differs(NS_PER_S + 39 * NS_PER_MS) and clock.differs(NS_PER_S + 41 * NS_PER_MS)
    assert clock.differs(NS_PER_S - 41 * NS_PER_MS) and not clock.differs(None)
