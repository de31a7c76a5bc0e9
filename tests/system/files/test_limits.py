"""What would take hours or all memory is refused, or answered, at once: functions, loops, sizes, classical models."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bot_onnx import api
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._request import ResizeRequest
from bot_onnx._runs import observe
from bot_onnx._runs.runtime import EndlessError
from bot_onnx.errors import BotError, GraphError, SpecError
from tests.graphs import residual_mlp_model, save

port = helper.make_tensor_value_info
FLOAT = TensorProto.FLOAT
COMMANDS: dict[str, Callable[[Path], object]] = {
    "inspect": api.inspect,
    "energy": api.energy,
    "verify": api.verify,
    "resize": lambda path: api.resize(path, {"width": 0.5}, path.with_name("half.onnx")),
}


@contextmanager
def quick(seconds: float = 2.0) -> Iterator[None]:
    started = time.process_time()
    yield
    assert time.process_time() - started < seconds


def model(nodes: list[onnx.NodeProto], outputs: dict[str, int], *tensors: onnx.TensorProto) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "g", [port("x", FLOAT, ["n", 8])], [port(name, kind, None) for name, kind in outputs.items()], tensors
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("nest", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


# -- classical models --------------------------------------------------------------------------------------------------


def trees(kind: str, count: int = 300_000) -> onnx.NodeProto:
    """So many trees of one leaf each: a file of some 15 MB."""
    leaf: dict[str, Any] = {
        "nodes_treeids": range(count), "nodes_nodeids": [0] * count, "nodes_featureids": [0] * count,
        "nodes_values": np.ones(count), "nodes_modes": ["LEAF"] * count, "nodes_truenodeids": [0] * count,
        "nodes_falsenodeids": [0] * count,
    }  # fmt: skip
    of = "target" if kind.endswith("Regressor") else "class"
    leaf |= {f"{of}_treeids": range(count), f"{of}_nodeids": [0] * count, f"{of}_ids": [0] * count}
    leaf |= {f"{of}_weights": np.ones(count)}
    leaf |= {"n_targets": 1} if of == "target" else {"classlabels_int64s": [0, 1]}
    return helper.make_node(kind, ["x"], ["y"] if of == "target" else ["label", "y"], domain="ai.onnx.ml", **leaf)


def support_vectors() -> onnx.NodeProto:
    return helper.make_node(
        "SVMRegressor", ["x"], ["y"], domain="ai.onnx.ml", coefficients=np.ones(50_000), n_supports=50_000,
        support_vectors=np.ones(400_000), rho=[0.0], kernel_type="RBF", kernel_params=[0.1, 0.0, 3.0],
    )  # fmt: skip


def linear() -> onnx.NodeProto:
    return helper.make_node(
        "LinearClassifier", ["x"], ["label", "y"], domain="ai.onnx.ml", coefficients=np.ones(16), intercepts=[0.0, 0.0],
        classlabels_ints=[0, 1],
    )  # fmt: skip


CLASSICAL = {
    "TreeEnsembleRegressor": lambda: trees("TreeEnsembleRegressor"),
    "TreeEnsembleClassifier": lambda: trees("TreeEnsembleClassifier"),
    "SVMRegressor": support_vectors,
    "LinearClassifier": linear,
}


@pytest.mark.parametrize("kind", CLASSICAL)
def test_classical_models_have_no_weights(tmp_path: Path, kind: str) -> None:
    node = CLASSICAL[kind]()
    outputs = {name: TensorProto.INT64 if name == "label" else FLOAT for name in node.output}
    path = save(model([node], outputs), tmp_path)
    for command in COMMANDS.values():
        with quick(), pytest.raises(GraphError, match=f"no weights to resize: {kind}"):
            command(path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"model.onnx"}


def test_scales_of_inputs_make_no_weights_of_trees(tmp_path: Path) -> None:
    scaled = helper.make_node("Div", ["x", "scale"], ["scaled"])
    tree = trees("TreeEnsembleRegressor")
    tree.input[0] = "scaled"
    path = save(model([scaled, tree], {"y": FLOAT}, numpy_helper.from_array(np.ones((1, 8), "f"), "scale")), tmp_path)
    with quick(), pytest.raises(GraphError, match="no weights to resize: TreeEnsembleRegressor"):
        api.inspect(path)


def test_a_network_before_a_classical_op_is_one(tmp_path: Path) -> None:
    made = residual_mlp_model()
    end = made.graph.output[0].name
    made.graph.node.append(helper.make_node("Normalizer", [end], ["z"], domain="ai.onnx.ml", norm="L2"))
    made.graph.output[0].name = "z"
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    assert api.inspect(save(made, tmp_path)).structure.stacks


def test_the_energy_of_no_weights_is_refused(tmp_path: Path) -> None:
    path = save(model([helper.make_node("Relu", ["x"], ["y"])], {"y": FLOAT}), tmp_path)
    with pytest.raises(GraphError, match="no weights to resize; give a neural network"):
        api.energy(path)


# -- functions and loops -----------------------------------------------------------------------------------------------


def test_functions_that_unfold_into_a_billion_nodes(tmp_path: Path) -> None:
    functions = []
    for level in range(30):
        name, domain = (f"F{level + 1}", "nest") if level < 29 else ("Relu", "")
        calls = [helper.make_node(name, [a], [b], domain=domain) for a, b in (("x", "t"), ("t", "y"))]
        imports = [helper.make_opsetid("nest", 1), helper.make_opsetid("", 17)]
        functions.append(helper.make_function("nest", f"F{level}", ["x"], ["y"], calls, imports))
    made = model([helper.make_node("F0", ["x"], ["y"], domain="nest")], {"y": FLOAT})
    made.functions.extend(functions)
    with quick(), pytest.raises(GraphError, match=r"unfold into 1073741824 nodes, more than 1,000,000"):
        open_model(save(made, tmp_path))


def loop(condition: str, depth: int = 0) -> onnx.NodeProto:
    """``x`` times a matrix, as often as ``trips`` says, or until a condition that is never false, ``depth`` deep."""
    d = f"_{depth}"
    going = {
        "kept": [helper.make_node("Identity", [f"c{d}"], [f"co{d}"])],
        "true": [helper.make_node("Constant", [], [f"co{d}"], value=numpy_helper.from_array(np.array(True)))],
        "computed": [
            helper.make_node("ReduceMax", [f"s{d}"], [f"r{d}"], keepdims=0),
            helper.make_node("Less", [f"r{d}", "bound"], [f"co{d}"]),
        ],
    }[condition]
    inner, nodes = f"s{d}", list(going)
    if depth:
        nested = loop(condition, depth - 1)
        nested.input[2] = inner
        nodes.append(nested)
        inner = nested.output[0]
    nodes.append(helper.make_node("MatMul", [inner, "w"], [f"so{d}"]))
    body = helper.make_graph(
        nodes, f"body{d}",
        [port(f"i{d}", TensorProto.INT64, []), port(f"c{d}", TensorProto.BOOL, []), port(f"s{d}", FLOAT, ["n", 8])],
        [port(f"co{d}", TensorProto.BOOL, []), port(f"so{d}", FLOAT, ["n", 8])],
    )  # fmt: skip
    return helper.make_node("Loop", ["trips", "", "x"], [f"y{d}"], name=f"loop{d}", body=body)


def looping(node: onnx.NodeProto, trips: int | None) -> onnx.ModelProto:
    if trips is None:
        node.input[0] = ""
    tensors = {"trips": np.array(trips or 0), "w": np.eye(8, dtype="f") / 2, "bound": np.array(100, np.float32)}
    return model([node], {node.output[0]: FLOAT}, *(numpy_helper.from_array(v, n) for n, v in tensors.items()))


@pytest.mark.parametrize(
    ("condition", "trips", "depth"),
    [("kept", 2**40, 0), ("true", 2**62, 0), ("kept", None, 0), ("true", None, 0), ("kept", 100_000, 1)],
)
def test_loops_that_cannot_end(tmp_path: Path, condition: str, trips: int | None, depth: int) -> None:
    path = save(looping(loop(condition, depth), trips), tmp_path)
    with quick(), pytest.raises(GraphError, match=r"Loop 'loop_0' of .* would run more than 10,000,000 steps"):
        api.inspect(path)


def test_trips_that_an_attribute_holds(tmp_path: Path) -> None:
    made = looping(loop("kept"), 0)
    del made.graph.initializer[0]
    made.graph.node.insert(0, helper.make_node("Constant", [], ["trips"], value_int=2**40))
    with quick(), pytest.raises(GraphError, match="would run more than"):
        open_model(save(made, tmp_path))


@pytest.mark.parametrize("depth", [0, 1])
def test_loops_that_do_not_end_are_stopped(tmp_path: Path, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest number with a condition is how exporters write ``while``: only a run tells whether it ends."""
    path = save(looping(loop("computed", depth), 2**63 - 1), tmp_path)
    monkeypatch.setattr(observe, "LOOP_SECONDS", 0.5)
    with pytest.raises(EndlessError, match="did not end within"):
        api.inspect(path)


