"""A first layer without the others' norm is one of the layers: counted, sized with them, and never removed."""

from __future__ import annotations

from pathlib import Path

import pytest

import bot_onnx
from bot_onnx.errors import SpecError
from tests.graphs import save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.system.oracle.sequence.graphs import first_without_norm


@pytest.mark.parametrize(("layers", "hidden", "inner"), [(2, 8, 16), (3, 8, 16), (7, 8, 16), (5, 4, 8), (4, 16, 24)])
def test_resized_equals_native(layers: int, hidden: int, inner: int, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    source = save(first_without_norm(), tmp_path)
    (chain,) = bot_onnx.inspect(source).structure.chains
    assert (chain.count, chain.leading, chain.stacked) == (5, 1, 4)
    spec = {"layers": layers, "hidden": hidden, "intermediate": inner}
    assert bot_onnx.resize(source, spec, out).report.passed
    wanted = save(first_without_norm(layers, hidden, inner), tmp_path, "native.onnx")
    native = transplant(analysis_of(out), analysis_of(wanted))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= 1e-5


def test_too_few_layers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"first layer is unlike the others.*give 2 or more"):
        bot_onnx.resize(save(first_without_norm(), tmp_path), {"layers": 1}, tmp_path / "out.onnx")
