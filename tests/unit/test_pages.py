"""The index of the pages is whole."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_page_is_in_the_index_and_every_link_of_it_leads_somewhere() -> None:
    docs = ROOT / "docs"
    linked = set(re.findall(r"\]\(([^)]+\.md)\)", (docs / "README.md").read_text()))
    pages = {path.relative_to(docs).as_posix() for path in (*docs.glob("*.md"), *docs.glob("methods/*.md"))}
    assert linked == pages - {"README.md"} | {"decisions/README.md"}
