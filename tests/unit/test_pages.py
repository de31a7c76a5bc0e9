"""The pages: the index is whole, the site has what the index has, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_every_page_is_in_the_index_and_every_link_of_it_leads_somewhere() -> None:
    docs = ROOT / "docs"
    linked = set(re.findall(r"\]\(([^)]+\.md)\)", (docs / "README.md").read_text()))
    pages = {path.relative_to(docs).as_posix() for path in (*docs.glob("*.md"), *docs.glob("methods/*.md"))}
    assert linked == pages - {"README.md"} | {"decisions/README.md"}


TEXTS = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))


def test_the_site_has_the_pages_of_the_index() -> None:
    linked = re.findall(r"\]\(([^)]+\.md)\)", (ROOT / "docs/README.md").read_text())
    shown = re.findall(r"^ +- (?:.*: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert shown == ["README.md", *linked]


def anchors(path: Path) -> set[str]:
    """What headings are called in links, as GitHub and the site have it."""
    lines = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S).splitlines()
    titles = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line.lstrip("# ")) for line in lines if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.M | re.S))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target) or not re.match(r"[\w.#]", target):
            continue
        place, _, anchor = target.partition("#")
        path = (page.parent / place).resolve() if place else page
        assert path.exists(), target
        assert not anchor or path.suffix != ".md" or anchor in anchors(path), target
