"""What CONTRIBUTING.md says of adding things is true: each is done here, with as many places as it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from bot_onnx._names import MethodName

ROOT = Path(__file__).resolve().parents[2]


def test_a_method_is_its_file_its_page_and_its_name() -> None:
    places = ROOT / "bot_onnx/_resample/methods", ROOT / "docs/methods"
    files, pages = ({path.stem for path in place.iterdir() if path.suffix in (".py", ".md")} for place in places)
    assert files - {"__init__"} == pages == set(get_args(MethodName))


def test_every_page_is_in_the_index_and_every_link_of_it_leads_somewhere() -> None:
    docs = ROOT / "docs"
    linked = set(re.findall(r"\]\(([^)]+\.md)\)", (docs / "README.md").read_text()))
    pages = {path.relative_to(docs).as_posix() for path in (*docs.glob("*.md"), *docs.glob("methods/*.md"))}
    assert linked == pages - {"README.md"} | {"decisions/README.md"}
