"""The film: exact in every container, complete or absent; and the player that shows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from device.calibrate.film import CONTAINERS, write_film
from device.calibrate.pattern import beep, event_times_s, find_beeps
from device.calibrate.show import PLAYERS, player, show
from device.cli import main
from device.errors import UsageError
from tests.device.calibrate.films import FILM_S, decoded, film


def flashes_s(path: Path) -> list[float]:
    """Times of the first pictures that are bright."""
    pictures, _, _ = decoded(path)
    bright = [float(picture[12:36, 16:48].mean()) > 125 for _, picture in pictures]
    begins = [now and not before for now, before in zip(bright, [False, *bright], strict=False)]
    return [t_s for (t_s, _), begin in zip(pictures, begins, strict=True) if begin]


@pytest.mark.parametrize(
    ("suffix", "fps"),
    [(".mkv", 30), (".mkv", 24), (".mkv", 29.97), (".mkv", 25), (".mp4", 30), (".mov", 30), (".avi", 30), (".ts", 25)],
)
def test_flash_and_beep_begin_at_the_same_time(suffix: str, fps: float) -> None:
    path = film(suffix, fps)
    _, samples, rate_hz = decoded(path)
    with av.open(str(path)) as container:
        first = next(container.decode(audio=0))
        start_s = float(first.time or 0)
    seen, heard = np.array(flashes_s(path)), start_s + find_beeps(samples, rate_hz) / rate_hz
    assert len(seen) == len(heard) == len(event_times_s(FILM_S))
    tolerance_s = 1e-3 if suffix in (".mp4", ".ts") else 0.5 / rate_hz + 1e-3 * (suffix == ".mkv")  # mkv counts in ms
    assert np.abs(seen - heard).max() < tolerance_s


def test_the_sound_is_exact_to_the_sample() -> None:
    _, samples, rate_hz = decoded(film(".mkv", 30))
    begins = np.round(np.round(event_times_s(FILM_S) * 30) / 30 * rate_hz).astype(int)
    tone = 0.5 * beep(rate_hz).real
    for begin in begins:
        assert samples[begin : begin + len(tone)] == pytest.approx(tone, abs=1e-4)
    assert np.abs(samples[: begins[0]]).max() < 1e-4


def test_the_command_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "-a film.mkv"
    assert main(["pattern", "--seconds", "12", "--", str(path)]) == 0
    assert "11 flashes" in capsys.readouterr().out and path.is_file()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert main(["pattern", "--seconds", "12", "--", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("film.txt", [], "ends in one of .mp4"), ("film", [], ".mkv"), ("nowhere/film.mkv", [], "new name"),
        ("film.mkv", ["--seconds", "4"], "12 to 3600"), ("film.mkv", ["--seconds", "nan"], "12 to 3600"),
        ("film.mkv", ["--fps", "10"], "20 to 120"), ("film.mkv", ["--fps", "inf"], "20 to 120"),
    ],
)  # fmt: skip
def test_films_that_cannot_be_made(
    tmp_path: Path, name: str, options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pattern", str(tmp_path / name), *options]) == 2
    assert named in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_another_film_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    path.symlink_to(tmp_path / "elsewhere")  # leads nowhere, so that it does not "exist"
    with pytest.raises(UsageError):
        write_film(path, 12)
    assert path.is_symlink() and not (tmp_path / "elsewhere").exists()


def test_every_container_is_written(tmp_path: Path) -> None:
    for suffix in CONTAINERS:
        assert write_film(tmp_path / f"film{suffix}", 12) == 11


# Players


def test_the_first_player_there_is() -> None:
    assert player(lambda name: f"/usr/bin/{name}")[0] == f"/usr/bin/{next(iter(PLAYERS))}"
    assert player({"vlc": "/opt/vlc"}.get)[0] == "/opt/vlc"


def test_no_player() -> None:
    with pytest.raises(UsageError, match="apt install mpv"):
        player(lambda _: None)


def test_without_a_player_no_film_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["pattern", str(tmp_path / "film.mkv"), "--show"]) == 2
    assert "no player" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_a_player_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="by hand"):
        show([str(tmp_path / "none")], tmp_path / "film.mkv")


def test_the_player_takes_the_commands_place(tmp_path: Path) -> None:
    name = tmp_path / "mpv"
    name.write_text('#!/bin/sh\nfor last; do :; done\necho "playing $last"\n')
    name.chmod(0o755)
    (tmp_path / "-film.mkv").write_bytes(b"a film that was made before")
    done = subprocess.run(
        [sys.executable, "-m", "device.cli", "pattern", "--show", "--", str(tmp_path / "-film.mkv")],
        env={"PATH": f"{tmp_path}:/bin:/usr/bin"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"playing {tmp_path / '-film.mkv'}"
