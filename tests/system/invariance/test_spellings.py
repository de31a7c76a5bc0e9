"""One function in several legal spellings is understood in one way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bot_onnx
from tests.graphs import save
from tests.system.invariance.facts import difference, facts, understood
from tests.system.invariance.neutral import respelled
from tests.system.invariance.test_neutral import outputs
from tests.system.invariance.zoo import (
    COMPUTED_SCALES,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    Network,
    Spelling,
    images,
    mlp,
    postnorm,
    prenorm,
    rmsnorm,
)

Build = Callable[[Spelling], Network]
PLAIN = Spelling()
LINEAR = ("gemm", "fused", "einsum", "transposed", "fused_transposed", "einsum_transposed")
NORMS = ("pow", "square", "inverse_root", "reciprocal", "one_over", "half_power", "scaled_first", "moments", "skip")

CASES: list[tuple[Build, Spelling, dict[str, Any]]] = [
    *((prenorm, PLAIN, {"linear": way}) for way in LINEAR),
    *((build, PLAIN, {"norm": way}) for build in (prenorm, postnorm) for way in NORMS),
    *((rmsnorm, Spelling(norm="pow"), {"norm": way}) for way in (*NORMS[1:-2], "skip", "simplified")),
    (rmsnorm, Spelling(norm="pow"), {"norm": "rms", "opset": 23}),
    (prenorm, PLAIN, {"norm": "moments", "opset": 18}),
    *((mlp, PLAIN, {"gelu": way}) for way in ("op", "erf_mul", "half_first")),
    (mlp, Spelling(gelu="tanh"), {"gelu": "fast"}),
    (mlp, Spelling(gelu="tanh"), {"gelu": "tanh_op", "opset": 20}),
    (mlp, Spelling(gelu="silu"), {"gelu": "quick"}),
    *((prenorm, PLAIN, {"softmax": way}) for way in ("log", "plain", "shifted", "reciprocal")),
    *((prenorm, PLAIN, {"scale": way}) for way in ("query", "key", "both", "after_div", "alpha", *COMPUTED_SCALES)),
    (prenorm, PLAIN, {"mask": "where"}),
    (prenorm, PLAIN, {"sum": "sum"}),
    *((prenorm, PLAIN, {"product": way}) for way in ("einsum", "fused", "fused_batch")),
    (prenorm, PLAIN, {"commuted": True}),
    (images, PLAIN, {"pool": "mean"}),
    *((images, PLAIN, {"flat": way}) for way in ("reshape", "squeeze")),
    *((images, PLAIN, {"head": way}) for way in ("gemm_turned", "matmul")),
    (images, PLAIN, {"bias": "add"}),
]


@pytest.mark.parametrize(("build", "plain", "other"), CASES)
def test_understood_alike(build: Build, plain: Spelling, other: dict[str, Any]) -> None:
    first, second = (facts(understood(build(how).model), shapes=False) for how in (plain, replace(plain, **other)))
    assert difference(first, second) == []


@pytest.mark.slow
@pytest.mark.parametrize(("build", "plain", "other"), CASES)
def test_grown_alike(build: Build, plain: Spelling, other: dict[str, Any], tmp_path: Path) -> None:
    target = {"layers": 4, "width": 2} if build is images else {"layers": 4, "hidden": 16}
    promises, made = [], []
    for name, how in (("plain", plain), ("other", replace(plain, **other))):
        out = tmp_path / f"{name}_out.onnx"
        result = bot_onnx.resize(save(build(how).model, tmp_path, f"{name}.onnx"), target, out)
        promises.append(result.plan.promise)
        made.append(outputs(out)[0])
    assert promises[0] == promises[1]
    np.testing.assert_allclose(made[0], made[1], rtol=0, atol=1e-5)


FORMS = [
    ({"linear": "fused_transposed"}, {"FusedMatMul"}),
    ({"linear": "einsum_transposed"}, {"Einsum"}),
    ({"product": "einsum"}, {"Einsum"}),
    ({"scale": "alpha", "sum": "sum"}, {"FusedMatMul", "Sum"}),
]


@pytest.mark.parametrize(("other", "kept"), FORMS)
def test_written_as_the_source_is(other: dict[str, Any], kept: set[str], tmp_path: Path) -> None:
    """Grown, more layers included, the two compute the same, and each has the ops of its source, layer by layer."""
    target = {"layers": 4, "hidden": 4 * HIDDEN, "heads": 2 * HEADS, "head_dim": 2 * HEAD_DIM}
    made: list[np.ndarray] = []
    for name, how in (("plain", PLAIN), ("other", replace(PLAIN, **other))):
        source, out = save(prenorm(how).model, tmp_path, f"{name}.onnx"), tmp_path / f"{name}_out.onnx"
        assert bot_onnx.resize(source, target, out).report.passed
        made += outputs(out)
        before, after = (_counted(path) for path in (source, out))
        assert {op for op in after if before.get(op, 0) != after[op]} <= {op for op in after if before.get(op, 0)}
    np.testing.assert_allclose(made[0], made[1], rtol=0, atol=1e-5)
    assert kept <= set(after)
    assert all(after[op] > before[op] for op in kept)


def test_alpha_follows_head_dim(tmp_path: Path) -> None:
    source, out = save(prenorm(Spelling(scale="alpha")).model, tmp_path), tmp_path / "out.onnx"
    bot_onnx.resize(source, {"hidden": 32, "heads": 2, "head_dim": 16}, out)
    found = {a.f for node in onnx.load(out).graph.node for a in node.attribute if a.name == "alpha"}
    assert found == {np.float32(0.25)}


@pytest.mark.parametrize("way", COMPUTED_SCALES)
def test_a_factor_that_is_worked_out_follows_head_dim(way: str, tmp_path: Path) -> None:
    """Smaller heads get the factor of their size, and compute what the plain spelling does."""
    made: list[np.ndarray] = []
    for name, how in (("plain", PLAIN), ("other", Spelling(scale=way))):
        source, out = save(prenorm(how).model, tmp_path, f"{name}.onnx"), tmp_path / f"{name}_out.onnx"
        target = {"hidden": HIDDEN, "heads": HEADS, "head_dim": 2}
        plan = bot_onnx.resize(source, target, out, align="none").plan
        assert {round(edit.new**2, 5) for edit in plan.constants if edit.edit == "SetFactor"} <= {0.5, 2.0}
        made += outputs(out)
    np.testing.assert_allclose(made[1], made[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("way", COMPUTED_SCALES)
def test_a_factor_that_stays_is_worked_out_as_in_the_source(way: str, tmp_path: Path) -> None:
    """Also in layers that are added. A cast to the type of something else is one to that type."""
    source, out = save(prenorm(Spelling(scale=way)).model, tmp_path), tmp_path / "out.onnx"
    bot_onnx.resize(source, {"layers": 4, "hidden": 2 * HIDDEN, "head_dim": HEAD_DIM}, out)
    before, after = _counted(source), _counted(out)
    before["Cast"] = before.get("Cast", 0) + before.pop("CastLike", 0)
    assert {op for op, count in before.items() if count > after.get(op, 0)} == set()


def test_weights_brought_in_keep_the_spelling(tmp_path: Path) -> None:
    spelt = prenorm(Spelling(linear="fused_transposed", sum="sum", scale="alpha"))
    model = respelled(spelt.model, spelt.places["branch"], "dropout")
    source, out = save(model, tmp_path), tmp_path / "out.onnx"
    bot_onnx.import_weights(source, bot_onnx.state_dict(source), out)
    assert _counted(out) == _counted(source)
    np.testing.assert_allclose(outputs(out)[0], outputs(source)[0], rtol=0, atol=1e-6)


def _counted(path: Path) -> dict[str, int]:
    counted: dict[str, int] = {}
    for node in onnx.load(path).graph.node:
        counted[node.op_type] = counted.get(node.op_type, 0) + 1
    return counted
