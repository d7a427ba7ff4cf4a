"""Damaged and crafted bundles: some always, 500 in the slow run, 10,000 when asked for (`--soak`)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from device.bundles.bundle import DEFAULT_BUNDLE, FILES
from tests.device.bundles.fuzz import fuzzing
from tests.models.stores import needs_ssh_keygen
from tests.repository.test_house import ROOT


@needs_ssh_keygen
@pytest.mark.parametrize(
    ("times", "seed"),
    [(60, 1), pytest.param(500, 2, marks=pytest.mark.slow), pytest.param(10_000, 3, marks=pytest.mark.soak)],
)
def test_no_crash_no_hang_no_acceptance(times: int, seed: int) -> None:
    """In a process of its own, since it forks."""
    command = [sys.executable, "-m", fuzzing.__name__, "--times", str(times), "--seed", str(seed), "--blocks", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, int] = json.loads(done.stdout)
    assert 0.9 * times < sum(seen.values()) <= times
    accepted = {key.partition(": ")[0] for key in seen if ": accepted, " in key and not key.endswith("the same models")}
    assert accepted <= {f"forged {name}" for name in FILES}, "what is damaged or unsigned never is"
    far = sum(count for key, count in seen.items() if key.endswith("far answers"))
    assert far <= 1 + times / 200, "golden vectors leave little unseen"
    assert {key.partition(":")[0] for key in seen} >= {"damaged", "signed manifest", "unsigned manifest", "signature"}


def test_structure_is_what_is_not_weights() -> None:
    content = (DEFAULT_BUNDLE / "audio.tflite").read_bytes()
    places = set(fuzzing.structure(content))
    assert 1000 < len(places) < len(content) / 4 and {0, 4, 5, 6, 7} <= places


def test_coverage_guided_fuzzing_says_what_it_needs() -> None:
    """Where atheris is there, a short run of each of its targets."""
    module = f"{fuzzing.__package__}.coverage_fuzzing"
    for target in ("manifest", "bundle_file", "signature", "golden", "model"):
        command = [sys.executable, "-m", module, target, "-runs=500"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode == 77:
            assert "pip install atheris" in done.stderr
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr
