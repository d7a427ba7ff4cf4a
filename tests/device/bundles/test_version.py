"""Versions are compared as numbers: 1.10 is newer than 1.9; invalid versions are refused."""

from __future__ import annotations

from typing import Any

import pytest

from device import __version__
from device.bundles.version import check_software, version_key
from device.errors import ModelContractError


@pytest.mark.parametrize(
    ("low", "high"), [("0", "1"), ("1.9", "1.10"), ("0.9.9", "1"), ("1.0", "1.0.1"), ("9", "10"), ("2", "2026.11.3")]
)
def test_order(low: str, high: str) -> None:
    assert version_key(low, "x") < version_key(high, "x")


@pytest.mark.parametrize(("one", "other"), [("1", "1.0.0"), ("01.2", "1.2"), ("0", "0.0")])
def test_equal(one: str, other: str) -> None:
    assert version_key(one, "x") == version_key(other, "x")


@pytest.mark.parametrize(
    "version",
    ["", "1.", ".1", "1..2", "v1", "1.0rc1", "-1", "1.0\n", " 1", "1e3", "٣", "9" * 5000, "1." * 50 + "1",
     None, 1, 1.5, True, [1], {"a": 1}],
)  # fmt: skip
def test_what_is_no_version(version: Any) -> None:
    with pytest.raises(ModelContractError, match="is not of the form") as caught:
        version_key(version, "here/manifest.json")
    assert caught.value.where == "here/manifest.json" and len(str(caught.value)) < 300


@pytest.mark.parametrize("wanted", ["0", __version__, "0.0.9"])
def test_software_that_is_new_enough(wanted: str) -> None:
    check_software(wanted, "x")


@pytest.mark.parametrize("wanted", ["0.1.3", "0.2", "1", "999"])
def test_software_that_is_too_old(wanted: str) -> None:
    with pytest.raises(ModelContractError, match=rf"needs avdrift {wanted} or newer, this is 0\.1\.2. Update avdrift"):
        check_software(wanted, "x", running="0.1.2")
