"""The nouns: a model from wherever it comes, a request, a plan that is carried out, errors, what notebooks show."""

from __future__ import annotations

import dataclasses
import json
import logging
import pydoc
import tempfile
from pathlib import Path
from typing import Any, get_args

import networkx as nx
import numpy as np
import onnx
import onnx_ir as ir
import pytest

import bot_onnx
from bot_onnx._names import AlignKind, DeviceName, MethodName
from bot_onnx._report.json_report import inspection_json
from bot_onnx._resample import all_methods
from bot_onnx._resample.devices import DEVICES
from bot_onnx._surgery.proven import Fault
from bot_onnx._surgery.types import Plan
from bot_onnx._verify import Check, VerifyReport, raise_unless_passed
from bot_onnx.errors import BotError, DimError, GraphError, ProofError, SpecError, VerifyError
from tests.graphs import residual_mlp_model, save, tied_attention_model

REQUEST = bot_onnx.ResizeRequest({"layers": 2, "hidden": 4})


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(residual_mlp_model(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def expected(path: Path) -> bytes:
    """What comes of the file by its path."""
    out = path.with_name("expected.onnx")
    bot_onnx.resize(path, {"layers": 2, "hidden": 4}, out)
    return out.read_bytes()


def given(path: Path, kind: str) -> Any:
    """The same model in another form."""
    forms = {"text": str, "path": Path, "bytes": Path.read_bytes, "message": onnx.load, "onnx_ir": ir.load}
    return forms[kind](path)


def without_hash(model: onnx.ModelProto) -> bytes:
    """A model without what it says of the bytes that it was made from."""
    for entry in model.metadata_props:
        told = json.loads(entry.value) if entry.value.startswith("{") else {}
        if told.pop("source_sha256", None):
            entry.value = json.dumps(told, sort_keys=True)
    return model.SerializeToString()


@pytest.mark.parametrize("kind", ["text", "path", "bytes", "message"])
def test_every_source_gives_the_same_bytes(path: Path, expected: bytes, kind: str, tmp_path: Path) -> None:
    plan = bot_onnx.open(given(path, kind)).plan(REQUEST)
    result = plan.write(tmp_path / "out.onnx")
    assert result.output.read_bytes() == expected
    assert result.plan == plan and result.report.passed
    assert plan.apply() == onnx.load_from_string(expected)


def test_onnx_ir_gives_the_same_network(path: Path, expected: bytes) -> None:
    made = bot_onnx.open(ir.load(path)).plan(REQUEST).apply()
    assert without_hash(made) == without_hash(onnx.load_from_string(expected))  # it is other bytes, if the same model


@pytest.mark.parametrize("kind", ["bytes", "message", "onnx_ir"])
def test_memory_leaves_no_files(
    path: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    folders = [tmp_path / name for name in ("temporary", "memory", "here")]
    for folder in folders:
        folder.mkdir()
    temporary, memory, here = folders
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr("bot_onnx._origins._MEMORY", memory)
    monkeypatch.chdir(here)
    model = bot_onnx.open(given(path, kind))
    assert model.structure.chains[0].count == 3
    model.plan(REQUEST).apply()
    assert model.verify(against=path).passed and model.energy()
    with pytest.raises(DimError):
        model.plan({"dims": {"nothing": 3}})
    assert [entry for folder in folders for entry in folder.iterdir()] == []


def test_memory_goes_to_temporary_files_where_there_is_no_room(
    path: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot_onnx._origins._MEMORY", tmp_path / "none")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert bot_onnx.open(path.read_bytes()).plan(REQUEST).apply() == onnx.load_from_string(expected)
    assert list(tmp_path.iterdir()) == []


def test_messages_name_what_was_given(path: Path) -> None:
    with pytest.raises(GraphError, match=r"^<bytes> is empty"):
        bot_onnx.inspect(b"")
    with pytest.raises(GraphError, match=r"<bytes>.* is not an ONNX model") as refused:
        bot_onnx.inspect(b"no model at all")
    assert "/" not in str(refused.value)
    with pytest.raises(TypeError, match="a model is a path"):
        bot_onnx.open(5)  # type: ignore[arg-type]
    assert bot_onnx.open(path.read_bytes()).plan(REQUEST).source == "<bytes>"


def test_a_message_without_its_weights_is_refused(path: Path, tmp_path: Path) -> None:
    model = onnx.load(path)
    out = tmp_path / "beside.onnx"
    onnx.save(model, out, save_as_external_data=True, location="beside.data", size_threshold=0)
    with pytest.raises(GraphError, match=r"beside a model.*give the path"):
        bot_onnx.inspect(onnx.load(out, load_external_data=False))
    inside = bot_onnx.open(ir.load(out)).plan(REQUEST)  # which knows where they are
    assert len(inside.apply().graph.initializer) > 3


def test_functions_are_the_nouns(path: Path, expected: bytes, tmp_path: Path) -> None:
    model = bot_onnx.open(path)
    assert bot_onnx.inspect(path) == model.inspect()
    plan = bot_onnx.plan(path, {"layers": 2, "hidden": 4})
    assert plan == model.plan(REQUEST) and isinstance(plan, Plan)
    assert json.loads(plan.to_json()) == json.loads(model.plan(REQUEST).to_json())
    out = tmp_path / "out.onnx"
    assert bot_onnx.resize(path, {"layers": 2, "hidden": 4}, out).plan == plan
    assert out.read_bytes() == expected
    assert bot_onnx.verify(out, against=path) == bot_onnx.open(out).verify(against=model)


def test_another_source_is_not_what_was_planned(tmp_path: Path) -> None:
    path = save(residual_mlp_model(), tmp_path)
    plan = bot_onnx.open(path).plan(REQUEST)
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = np.zeros(32, np.float32).tobytes()
    onnx.save(model, path)
    with pytest.raises(GraphError, match="changed since the plan was made"):
        plan.write(tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
    with pytest.raises(GraphError, match="does not know its model"):
        dataclasses.replace(plan, seed=1).apply()


def test_a_request_is_frozen_and_keeps_its_own(tmp_path: Path) -> None:
    options = {"wavelet": "db2"}
    request = bot_onnx.ResizeRequest("bert-s", options=options, seed=3)
    options["wavelet"] = "haar"
    assert request.options == {"wavelet": "db2"}
    assert repr(request) == "ResizeRequest('bert-s', options={'wavelet': 'db2'}, seed=3)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.seed = 4  # type: ignore[misc]
    assert request.target().hidden and dataclasses.replace(request, seed=4).options == request.options
    spec = tmp_path / "spec.json"
    spec.write_text("{}")
    assert bot_onnx.ResizeRequest(spec).files() == [spec]


def test_progress_and_log_tell_the_stages(path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[str, int, int]] = []
    with caplog.at_level(logging.INFO, logger="bot_onnx"):
        model = bot_onnx.open(path)
        model.plan(REQUEST, progress=lambda *told: seen.append(told)).write(tmp_path / "quiet.onnx")
    stages = [what for what, _, total in seen if not total]
    assert stages == [f"analysing {path}", "proving the sizes", "planning"]
    assert "verifying quiet.onnx" in caplog.messages and "running it" in caplog.messages
    seen.clear()
    bot_onnx.resize(path, {"hidden": 4}, tmp_path / "told.onnx", progress=lambda *told: seen.append(told))
    counted = [entry for entry in seen if entry[2]]
    assert counted and counted[-1][1] == counted[-1][2]
    seen.clear()
    bot_onnx.verify(path, progress=lambda *told: seen.append(told))
    assert seen


# -- the graph of layers -----------------------------------------------------------------------------------------------


def test_the_graph_of_layers(path: Path) -> None:
    graph = bot_onnx.open(path).structure.graph()
    assert isinstance(graph, nx.DiGraph) and nx.is_directed_acyclic_graph(graph)
    first, layers, last = "node_matmul0", ["layers.0", "layers.1", "layers.2"], "node_matmul22"
    assert nx.shortest_path(graph, "x", "matmul22") == ["x", first, *layers, last, "matmul22"]
    layer = graph.nodes["layers.1"]
    assert (layer["kind"], layer["chain"], layer["layer"]) == ("layer", "layers", 1)
    assert layer["ops"] == {"LayerNormalization": 1, "MatMul": 2, "Add": 3, "Relu": 1}
    assert layer["roles"] == ("hidden", "intermediate") and layer["parameters"] == 8 + 8 + 128 + 16 + 128 + 8
    assert graph.edges["layers.0", "layers.1"]["values"] == ("add7",)
    assert sum(part["parameters"] for _, part in graph.nodes(data=True)) == bot_onnx.inspect(path).structure.parameters


def test_the_graph_of_attention_has_no_shape_arithmetic(tmp_path: Path) -> None:
    structure = bot_onnx.open(tied_attention_model()).structure
    graph = structure.graph()
    heads = [name for name, part in graph.nodes(data=True) if "heads" in part["roles"]]
    assert {"layers.0", "layers.1"} < set(heads)  # and what writes to the stream and reads it, made of heads as it is
    assert not {"Shape", "Concat"} & {op for _, part in graph.nodes(data=True) for op in part["ops"]}
    assert "overview" not in inspection_json(bot_onnx.inspect(tied_attention_model()))["structure"]
    with pytest.raises(ValueError, match="opened model"):
        dataclasses.replace(structure, overview=None).graph()


# -- errors ------------------------------------------------------------------------------------------------------------


def test_errors_are_public_and_have_attributes() -> None:
    tree = [
        value for value in vars(bot_onnx.errors).values() if isinstance(value, type) and issubclass(value, BotError)
    ]
    assert all(getattr(bot_onnx, error.__name__) is error and error.__name__ in bot_onnx.__all__ for error in tree)
    assert len({error.kind for error in tree}) == len(tree)
    for error in tree:
        made = error("words")
        assert (str(made), made.node, made.dim, made.report, made.alternatives) == ("words", None, None, None, ())


def test_a_refused_size_says_which_dim_and_what_would_do(path: Path, tmp_path: Path) -> None:
    attention = bot_onnx.open(tied_attention_model())
    with pytest.raises(DimError) as refused:
        attention.plan({"hidden": 7, "head_dim": 4})
    assert refused.value.dim == "hidden" and refused.value.alternatives == (4, 8)
    with pytest.raises(SpecError) as unknown:
        bot_onnx.plan(path, {"dims": {"hiden": 4}})
    assert unknown.value.alternatives == ("hidden",)
    with pytest.raises(SpecError) as chain:
        bot_onnx.plan(path, {"layers": {"layer": 2}})
    assert chain.value.alternatives == ("layers",)


def test_a_factor_that_is_asked_for_names_its_node() -> None:
    model = tied_attention_model()
    factor = next(node for node in model.graph.node if node.op_type == "Mul")
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == factor.input[1])
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(0.3), tensor.name))
    with pytest.raises(DimError) as asked:
        bot_onnx.plan(model, {"head_dim": 2})
    assert asked.value.node == factor.name and asked.value.dim == "head_dim" and asked.value.alternatives


def test_a_failed_proof_names_the_place_of_its_fault() -> None:
    error = ProofError("no", Fault("node", "Op", "value", ("hidden", "heads"), "other"))
    assert (error.node, error.dim, error.fault.op) == ("node", "hidden", "Op")
    assert ProofError("no", Fault("", "Op", "value", (), "other")).node == "value"


def test_failed_checks_bring_their_report() -> None:
    report = VerifyReport("m.onnx", (Check("run", "fail", "it stops"),))
    with pytest.raises(VerifyError) as failed:
        raise_unless_passed(report)
    assert failed.value.report is report


# -- what people see ---------------------------------------------------------------------------------------------------


def test_reprs_are_short(path: Path, tmp_path: Path) -> None:
    model = bot_onnx.open(path)
    result = model.plan(REQUEST).write(tmp_path / "out.onnx")
    for shown in (model, model.structure, model.inspect(), result, result.plan, result.report, REQUEST):
        assert len(repr(shown).replace(str(path), "").replace(str(tmp_path), "")) < 200, shown
    assert "hidden 8 -> 4" in repr(result.plan) and "passed" in repr(result.report)


def test_html_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>"
    model = residual_mlp_model()
    model.producer_name = evil
    model.graph.output[0].name = evil
    model.graph.node[-1].output[0] = evil
    opened = bot_onnx.open(model)
    result = opened.plan(REQUEST).write(tmp_path / "out.onnx")
    marked = dataclasses.replace(result.plan, source=evil, notes=(evil,))
    report = dataclasses.replace(result.report, path=evil, checks=(Check(evil, "pass", evil),))
    for shown in (opened, opened.structure, opened.inspect(), result, marked, report):
        html = shown._repr_html_()
        assert html.startswith("<div>") and "<table" in html and "<script" not in html
    assert "&lt;script&gt;" in marked._repr_html_() and "&lt;script&gt;" in report._repr_html_()
    assert "hidden" in opened.structure._repr_html_()


def test_dir_and_help_show_the_public_names() -> None:
    assert dir(bot_onnx) == sorted(bot_onnx.__all__)
    told = pydoc.render_doc(bot_onnx, renderer=pydoc.plaintext)
    assert "class Model" in told and "class ResizeRequest" in told and "open(" in told


def test_the_words_are_those_there_are() -> None:
    from bot_onnx._align.types import KINDS

    built_in = [
        name for name, method in all_methods().items() if type(method).__module__.startswith("bot_onnx._resample.m")
    ]
    assert list(get_args(MethodName)) == built_in
    assert get_args(DeviceName) == DEVICES and get_args(AlignKind) == KINDS


def test_who_only_looks_at_a_plan_needs_no_hash(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = bot_onnx.open(path).plan(REQUEST)
    with monkeypatch.context() as patched:
        patched.delattr("bot_onnx._onnxfile.reader.Source.sha256")
        seen = bot_onnx.open(path)._sketch(REQUEST)
        with pytest.raises(AttributeError):
            bot_onnx.open(path).plan(REQUEST)
    assert seen.source_sha256 == "" and len(plan.source_sha256) == 64
    assert dataclasses.replace(seen, source_sha256=plan.source_sha256).to_json() == plan.to_json()
