"""`avdrift-convert sign`: a device accepts what it signs, and it signs no bundle that no device would load."""

from __future__ import annotations

from pathlib import Path

import pytest

from convert.cli import main
from device.bundles.model_kinds import LIPS
from device.bundles.signature import SIGNATURE, verify
from tests.models.bundles import write_bundle
from tests.models.stores import make_key, needs_ssh_keygen, trust

pytestmark = needs_ssh_keygen


def test_a_signed_bundle_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, key = write_bundle(tmp_path / "bundle"), make_key(tmp_path / "key")
    assert main(["sign", str(bundle), "--key", str(key)]) == 0
    assert capsys.readouterr().out == f"{bundle / SIGNATURE}\n"
    verify(bundle, trust(tmp_path / "store", key))
    assert main(["verify", str(bundle)]) == 0


@pytest.mark.parametrize("missing", ["key", LIPS])
def test_what_is_not_signed(missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, key = write_bundle(tmp_path / "bundle"), make_key(tmp_path / "key")
    (key if missing == "key" else bundle / LIPS).unlink()
    key.with_suffix(".pub").unlink()
    assert main(["sign", str(bundle), "--key", str(key)]) == 4
    shown = capsys.readouterr()
    assert shown.out == "" and missing in shown.err and not (bundle / SIGNATURE).exists()


def test_the_key_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sign", str(tmp_path)])
    assert ended.value.code == 2
