"""The site that `make docs` builds: strict, with the pages of the repository's root and links that hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="pip install 'avdrift[docs]'")

from tools.site import linked

ROOT = Path(__file__).resolve().parents[2]


def test_it_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    around = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=around, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {
        page: (tmp_path / page / "index.html").read_text(encoding="utf-8") for page in ("reference/api", "architecture")
    }
    assert "push_frame" in pages["reference/api"] and 'class="mermaid"' in pages["architecture"]
    assert (tmp_path / "contributing" / "index.html").exists()


def test_links_between_the_root_and_docs_hold_and_others_become_text() -> None:
    places = {"index.md", "contributing.md", "reports.md", "reference/json.md", "models/report.png"}
    assert linked("[a](docs/reports.md#reasons)", "index.md", places) == "[a](reports.md#reasons)"
    assert linked("[a](../CONTRIBUTING.md)", "reports.md", places) == "[a](contributing.md)"
    assert linked("[a](../reports.md)", "reference/json.md", places) == "[a](../reports.md)"
    assert linked("![a](models/report.png)", "reports.md", places) == "![a](models/report.png)"
    assert linked("[Apache](LICENSE), [x](https://example.org), [y](#z)", "index.md", places) == (
        "Apache, [x](https://example.org), [y](#z)"
    )
