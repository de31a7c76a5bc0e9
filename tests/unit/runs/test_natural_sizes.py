"""Shapes with a batch of one: seen in the session that the analysis opens, and the same as in a run of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._runs import natural_sizes
from bot_onnx._runs.natural_sizes import natural_shapes
from bot_onnx._runs.observe import shapes_at
from tests.graphs import GraphBuilder, residual_mlp_model, save, tied_attention_model


def einsum_model() -> onnx.ModelProto:
    """Products that are written in letters, with an operand turned: the analysis puts a Transpose before them."""
    b = GraphBuilder()
    x = b.op("Einsum", "x", b.weight(8, 4), equation="bsi,oi->bso")
    for _ in range(3):
        y = b.op("Relu", b.op("Einsum", x, b.weight(16, 8), equation="bsi,oi->bso"))
        x = b.op("Add", x, b.op("Einsum", y, b.weight(8, 16), equation="bsi,oi->bso"))
    return b.model([("x", ["batch", "length", 4])], [x])


def unbatched_model() -> onnx.ModelProto:
    """A network of one axis, which has no batch."""
    b = GraphBuilder()
    return b.model([("x", ["length"])], [b.op("Relu", "x")])


def analysed(model: onnx.ModelProto, folder: Path) -> Analysis:
    with open_model(save(model, folder)) as source:
        return analyse(source.model())


@pytest.mark.parametrize(
    ("make", "again"),
    [
        (lambda: residual_mlp_model(3), 0),
        (lambda: tied_attention_model(2, 2, 4), 0),
        (einsum_model, 1),
        (unbatched_model, 0),
    ],
)
def test_shapes_are_those_of_a_run_of_their_own(
    make: Callable[[], onnx.ModelProto], again: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[object] = []

    def counted(model, inputs):
        runs.append(inputs)
        return shapes_at(model, inputs)

    monkeypatch.setattr(natural_sizes, "shapes_at", counted)
    analysis = analysed(make(), tmp_path)
    inputs, seen = natural_shapes(analysis.model, analysis.context.observed)
    assert len(runs) == again
    alone = shapes_at(analysis.model, inputs)
    made = {output.name for node in analysis.model.graph for output in node.outputs}
    assert {name: seen[name] for name in made} == {name: alone[name] for name in made}
    assert all(shape[0] == 1 for shape in inputs.values() if len(shape) > 1)


def test_a_name_that_is_anothers_by_now_is_not_believed(tmp_path: Path) -> None:
    analysis = analysed(residual_mlp_model(3), tmp_path)
    observed = analysis.context.observed
    _, seen = natural_shapes(analysis.model, observed)
    name = next(output.name for node in analysis.model.graph for output in node.outputs)
    observed.single[name] = (((7, 9),), (100,))
    assert natural_shapes(analysis.model, observed)[1][name] == seen[name]
