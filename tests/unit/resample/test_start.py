"""Of every method: layers from a start on are what they are in a whole run, and those before it are not made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bot_onnx._resample import get_method, make_options
from bot_onnx._resample.sources import SourceLayers
from bot_onnx._resample.width import WidthTransform
from tests.method_runs import leaf, task

OPTIONS: list[tuple[str, dict[str, Any], bool]] = [
    ("bot", {}, True),
    ("bot", {"wavelet": "db2"}, True),
    ("bot", {"convention": "std-source"}, False),
    ("bot", {"details": "gaussian"}, False),
    ("bot", {"details": "in-band"}, False),
    ("bot", {"preset": "paper"}, True),
    ("front", {}, True),
    ("front", {"preset": "published"}, True),
    ("net2net", {"noise": 0.1}, False),
    ("bert2bert", {"variant": "aki"}, False),
    ("scratch", {}, True),
    ("stack", {}, None),
    ("interleave", {}, None),
    ("ws", {}, True),
    ("ws", {"preset": "published"}, True),
]  # type: ignore[list-item]


@pytest.mark.parametrize(("method", "options", "shrinks"), OPTIONS)
@pytest.mark.parametrize("start", [1, 3, 4])
def test_layers_from_a_start_on(method: str, options: dict[str, Any], shrinks: bool | None, start: int) -> None:
    source, target = {True: (6, 4), False: (2, 4), None: (2, 4)}[shrinks]
    wide = {True: (8, 6), False: (6, 8), None: (6, 6)}[shrinks]
    work = task("matrix", (leaf(*wide), leaf(*wide)), ("in", "out"), layers=(source, target), residual="pre-norm")
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((wide[0], wide[0])).astype(np.float32) for _ in range(source)]
    given = [lambda array=array: array for array in arrays]
    chosen = get_method(method)

    def run(first: int) -> list[Any]:
        return list(chosen.resample(work, given, make_options(method, **options), xp=np, seed=1, start=first))

    whole, rest = run(0), run(start)
    assert len(rest) == 4 - start
    assert all(np.array_equal(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_nothing_before_the_start_is_mixed_or_resized(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed: list[int] = []
    resized: list[int] = []
    mix, resize = SourceLayers.mixed, WidthTransform.apply
    monkeypatch.setattr(SourceLayers, "mixed", lambda self, k: mixed.append(k) or mix(self, k))
    monkeypatch.setattr(WidthTransform, "apply", lambda *given: resized.append(1) or resize(*given))
    work = task("matrix", (leaf(8, 4), leaf(8, 4)), ("in", "out"), layers=(4, 4))
    layers = [lambda: np.ones((8, 8), np.float32)] * 4
    assert len(list(get_method("bot").resample(work, layers, make_options("bot"), xp=np, seed=0, start=3))) == 1
    assert mixed == [3] and len(resized) == 1
