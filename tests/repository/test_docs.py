"""The documentation: links and named files exist, every page can be reached, and the README is short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README_LINES = 150

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_NAMED = re.compile(r"`((?:avdrift|device|train|convert|examples|requirements|tests|tools|systemd|docs)/[\w./-]*)`")


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    return [link for link in _LINK.findall(prose(page)) if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """As the hosting platforms make them of headings."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def target(page: Path, link: str) -> Path:
    name = link.partition("#")[0]
    return (page.parent / name).resolve() if name else page


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        found, anchor = target(page, link), link.partition("#")[2]
        assert found.exists(), link
        assert found.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(found), link


# A changelog also names what is gone.
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_every_file_of_the_repository_that_a_page_names_exists(page: Path) -> None:
    assert not [name for name in _NAMED.findall(prose(page)) if not (ROOT / name).exists()]


def test_every_module_that_a_page_runs_exists() -> None:
    pages = [page.read_text(encoding="utf-8") for page in PAGES if page.name != "CHANGELOG.md"]
    run = {name for text in pages for name in re.findall(r"python -m ([a-z][\w.]+)", text)}
    ours = {ROOT / name.replace(".", "/") for name in run if (ROOT / name.partition(".")[0]).is_dir()}
    assert len(ours) > 5
    assert not [path for path in ours if not path.with_suffix(".py").exists() and not path.is_dir()]


def test_every_file_in_the_diagram_of_threads_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(
        re.findall(r"\b((?:[a-z_]+/)+[a-z_]+(?:\.py)?)[\])]", text.partition("```mermaid")[2].partition("```")[0])
    )
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / "device" / name).exists()]


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        waiting += [to for to in (target(page, link) for link in links(page)) if to.suffix == ".md" and to not in seen]
    # Models in the field name docs/models.md; it only says where its content is now.
    outside = {ROOT / "docs" / "models.md", ROOT / "CODE_OF_CONDUCT.md"}
    assert set(PAGES) - seen <= outside


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def figures(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:[.,]\d+)*", text))


def test_the_readme_quotes_only_figures_of_the_results_page() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## How good it is")[2].partition("\n## ")[0]
    quoted = re.findall(r"^\| ([^|-].*?) \|", section, re.MULTILINE)[1:]
    assert 1 <= len(quoted) <= 6
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    generated = results.partition("<!-- results -->")[2].partition("<!-- end of results -->")[0]
    for row in quoted:
        assert figures(row) <= figures(generated), row


def test_anchors_are_those_of_the_hosting_platforms(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# What it *is*, and why\n\n```\n# not a heading\n```\n\n## `fix`\n", encoding="utf-8")
    assert anchors(page) == {"what-it-is-and-why", "fix"}


# Words that promise a bound. Sentences of these pages with one of them stand in the index of docs/security.md.
_BOUND = re.compile(
    r"\b(at most|never|no more than|nothing else|stays below|whatever changes)\b|cannot (change|install|take)"
)
_PROMISING = ("raspberry-pi", "mqtt", "home-assistant", "quickstart-recordings", "reports", "page", "check")
# What has such a word, and is advice, a limit of knowledge or a definition.
_NO_PROMISES = (
    "(at most five may have been", "never about a person", "over two hours at most", "worst first (at most 200)",
    "says who can do what at most",
)  # fmt: skip


def sentences(page: Path) -> list[str]:
    text = re.sub(r"\n(?=[^\n|#-])", " ", prose(page))
    return [part.strip() for line in text.splitlines() for part in re.split(r"(?<=[.:;])\s+(?=[A-Z`*])|\s\|\s", line)]


def test_every_promise_of_a_bound_names_its_test() -> None:
    index = (ROOT / "docs" / "security.md").read_text(encoding="utf-8").partition("## Promises")[2]
    promises = re.findall(r"^\| (.+?) \| `", index, re.MULTILINE)
    pages = [ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs" / f"{name}.md" for name in _PROMISING)]
    said = {sentence: page for page in pages for sentence in sentences(page)}
    bounds = [
        f"{page.name}: {sentence}"
        for sentence, page in said.items()
        if _BOUND.search(sentence) and len(sentence.split()) > 2 and not any(word in sentence for word in _NO_PROMISES)
    ]
    assert not [bound for bound in bounds if not any(promise in bound for promise in promises)]
    assert not [promise for promise in promises if not any(promise in sentence for sentence in said)], "said no more"


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = re.findall(r"`([\w/.]+\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{file}::{name}"
