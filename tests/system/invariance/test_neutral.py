"""What changes nothing changes nothing: the same dims, roles, layers, stacks, promises and resized outputs."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._runs.runtime import session
from tests.graphs import save
from tests.system.invariance.facts import Facts, difference, facts, understood
from tests.system.invariance.neutral import NEUTRAL, respelled
from tests.system.invariance.zoo import VOCAB, ZOO, Network

#: One of every kind: what the file alone tells, what shapes tell, views and what leads back.
FEW = ("dropout", "cast_like", "reshape_shape", "transpose", "slice", "mul", "mixed")
#: What every network is grown to.
TARGETS: dict[str, dict[str, Any]] = {"images": {"layers": 4, "width": 2}, "lstm": {"hidden": 16}}
GROWN = {"layers": 4, "hidden": 16}
SLOW = pytest.mark.slow


@cache
def network(name: str) -> Network:
    return ZOO[name]()


@cache
def plain_facts(name: str) -> Facts:
    return facts(understood(network(name).model))


def everywhere(name: str) -> list[str]:
    """Values at all places of a network."""
    return list(dict.fromkeys(value for values in network(name).places.values() for value in values))


def _cells() -> list[Any]:
    return [
        pytest.param(name, kind, marks=() if kind in FEW or name == "prenorm" else SLOW)
        for name in ZOO
        for kind in NEUTRAL
    ]


@pytest.mark.parametrize(("name", "kind"), _cells())
def test_neutral_nodes_everywhere(name: str, kind: str) -> None:
    model = respelled(network(name).model, everywhere(name), kind)
    assert difference(plain_facts(name), facts(understood(model))) == []


@pytest.mark.parametrize("kind", [kind if kind in FEW else pytest.param(kind, marks=SLOW) for kind in NEUTRAL])
@pytest.mark.parametrize("name", ["prenorm", "images", "lstm"])
def test_neutral_nodes_on_every_parameter(name: str, kind: str) -> None:
    model = network(name).model
    read = {value for node in model.graph.node for value in node.input}
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and np.prod(t.dims) > 1]
    respelt = respelled(model, [tensor.name for tensor in floats if tensor.name in read], kind)
    assert difference(plain_facts(name), facts(understood(respelt))) == []


@SLOW
@pytest.mark.parametrize("kind", NEUTRAL)
@pytest.mark.parametrize(("name", "place"), [(name, place) for name in ZOO for place in ZOO[name]().places])
def test_neutral_nodes_at_one_place(name: str, place: str, kind: str) -> None:
    model = respelled(network(name).model, network(name).places[place], kind)
    assert difference(plain_facts(name), facts(understood(model))) == []


def outputs(path: Path) -> list[np.ndarray]:
    """What a file computes of fixed inputs."""
    rng = np.random.default_rng(3)
    runner = session(path.read_bytes())
    feeds: dict[str, np.ndarray] = {}
    for port in runner.get_inputs():
        shape = [size if isinstance(size, int) else {"batch": 2, "sequence": 5}[size] for size in port.shape]
        integers = rng.integers(0, VOCAB, shape)
        floats = np.ones(shape, np.float32) if port.name == "mask" else rng.standard_normal(shape, np.float32)
        feeds[port.name] = integers if "int" in port.type else floats
    return list(runner.run(None, feeds))


def ops(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.fixture(scope="module")
def plain_resized(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Per network its plain form, and what becomes of it."""
    folder = tmp_path_factory.mktemp("plain")

    @cache
    def resized(name: str) -> tuple[Path, bot_onnx.Result, Path]:
        source, out = save(network(name).model, folder, f"{name}.onnx"), folder / f"{name}_out.onnx"
        return source, bot_onnx.resize(source, TARGETS.get(name, GROWN), out), out

    return resized


QUICK = {("prenorm", "mixed"), ("prenorm", "transpose"), ("images", "slice"), ("flattened", "dropout"), ("lstm", "mul")}


@pytest.mark.parametrize(
    ("name", "kind"),
    [pytest.param(name, kind, marks=() if (name, kind) in QUICK else SLOW) for name in ZOO for kind in NEUTRAL],
)
def test_resized_alike(name: str, kind: str, plain_resized: Any, tmp_path: Path) -> None:
    source, expected, plain = plain_resized(name)
    respelt = save(respelled(network(name).model, everywhere(name), kind), tmp_path)
    out = tmp_path / "out.onnx"
    found = bot_onnx.resize(respelt, TARGETS.get(name, GROWN), out)
    assert found.report.passed
    assert found.plan.promise == expected.plan.promise
    for ours, theirs in zip(outputs(out), outputs(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    if kind in FEW and name != "lstm":  # an added layer has the neutral nodes that the others have
        more, most = ops(respelt) - ops(source), ops(out) - ops(plain)
        assert set(most) == set(more) - {"Identity", "Shape"}
        assert all(most[op] > more[op] for op in most)


def test_rotated_alike(tmp_path: Path) -> None:
    """The rotation of a stream takes what it takes of the plain form."""
    made = []
    for kind in (None, "mixed"):
        model = (
            network("prenorm").model
            if kind is None
            else respelled(network("prenorm").model, everywhere("prenorm"), kind)
        )
        out = tmp_path / f"{kind}_out.onnx"
        bot_onnx.resize(save(model, tmp_path, f"{kind}.onnx"), {"hidden": 4, "heads": 1}, out, align="rotate")
        made.append(outputs(out)[0])
    np.testing.assert_allclose(made[0], made[1], rtol=0, atol=1e-6)
