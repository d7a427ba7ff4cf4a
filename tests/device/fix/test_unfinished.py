"""Unfinished copies: inaccessible to others, and always removed."""

from __future__ import annotations

from pathlib import Path

from device.fix.unfinished import unfinished


def test_what_a_killed_run_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    target, dear = tmp_path / "a [talk].mkv", tmp_path / "dear.mkv"
    dear.write_bytes(b"dear")
    left = tmp_path / ".a [talk].0123456789abcdef.mkv"
    left.write_bytes(b"half a copy")
    link = tmp_path / ".a [talk].fedcba9876543210.mkv"
    link.symlink_to(dear)
    others = [
        tmp_path / name for name in (".a [talk].0123456789abcdef.mp4", ".b.0123456789abcdef.mkv", ".a [talk].x.mkv")
    ]
    for other in others:
        other.touch()
    with unfinished(target) as running:
        assert not left.exists()
        with unfinished(target) as made:
            assert running.exists() and made.exists() and made != running and made.suffix == ".mkv"
        assert running.exists() and not made.exists()
        running.replace(target)
    assert sorted(tmp_path.iterdir()) == sorted([target, dear, link, *others]) and dear.read_bytes() == b"dear"
