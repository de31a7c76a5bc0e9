"""The rewrites to the canonical form, as passes of onnx-ir: what they require and ensure, on graphs of all forms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from bot_onnx._canonical import conditions
from bot_onnx._canonical.conditions import Condition
from bot_onnx._canonical.normalise import REWRITES, Draft, Rewrite, canonical_passes, normalise
from tests.graphs import GraphBuilder, residual_mlp
from tests.system.fuzz.seeds import SEEDS

ALL = {name: value for name, value in vars(conditions).items() if isinstance(value, Condition)}


def untidy() -> onnx.ModelProto:
    """Everything that the rewrites are for and that the seeds lack, in one graph."""
    b = residual_mlp(hidden=8)
    x = b.nodes[-1].output[0]
    held = numpy_helper.from_array(np.full(8, 0.5, np.float32), "held")
    constants = [b.op("Constant", value=held), b.op("Constant", value_floats=[0.25] * 8)]
    x = b.op("Identity", b.op("Sum", x, *constants))
    normed = b.op("SkipLayerNormalization", x, x, b.weight(8), domain="com.microsoft")
    b.op("Relu", b.weight(4, 8, name="unread"))
    zero = b.constant(np.zeros(8, np.float32), "zero")
    x = b.op("Add", b.op("Add", normed, zero), b.op("Mul", b.op("Identity", normed), zero))
    given = b.weight(8, 8, name="given")
    model = b.model([("x", ["batch", 4]), ("given", [8, 8])], [b.op("MatMul", x, given)])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


FORMS: dict[str, Callable[[], onnx.ModelProto]] = {"untidy": untidy, **{name: s.build for name, s in SEEDS.items()}}


def broken(*names: str) -> ir.Model:
    """A graph that breaks the conditions of these names."""
    builder = GraphBuilder()
    x = "x"
    if "NO_CONSTANTS" in names:
        x = builder.op("Add", x, builder.op("Constant", value_float=1.0))
    if "NO_IDENTITIES" in names:
        x = builder.op("Relu", builder.op("Identity", x))
    if "SUMS_OF_TWO" in names:
        x = builder.op("Sum", x, x)
    if "NOTHING_FUSED" in names:
        x = builder.op("BiasGelu", x, builder.weight(4), domain="com.microsoft")
    if "ALL_READ" in names:
        builder.op("Relu", x)
    if "OWN_CONSTANTS" in names:
        shape = builder.ints(0, 4)
        x = builder.op("Reshape", builder.op("Reshape", x, shape), shape)
    ports: list[tuple[str, list[int | str]]] = [("x", ["batch", 4])]
    if "WEIGHTS_INSIDE" in names:
        x = builder.op("Add", x, builder.weight(4, name="given"))
        ports.append(("given", [4]))
    x = builder.op("Relu", x)
    model = builder.model(ports, [x])
    if "IN_ORDER" in names:
        model.graph.node.insert(0, helper.make_node("Tanh", [x], ["late"]))
        model.graph.output[0].name = "late"
    if "NO_CALLS" in names or "ONE_GRAPH" in names:
        return ir.from_proto(SEEDS["functions" if "NO_CALLS" in names else "control"].build())
    return ir.from_proto(model)


@pytest.mark.parametrize("form", FORMS)
def test_every_rewrite_does_what_it_ensures_and_gets_what_it_requires(form: str) -> None:
    """All conditions of all rewrites, in order; and what was once ensured is still true in the end."""
    model = ir.from_proto(FORMS[form]())
    ir.passes.Sequential(*canonical_passes(Draft()))(model)
    for rewrite in REWRITES:
        for condition in rewrite.ensures:
            condition.check(model)


def test_what_a_rewrite_requires_an_earlier_one_ensures() -> None:
    ensured: set[str] = set()
    for rewrite in REWRITES:
        assert {condition.text for condition in rewrite.requires} <= ensured
        ensured |= {condition.text for condition in rewrite.ensures}
    assert ensured == {condition.text for condition in ALL.values()}


@pytest.mark.parametrize("name", ALL)
def test_every_condition_can_fail(name: str) -> None:
    ALL[name].check(broken())
    with pytest.raises(ValueError, match=ALL[name].text):
        ALL[name].check(broken(name))


def test_a_rewrite_in_the_wrong_place_is_found() -> None:
    """Spelling before constants are lifted: in tests the condition says so."""
    spelling = next(one for one in canonical_passes(Draft()) if len(one.rewrite.requires) == 2)
    with pytest.raises(ir.passes.PreconditionError):
        spelling(broken("NO_CONSTANTS"))


def test_a_rewrite_that_leaves_its_work_undone_is_found() -> None:
    idle = Rewrite(lambda model, draft: None, ensures=(conditions.NO_IDENTITIES,))
    with pytest.raises(ir.passes.PostconditionError):
        type(canonical_passes(Draft())[0])(idle, Draft())(broken("NO_IDENTITIES"))


def test_the_form_says_what_was_done() -> None:
    model = ir.from_proto(untidy())
    form = normalise(model)
    assert form.fused == {"SkipLayerNormalization": 1} and form.scheme is None and not form.copies
    assert form.notes(model.graph) == ("Fused ops are written out: SkipLayerNormalization x 1.",)
    quantised = normalise(ir.from_proto(SEEDS["quantised"].build()))
    assert quantised.scheme is not None and quantised.decomposed.weights
