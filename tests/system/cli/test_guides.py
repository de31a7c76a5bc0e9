"""Every guide is run as it stands, on files that are what it calls them."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.guides.blocks import DOCS, guides, left_out, steps
from tests.guides.running import GuideError, run_guide
from tests.guides.settings import SETTINGS
from tests.zoo.real import MissingModelError


def test_every_guide_is_run() -> None:
    assert set(guides()) == set(SETTINGS)
    assert all(steps(page) for page in guides())


def test_what_is_not_run_says_why() -> None:
    """What the world must bring: a hub, another framework, hours."""
    told = {page: left_out(page) for page in guides()}
    assert all(reason[0].islower() and len(reason) > 8 for reasons in told.values() for reason in reasons)
    fenced = sum((DOCS / f"{page}.md").read_text().count("\n```") // 2 for page in guides())
    assert 0 < sum(map(len, told.values())) < fenced / 3


def test_every_guide_says_how_long_it_takes() -> None:
    for page in guides():
        assert "(`python -m benchmarks.guides" in (DOCS / f"{page}.md").read_text(encoding="utf-8"), page


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if setting.minutes else [pytest.mark.thorough])
        for page, setting in SETTINGS.items()
    ],
)
def test_a_guide(page: str, tmp_path: Path) -> None:
    for name in {"recover": ["torch"], "report": ["jinja2"], "sweep": ["optuna", "dask"]}.get(page, []):
        pytest.importorskip(name)
    try:
        run_guide(page, tmp_path)
    except MissingModelError as missing:
        pytest.skip(str(missing))


def test_a_guide_that_is_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = importlib.import_module("tests.guides.blocks")
    monkeypatch.setattr(blocks, "DOCS", tmp_path)
    running = tmp_path / "run"
    running.mkdir()
    for text, told in {
        "```\n$ bot-onnx inspect digits_vit.onnx --no-such\n```\n": "no-such",
        "```python\nassert 1 == 2\n```\n": "assert 1 == 2",
        "```\n$ bot-onnx --version\nerror: what it shows\n```\n": "ends with 0",
    }.items():
        (tmp_path / "fit.md").write_text(text)
        with pytest.raises(GuideError, match=told):
            run_guide("fit", running)
