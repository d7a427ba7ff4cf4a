"""What MkDocs is told of this repository: pages of its root are pages of the site, links between the two hold.

The pages are written for the hosting platforms, where links lead to files. A link to a file that is not a page becomes
its text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# A page of the root -> its place below docs/. SECURITY.md and docs/security.md are two.
ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "SECURITY.md": "security-policy.md",
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, place in ROOT_PAGES.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return linked(markdown, page.file.src_uri, {file.src_uri for file in files})


def linked(markdown: str, place: str, places: set[str]) -> str:
    """The page at this place below docs/, with links to places; what leads out of the site loses its link."""
    source = next((root for root, below in ROOT_PAGES.items() if below == place), f"docs/{place}")

    def replaced(match: re.Match[str]) -> str:
        picture, text, target, anchor = match[1], match[2], match[3], match[4] or ""
        named = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        below = ROOT_PAGES.get(named, named.removeprefix("docs/"))
        if below not in places:
            return text
        return f"{picture}[{text}]({posixpath.relpath(below, posixpath.dirname(place) or '.')}{anchor})"

    return _LINK.sub(replaced, markdown)
