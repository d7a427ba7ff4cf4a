"""On Apache Beam's direct runner the clips are those of one machine, and what is done is not done again."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.bundles.bundle import DEFAULT_BUNDLE
from device.features.model_download import face_model_path
from tests.device.check.batch import cut
from train.cli import main
from train.harvest.run import DONE, harvest, read_finished

pytest.importorskip("apache_beam", reason="pip install 'avdrift[beam]'")
pytestmark = pytest.mark.skipif(not face_model_path().is_file(), reason="the face detector's model is not here")


@pytest.mark.slow
def test_the_clips_are_those_of_one_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, local, spread = tmp_path / "archive", tmp_path / "local", tmp_path / "spread"
    (folder / "мой доклад").mkdir(parents=True)
    cut(folder / "мой доклад" / "talk 1.mkv")
    (folder / "broken.mkv").write_bytes(bytes(range(256)) * 40)
    count = harvest(folder, local, bundle=DEFAULT_BUNDLE, max_hours=1.0, corpus="harvest", jobs=1)
    command = ["harvest", str(folder), str(spread), "--beam", "--runner", "DirectRunner"]
    assert main(command) == 0 and count > 0
    assert f"{count} clips in {spread}" in capsys.readouterr().out
    for name in ("clips.csv", "dropped.csv"):
        assert (spread / name).read_text("utf-8") == (local / name).read_text("utf-8").replace(str(local), str(spread))
    assert {path.name for path in spread.iterdir()} == {path.name for path in local.iterdir()}

    lines = (spread / DONE).read_text(encoding="ascii").splitlines()
    (spread / DONE).write_text("".join(line + "\n" for line in lines if "talk 1" in line), encoding="ascii")
    before = {path: path.stat().st_mtime_ns for path in spread.glob("*.mkv")}
    assert main(command) == 0 and len(read_finished(spread)) == 2
    assert {path: path.stat().st_mtime_ns for path in spread.glob("*.mkv")} == before


@pytest.mark.parametrize("more", [["--jobs", "2"], ["--max-hours", "3"]])
def test_what_beam_has_no_use_for_is_refused(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["harvest", str(tmp_path), str(tmp_path.parent / "out"), "--beam", *more]) == 2
    assert more[0] in capsys.readouterr().err
