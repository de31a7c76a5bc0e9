"""Alignment, on real graphs: neutral at full size, worth something at half size, refused where it cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import bot_onnx
from bot_onnx._align import Aligned, Alignment, Facts, Kind, align, find_facts, plan_alignment
from bot_onnx._align.energy import energy, halved
from bot_onnx._align.folding import Folding
from bot_onnx._align.rotate import Rotated
from bot_onnx._analysis.passes import analyse
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.writer import write_model
from bot_onnx._proof import Way, settle
from bot_onnx._reasons import Reason, Why
from bot_onnx._resample import make_options, operator
from bot_onnx._resample.devices import namespace
from bot_onnx._runs.runtime import session
from bot_onnx._structure import Structure
from bot_onnx._surgery.execute import produce
from bot_onnx._surgery.planner import Origin, prepare
from bot_onnx._target import TargetSpec
from bot_onnx.demo.data import accuracy, held_out, model_file
from bot_onnx.errors import ResampleError
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.system.oracle.test_oracle import spec_of
from tests.zoo.architectures import TARGETS, base_size
from tests.zoo.export import cached_export
from tests.zoo.real import minilm_l6

PERMUTED = (
    ("gpt2", "dynamo18"),
    ("gpt2", "torchscript17"),
    ("vit", "dynamo18"),
    ("vit", "torchscript17"),
    ("llama", "dynamo18"),
    ("llama", "torchscript17"),
    ("bert_mlm", "dynamo18"),
    ("bert_mlm", "torchscript17"),
    ("bert", "dynamo18"),
)
TURNED = (
    ("gpt2", "torchscript17"),
    ("vit", "dynamo18"),
    ("llama", "dynamo18"),
    ("deit", "torchscript17"),
    ("bert", "dynamo18"),
    ("roberta", "torchscript17"),
)


def resize(
    source: Path, spec: Mapping[str, Any], out: Path, kind: Kind, *, towards: Mapping[str, int] | None = None
) -> tuple[Alignment, Aligned]:
    """Resize with an alignment planned for ``spec``, or for other sizes."""
    with open_model(source) as opened:
        analysis = analyse(opened.model())
        other = plan_alignment(kind, analysis.structure, towards, find_facts(analysis)) if towards else None
        options = make_options("bot")
        target = TargetSpec.parse(dict(spec))
        prepared = prepare(
            analysis,
            target,
            settle(analysis, target, Way("bot", options)),
            Origin(str(source), "", opened.size_bytes),
            method="bot",
            options=options,
            seed=0,
            external=False,
            align=kind,
        )
        prepared.alignment = other or prepared.alignment
        write_model(prepared.proto, prepared.slots, produce(prepared, options, xp=namespace("cpu")), out, force=True)
        return prepared.alignment, align(prepared.alignment, prepared.tensors)


def everything_halved(structure: Structure) -> dict[str, int]:
    """Every free leaf halved, those inside heads too."""
    return {d.id: d.size // 2 if not d.parts and d.frozen is None else d.size for d in structure.dims.values()}


def facts_of(path: Path) -> tuple[Structure, Facts]:
    with open_model(path) as opened:
        analysis = analyse(opened.model())
        return analysis.structure, find_facts(analysis)


def weights(path: Path) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


# -- permute -------------------------------------------------------------------------------------------------------


@pytest.mark.exporter
@pytest.mark.parametrize(("arch", "exporter"), PERMUTED)
def test_a_permuted_network_computes_the_same(arch: str, exporter: str, tmp_path: Path) -> None:
    source, out = cached_export(arch, base_size(arch), exporter), tmp_path / "permuted.onnx"
    structure, _ = facts_of(source)
    alignment, _ = resize(source, {"layers": 4}, out, "permute", towards=everything_halved(structure))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(source)) <= 1e-5
    # The reader renames nothing, so that the files can be compared tensor by tensor: the big ones all moved.
    before, after = weights(source), weights(out)
    moved = [n for n in before if before[n].ndim == 2 and n in after and not np.array_equal(before[n], after[n])]
    matrices = [name for stack in structure.stacks if stack.kind == "matrix" and stack.chain for name in stack.tensors]
    assert set(matrices) <= set(moved)
    for name in matrices:
        np.testing.assert_array_equal(np.sort(before[name], axis=None), np.sort(after[name], axis=None))
    if arch == "bert":
        assert any("last_hidden_state" in note for note in alignment.notes)


def test_what_an_output_carries_keeps_its_order() -> None:
    with model_file() as path:
        structure, facts = facts_of(path)
    hidden = facts.stream.hidden
    free = plan_alignment("permute", structure, halved(structure), facts)
    shown = replace(facts, freedom=replace(facts.freedom, outputs={hidden: Reason.of(Why.SHOWN, "features")}))
    bound = plan_alignment("permute", structure, halved(structure), shown)
    assert hidden in free.moves.shared and hidden not in bound.moves.shared  # type: ignore[attr-defined]
    assert "hidden keeps its order: the output features carries it" in bound.notes


def test_a_dim_that_crosses_layers_gets_one_order() -> None:
    with model_file() as path:
        structure, facts = facts_of(path)
    neurons = next(dim.id for dim in structure.dims.values() if dim.role == "intermediate")
    (chain,) = facts.freedom.crossing
    crossing = {chain: facts.freedom.crossing[chain] | {neurons}}
    moves = plan_alignment(
        "permute", structure, halved(structure), replace(facts, freedom=replace(facts.freedom, crossing=crossing))
    ).moves  # type: ignore[attr-defined]
    assert neurons in moves.shared and all(leaf != neurons for _, leaf in moves.layered)


def test_nothing_moves_where_nothing_shrinks() -> None:
    with model_file() as path:
        structure, facts = facts_of(path)
    grown = {dim.id: dim.size * 2 for dim in structure.dims.values()}
    assert plan_alignment("auto", structure, grown, facts).kind == "none"
    moves = plan_alignment("permute", structure, grown, facts).moves  # type: ignore[attr-defined]
    assert not (moves.shared or moves.layered or moves.heads)


# -- rotate --------------------------------------------------------------------------------------------------------


def with_flat_norms(source: Path, out: Path) -> tuple[Structure, Facts]:
    """A copy whose norms have one scale for all channels where a turn must follow it, and biases all over the place."""
    structure, facts = facts_of(source)
    folding = Folding(structure, facts.stream)
    rng = np.random.default_rng(0)
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        norm = folding.norms.get(tensor.name)
        if tensor.name in folding.biases:
            values = 0.2 * rng.normal(size=tuple(tensor.dims))
        elif norm is not None:
            values = (
                np.full(tuple(tensor.dims), 0.9) if norm.follows else rng.uniform(0.5, 1.5, size=tuple(tensor.dims))
            )
        else:
            continue
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    onnx.save(model, out)
    return structure, facts


def seen(path: Path, facts: Facts) -> list[list[NDArray[Any]]]:
    """What a turn must not change: outputs, and of those that carry hidden their inner products."""
    turned = [value.name in facts.stream.outputs for value in onnx.load(path).graph.output]

    def products(values: NDArray[Any]) -> NDArray[Any]:
        rows = values.reshape(-1, values.shape[-1])
        return np.asarray(rows @ rows.T)

    return [
        [products(values) if is_turned else values for values, is_turned in zip(outputs, turned, strict=True)]
        for outputs in run_at_two_sizes(path)
    ]


@pytest.mark.exporter
@pytest.mark.parametrize(("arch", "exporter"), TURNED)
def test_a_turned_network_computes_the_same(arch: str, exporter: str, tmp_path: Path) -> None:
    source, out = tmp_path / "source.onnx", tmp_path / "turned.onnx"
    structure, facts = with_flat_norms(cached_export(arch, base_size(arch), exporter), source)
    _, aligned = resize(source, {"layers": structure.chains[0].count}, out, "rotate")
    assert distance(seen(out, facts), seen(source, facts)) <= 1e-4
    assert isinstance(aligned, Rotated)
    assert aligned.basis.share == pytest.approx(1.0)
    assert np.abs(aligned.basis.write - np.eye(len(aligned.basis.write))).max() > 0.5


def tied_decoder(norm: str) -> onnx.ModelProto:
    """Pre-norm layers between an embedding and a head that is the same table; three scales before it stand out."""
    b, hidden = GraphBuilder(), 16
    gains = np.ones(hidden, np.float32)
    gains[[2, 7, 11]] = 1.6, -1.0, 3.0

    def normed(x: str, scale: NDArray[np.float32]) -> str:
        if norm == "LayerNorm":
            return b.op("LayerNormalization", x, b.constant(scale), b.constant(np.zeros(hidden, np.float32)))
        squares = b.op("ReduceMean", b.op("Mul", x, x), axes=[-1], keepdims=1)
        length = b.op("Sqrt", b.op("Add", squares, b.constant(np.float32(1e-5))))
        return b.op("Mul", b.op("Div", x, length), b.constant(scale))

    table = b.constant(np.random.default_rng(0).standard_normal((40, hidden)).astype(np.float32))
    x = b.op("Gather", table, "ids")
    for _ in range(3):
        inner = b.op("Relu", b.op("MatMul", normed(x, 2 * np.ones(hidden, np.float32)), b.weight(hidden, 24)))
        x = b.op("Add", x, b.op("MatMul", inner, b.weight(24, hidden)))
    logits = b.op("MatMul", normed(x, gains), b.op("Transpose", table, perm=[1, 0]))
    return b.model([("ids", ["batch", "sequence"])], [logits], integer_inputs=["ids"], rank=3)


@pytest.mark.parametrize("norm", ["LayerNorm", "RMSNorm"])
def test_a_tied_head_reads_what_it_read_whatever_scales_stand_out_before_it(norm: str, tmp_path: Path) -> None:
    """Turned at full size: channels of another scale or sign stay as they are, and the mean what it is."""
    source, out = save(tied_decoder(norm), tmp_path), tmp_path / "turned.onnx"
    _, aligned = resize(source, {"layers": 3}, out, "rotate")
    assert isinstance(aligned, Rotated)
    assert np.abs(aligned.basis.write - np.eye(16)).max() > 0.5
    ids = {"ids": np.random.default_rng(1).integers(0, 40, (2, 9))}
    wanted, found = (session(str(path)).run(None, ids)[0] for path in (source, out))
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_a_language_model_that_is_turned_without_samples_is_told_of_them(tmp_path: Path) -> None:
    told = "chosen by the weights alone: on samples (--calibration) a language model keeps far more"
    source, given = save(tied_decoder("LayerNorm"), tmp_path), tmp_path / "samples.npz"
    np.savez(given, ids=np.random.default_rng(1).integers(0, 40, (8, 9)))
    notes = partial(_notes, source, tmp_path / "out.onnx")
    assert told in notes({"hidden": 8})
    assert told not in notes({"hidden": 8}, calibration=given)
    assert told not in notes({"hidden": 8}, align="none")
    with model_file() as classifier:
        assert told not in _notes(classifier, tmp_path / "out.onnx", {"hidden": 32})


def _notes(source: Path, out: Path, spec: dict[str, int], **options: Any) -> tuple[str, ...]:
    return bot_onnx.resize(source, spec, out, force=True, **options).plan.notes


def spelled_out(model: onnx.ModelProto) -> None:
    """Write every LayerNormalization out in ops, as exporters did before opset 17."""
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), "last"))
    graph.initializer.append(numpy_helper.from_array(np.array(2, dtype=np.float32), "two"))
    for number, node in enumerate([n for n in graph.node if n.op_type == "LayerNormalization"]):
        (epsilon,) = (a.f for a in node.attribute if a.name == "epsilon")
        graph.initializer.append(numpy_helper.from_array(np.array(epsilon, dtype=np.float32), f"epsilon{number}"))
        x, scale, bias = node.input
        names = [f"norm{number}_{step}" for step in range(8)]
        steps = [
            ("ReduceMean", [x, "last"]), ("Sub", [x, names[0]]), ("Pow", [names[1], "two"]),
            ("ReduceMean", [names[2], "last"]), ("Add", [names[3], f"epsilon{number}"]), ("Sqrt", [names[4]]),
            ("Div", [names[1], names[5]]), ("Mul", [names[6], scale]), ("Add", [names[7], bias]),
        ]  # fmt: skip
        place = list(graph.node).index(node)
        graph.node.remove(node)
        for offset, ((op, inputs), result) in enumerate(zip(steps, [*names, node.output[0]], strict=True)):
            graph.node.insert(place + offset, helper.make_node(op, inputs, [result]))


def test_norms_written_out_in_ops_are_understood(tmp_path: Path) -> None:
    source, out = tmp_path / "source.onnx", tmp_path / "turned.onnx"
    with model_file() as path:
        model = onnx.load(path)
        _, facts = facts_of(path)
    spelled_out(model)
    onnx.save(model, source)
    _, found = facts_of(source)
    assert found.stream.obstacle is None
    assert sorted(n.scale for n in found.stream.norms) == sorted(n.scale for n in facts.stream.norms)
    assert all(norm.centred and norm.bias and len(norm.readers) in (1, 3) for norm in found.stream.norms)
    resize(source, {"layers": 6}, out, "rotate")
    assert distance(run_at_two_sizes(out), run_at_two_sizes(source)) <= 1e-4


def test_the_demo_turned_computes_the_same(tmp_path: Path) -> None:
    with model_file() as path:
        resize(path, {"layers": 6}, tmp_path / "turned.onnx", "rotate")
        assert distance(run_at_two_sizes(tmp_path / "turned.onnx"), run_at_two_sizes(path)) <= 1e-4


@pytest.mark.exporter
@pytest.mark.parametrize("arch", ["gpt2", "vit", pytest.param("llama", marks=pytest.mark.slow)])
def test_a_turned_half_is_a_whole_network(arch: str, tmp_path: Path) -> None:
    """Shapes, ties and constants of the half-size network are those of a native export."""
    size, out = TARGETS["half"](base_size(arch)), tmp_path / "half.onnx"
    source = cached_export(arch, base_size(arch), "dynamo18")
    alignment, _ = resize(source, spec_of(arch, size), out, "auto")
    assert alignment.kind == "rotate"
    by_role = {dim.role: dim.size for dim in alignment.structure.dims.values() if not dim.parts}
    assert by_role["hidden"] == size.hidden and by_role["intermediate"] == size.intermediate
    assert by_role.get("kv_heads", by_role.get("heads")) == (size.kv_heads if arch == "llama" else size.heads)
    native = transplant(analysis_of(out), analysis_of(cached_export(arch, size, "dynamo18")))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= 1e-3


def scores(path: Path) -> float:
    images = held_out()
    return accuracy(session(str(path)).run(None, images.feeds())[0], images.labels)


def test_alignment_saves_what_a_trained_network_knows(tmp_path: Path) -> None:
    """Half the width, no training: accuracy on held-out digits (measured 0.12, 0.38 and 0.56)."""
    found: dict[str, float] = {}
    kinds: tuple[Kind, ...] = ("none", "permute", "rotate")
    with model_file() as path:
        for kind in kinds:
            out = tmp_path / f"{kind}.onnx"
            resize(path, {"layers": 6, "hidden": 32}, out, kind)
            found[kind] = scores(out)
    assert found["permute"] >= found["none"] + 0.15
    assert found["rotate"] >= found["permute"] + 0.1


@pytest.mark.parametrize("kind", ["rotate", "select"])
def test_idle_neurons_go_first(kind: Kind, tmp_path: Path) -> None:
    """Neurons and heads that write nothing can be dropped without a trace."""
    source, out = tmp_path / "idle.onnx", tmp_path / "out.onnx"
    with model_file() as path:
        structure, _ = facts_of(path)
        model = onnx.load(path)
    stacks = {name: stack for stack in structure.stacks for name in stack.tensors}
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        stack = stacks.get(tensor.name)
        if stack is None or stack.kind != "matrix" or not stack.writes_residual:
            continue
        values = numpy_helper.to_array(tensor).copy()
        if values.shape[0] == 256:
            values[rng.permutation(256)[:128]] = 0
        else:
            values.reshape(4, 16, 64)[rng.permutation(4)[:2]] = 0
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, source)
    alignment, _ = resize(source, {"layers": 6, "hidden": 64, "heads": 2, "head_dim": 16, "intermediate": 128},
                          out, kind)  # fmt: skip
    assert {d.role: d.size for d in alignment.structure.dims.values()}["intermediate"] == 128
    assert distance(run_at_two_sizes(out), run_at_two_sizes(source)) <= 1e-4


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.exporter
def test_auto_turns_a_post_norm_network_and_says_what_it_costs() -> None:
    structure, facts = facts_of(cached_export("bert_mlm", base_size("bert_mlm"), "torchscript17"))
    chosen = plan_alignment("auto", structure, halved(structure), facts)
    assert chosen.kind == "rotate"
    assert any("is the residual stream" in note for note in chosen.notes)
    assert any("which the activation shows" in note for note in chosen.notes)
    narrow = {dim.id: dim.size // 2 if dim.role == "intermediate" else dim.size for dim in structure.dims.values()}
    assert plan_alignment("auto", structure, narrow, facts).kind == "select"


def test_a_layer_scale_folds_into_what_it_scales(tmp_path: Path) -> None:
    with model_file() as path:
        model = onnx.load(path)
    graph = model.graph
    for layer in range(6):
        node = next(n for n in graph.node if n.op_type == "Add" and f"layers.{layer}.contract.bias" in n.input)
        result, node.output[0] = node.output[0], f"unscaled.{layer}"
        scale = np.linspace(0.5, 1 + layer, 64, dtype=np.float32)
        graph.initializer.append(numpy_helper.from_array(scale, f"layer_scale.{layer}"))
        scaling = helper.make_node("Mul", [node.output[0], f"layer_scale.{layer}"], [result])
        graph.node.insert(list(graph.node).index(node) + 1, scaling)
    source, out = tmp_path / "scaled.onnx", tmp_path / "turned.onnx"
    onnx.save(model, source)
    resize(source, {"layers": 6}, out, "rotate")
    assert distance(run_at_two_sizes(out), run_at_two_sizes(source)) <= 1e-4
    np.testing.assert_array_equal(weights(out)["layer_scale.3"], np.ones(64, np.float32))


def test_a_scale_on_the_stream_itself_is_refused_by_name_and_auto_selects(tmp_path: Path) -> None:
    with model_file() as path:
        model = onnx.load(path)
    graph = model.graph
    node = next(n for n in graph.node if n.op_type == "LayerNormalization" and "layers.2" in n.input[1])
    scale = np.linspace(0.5, 1, 64, dtype=np.float32) ** 2  # no even progression, which no training makes
    graph.initializer.append(numpy_helper.from_array(scale, "stream_scale"))
    graph.node.insert(
        list(graph.node).index(node), helper.make_node("Mul", [node.input[0], "stream_scale"], ["scaled_stream"])
    )
    node.input[0] = "scaled_stream"
    onnx.save(model, tmp_path / "scaled.onnx")
    structure, facts = facts_of(tmp_path / "scaled.onnx")
    with pytest.raises(ResampleError, match="'stream_scale' scales the stream"):
        plan_alignment("rotate", structure, halved(structure), facts)
    chosen = plan_alignment("auto", structure, halved(structure), facts)
    assert chosen.kind == "select"
    assert any("'stream_scale'" in note for note in chosen.notes)


def test_a_reader_without_bias_leaves_the_bias_in_the_norm(tmp_path: Path) -> None:
    with model_file() as path:
        model = onnx.load(path)
    graph = model.graph
    for layer in range(6):
        bias = f"layers.{layer}.expand.bias"
        added = next(n for n in graph.node if n.op_type == "Add" and bias in n.input)
        name = next(value for value in added.input if value != bias)
        for node in graph.node:
            for slot, value in enumerate(node.input):
                if value == added.output[0]:
                    node.input[slot] = name
        graph.node.remove(added)
    source, out = tmp_path / "bare.onnx", tmp_path / "turned.onnx"
    onnx.save(model, source)
    resize(source, {"layers": 6}, out, "rotate")
    assert distance(run_at_two_sizes(out), run_at_two_sizes(source)) <= 1e-4
    half = tmp_path / "half.onnx"
    alignment, _ = resize(source, {"layers": 6, "hidden": 32}, half, "auto")
    assert alignment.kind == "rotate"


def test_growing_and_unknown_kinds_are_refused() -> None:
    with model_file() as path:
        structure, facts = facts_of(path)
    with pytest.raises(ResampleError, match="grows from 64 to 128"):
        plan_alignment("rotate", structure, {facts.stream.hidden: 128}, facts)
    with pytest.raises(ResampleError, match="no alignment 'twist'"):
        plan_alignment("twist", structure, {}, facts)  # type: ignore[arg-type]


# -- energy --------------------------------------------------------------------------------------------------------


def layer_mean(path: Path, kind: Kind, *, outputs_free: bool = False) -> float:
    """Mean share that halving keeps of the layers' matrices."""
    with open_model(path) as opened:
        analysis = analyse(opened.model())
        structure, facts = analysis.structure, find_facts(analysis)
        if outputs_free:
            facts = replace(facts, freedom=replace(facts.freedom, outputs={}))
        tensors = {n: v.const_value for n, v in analysis.model.graph.initializers.items() if v.const_value is not None}
        alignment = plan_alignment(kind, structure, halved(structure), facts)
        (table,) = energy(structure, alignment, align(alignment, tensors), {"bot": partial(operator, "bot")})
    stacks = {stack.id: stack for stack in structure.stacks}
    rows = [r for r in table.rows if stacks[r.stack].chain and stacks[r.stack].kind == "matrix"]
    assert rows and all(0 < row.kept <= 1 for row in table.rows)
    return float(np.mean([row.kept for row in rows]))


def test_energy_of_a_trained_vision_transformer() -> None:
    """Measured 0.239, 0.425 and 0.498: white noise keeps a quarter along two axes."""
    with model_file() as path:
        plain, permuted, rotated = (layer_mean(path, kind) for kind in ("none", "permute", "rotate"))
    assert plain == pytest.approx(0.25, abs=0.03)
    assert permuted >= 1.5 * plain
    assert rotated >= 1.1 * permuted


@pytest.mark.exporter
def test_energy_of_a_trained_sentence_encoder() -> None:
    """all-MiniLM-L6 is closer to white: measured 0.251 before, 0.317 after (with hidden, which an output carries)."""
    assert layer_mean(minilm_l6("torchscript17"), "permute", outputs_free=True) >= 1.2 * 0.25