@pytest.mark.parametrize(("trips", "depth"), [(20, 0), (20, 1), (0, 0)])
def test_loops_that_end(tmp_path: Path, trips: int, depth: int) -> None:
    assert api.inspect(save(looping(loop("kept", depth), trips), tmp_path)).structure.nodes


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [10_000_000, [10_000_000], {"layers": 2**63}])
def test_the_ceiling_of_layers_is_stated(layers: object) -> None:
    with quick(), pytest.raises(SpecError, match=r"at most 2048 \(the ceiling for layers\)"):
        ResizeRequest({"layers": layers}).target()


@pytest.mark.parametrize("spec", [{"hidden": 10**9}, {"width": 1e6}, {"hidden": 2**31 - 1, "intermediate": 2**31 - 1}])
def test_plans_of_any_size_are_made_at_once(tmp_path: Path, spec: dict[str, float]) -> None:
    with quick(3):
        promise = api.plan(save(residual_mlp_model(), tmp_path), spec).promise
    assert promise.kept is None and "too many to try it" in promise.why


def test_as_many_layers_as_there_may_be(tmp_path: Path) -> None:
    with quick(40):  # a search of the whole graph per layer takes minutes
        plan = api.plan(save(residual_mlp_model(), tmp_path), {"layers": 2048})
    assert plan.layers[0].target == 2048


@pytest.mark.parametrize(
    "symbol",
    ["n*" * 95 + "n", "(" * 99 + "n+1" + ")" * 99, "-" * 199 + "n", "9" * 190 + "*n", "n**9**9**9", "n//0", "1if n+1",
     "(" * 50_000 + "n+1", "n+" * 50_000 + "n"],
    ids=lambda symbol: symbol[:10],
)  # fmt: skip
def test_symbols_that_look_like_formulas(tmp_path: Path, symbol: str) -> None:
    made = residual_mlp_model()
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_param = symbol
    with quick(3), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            api.inspect(save(made, tmp_path))
        except BotError as error:
            assert "too large" in str(error)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, json.dumps({"layers": "9" * 10**6})])
def test_deep_and_long_specs(tmp_path: Path, text: str) -> None:
    (tmp_path / "spec.json").write_text(text)
    with quick(), pytest.raises(SpecError):
        ResizeRequest(tmp_path / "spec.json").target()
