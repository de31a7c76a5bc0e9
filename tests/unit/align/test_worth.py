"""What heads, neurons and channels are worth, against formulas written out on graphs made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import bot_onnx
from bot_onnx._runs.runtime import session
from bot_onnx.errors import DataError, ResampleError
from tests.graphs import GraphBuilder, save

Array = NDArray[Any]
HIDDEN, HEADS, HEAD_DIM, INNER, LAYERS = 12, 4, 3, 10, 2
KV_HEADS, GROUP = 3, 4
KEPT = {"heads": HEADS, "intermediate": INNER, "head_dim": HEAD_DIM}


def split(b: GraphBuilder, value: str, heads: int) -> str:
    return b.op("Transpose", b.op("Reshape", value, b.ints(0, 0, heads, HEAD_DIM)), perm=[0, 2, 1, 3])


def attend(b: GraphBuilder, q: str, k: str, v: str, width: int) -> str:
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
    scores = b.op("Softmax", b.op("Mul", scores, b.constant(np.float32(HEAD_DIM**-0.5))), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", scores, v), perm=[0, 2, 1, 3])
    return b.op("Reshape", mixed, b.ints(0, 0, width))


def norm(b: GraphBuilder, x: str) -> str:
    shift = b.constant(np.full(HIDDEN, 0.1, np.float32))
    return b.op("LayerNormalization", x, b.constant(np.ones(HIDDEN, np.float32)), shift)


def encoder() -> onnx.ModelProto:
    """Attention with biases on queries, keys and values, then neurons with a bias; weights ``LAYER.NAME``."""
    b = GraphBuilder(1)
    x = b.op("MatMul", "x", b.weight(4, HIDDEN))
    for layer in range(LAYERS):
        normed = norm(b, x)
        sides = []
        for part in "qkv":
            made = b.op("MatMul", normed, b.weight(HIDDEN, HEADS * HEAD_DIM, name=f"{layer}.{part}"))
            made = b.op("Add", made, b.weight(HEADS * HEAD_DIM, name=f"{layer}.{part}b"))
            sides.append(split(b, made, HEADS))
        flat = attend(b, *sides, HEADS * HEAD_DIM)
        x = b.op("Add", x, b.op("MatMul", flat, b.weight(HEADS * HEAD_DIM, HIDDEN, name=f"{layer}.o")))
        inside = b.op("MatMul", norm(b, x), b.weight(HIDDEN, INNER, name=f"{layer}.up"))
        inside = b.op("Relu", b.op("Add", inside, b.weight(INNER, name=f"{layer}.upb")))
        x = b.op("Add", x, b.op("MatMul", inside, b.weight(INNER, HIDDEN, name=f"{layer}.down")))
    b.op("MatMul", norm(b, x), b.weight(HIDDEN, 3))
    return b.model([("x", ["batch", "sequence", 4])], [b.nodes[-1].output[0]], rank=3)


def decoder() -> onnx.ModelProto:
    """Key and value heads that groups of query heads share, and neurons with a gate."""
    b = GraphBuilder(2)
    x = b.op("MatMul", "x", b.weight(4, HIDDEN))
    queries = KV_HEADS * GROUP
    for layer in range(LAYERS):
        normed = norm(b, x)
        q = split(b, b.op("MatMul", normed, b.weight(HIDDEN, queries * HEAD_DIM, name=f"{layer}.q")), queries)
        shared = []
        for part in "kv":
            made = b.op("MatMul", normed, b.weight(HIDDEN, KV_HEADS * HEAD_DIM, name=f"{layer}.{part}"))
            alone = b.op("Unsqueeze", split(b, made, KV_HEADS), b.ints(2))
            grown = b.op("Expand", alone, b.ints(1, 1, GROUP, 1, 1))
            shared.append(b.op("Reshape", grown, b.ints(0, queries, -1, HEAD_DIM)))
        flat = attend(b, q, *shared, queries * HEAD_DIM)
        x = b.op("Add", x, b.op("MatMul", flat, b.weight(queries * HEAD_DIM, HIDDEN, name=f"{layer}.o")))
        normed = norm(b, x)
        gate = b.op("MatMul", normed, b.weight(HIDDEN, INNER, name=f"{layer}.gate"))
        up = b.op("MatMul", normed, b.weight(HIDDEN, INNER, name=f"{layer}.up"))
        inside = b.op("Mul", b.op("Mul", gate, b.op("Sigmoid", gate)), up)
        x = b.op("Add", x, b.op("MatMul", inside, b.weight(INNER, HIDDEN, name=f"{layer}.down")))
    b.op("MatMul", norm(b, x), b.weight(HIDDEN, 3))
    return b.model([("x", ["batch", "sequence", 4])], [b.nodes[-1].output[0]], rank=3)


def convolutions(*, biased: bool = True) -> onnx.ModelProto:
    """A filter behind which a batch normalisation stands, a Relu, and a filter that reads it."""
    b, rng = GraphBuilder(3), np.random.default_rng(3)
    first = ["x", b.weight(INNER, 2, 3, 3, name="first")]
    x = b.op("Conv", *first, *([b.weight(INNER, name="bias")] if biased else []), pads=[1, 1, 1, 1])
    spread = {name: np.exp(rng.standard_normal(INNER)) for name in ("scale", "variance")}
    spread |= {name: rng.standard_normal(INNER) for name in ("shift", "mean")}
    stored = [b.constant(spread[n].astype(np.float32), n) for n in ("scale", "shift", "mean", "variance")]
    x = b.op("Relu", b.op("BatchNormalization", x, *stored, epsilon=1e-3))
    x = b.op("Conv", x, b.weight(5, INNER, 1, 1, name="second"))
    b.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    return b.model([("x", ["batch", 2, 6, 6])], [b.nodes[-1].output[0]])


def arrays(model: onnx.ModelProto | Path) -> dict[str, Array]:
    proto = onnx.load(model) if isinstance(model, Path) else model
    return {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in proto.graph.initializer}


def samples(folder: Path, *shape: int) -> Path:
    path = folder / "samples.npz"
    np.savez(path, x=np.random.default_rng(7).standard_normal(shape).astype(np.float32))
    return path


def read(model: onnx.ModelProto, weight: str, given: Path) -> Array:
    """What a weight reads on samples, by running the source as it is."""
    return shown(model, next(node.input[0] for node in model.graph.node if weight in node.input), given)


def shown(model: onnx.ModelProto, name: str, given: Path) -> Array:
    """A value on samples."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    del proto.graph.output[:]
    proto.graph.output.extend([onnx.ValueInfoProto(name=name)])
    with np.load(given) as archive:
        return np.asarray(session(proto.SerializeToString()).run(None, dict(archive))[0], dtype=np.float64)


def top(worth: Array, count: int) -> list[int]:
    return sorted(np.argsort(-worth, kind="stable")[:count].tolist())


def resized(model: onnx.ModelProto, folder: Path, spec: dict[str, Any], keep: str, **options: Any) -> dict[str, Array]:
    source, out = save(model, folder), folder / "out.onnx"
    result = bot_onnx.resize(source, {**spec, "keep": keep}, out, force=True, **options)
    assert result.plan.align == "select"
    assert keep == "energy" or any(f"chosen by {keep}" in note for note in result.plan.notes)
    return arrays(out)


def squares(array: Array, axis: int) -> Array:
    moved = np.moveaxis(array, axis, 0)
    return (moved.reshape(len(moved), -1) ** 2).sum(axis=1)


def heads_of(array: Array, axis: int, heads: int) -> Array:
    return squares(array, axis).reshape(heads, -1).sum(axis=1)


def seen(keep: str, sizes: Array, reads: Array) -> Array:
    """By sizes ``[samples, positions, units]``, and what reads the units, ``[units, ...]``."""
    if keep == "activation":
        return np.asarray(np.linalg.norm(sizes.mean(axis=1), axis=0))
    return np.sqrt((sizes.astype(np.float64) ** 2).sum(axis=(0, 1)) * squares(reads, 0))


@pytest.mark.parametrize("keep", ["magnitude", "activation", "wanda"])
def test_neurons_of_an_encoder(keep: str, tmp_path: Path) -> None:
    model, given = encoder(), samples(tmp_path, 6, 5, 4)
    made = resized(model, tmp_path, {"intermediate": 4}, keep, **calibrated(keep, given))
    w = arrays(model)
    for layer in range(LAYERS):
        up, bias, down = (w[f"{layer}.{name}"] for name in ("up", "upb", "down"))
        if keep == "magnitude":
            worth = np.sqrt(squares(up, 1) + bias**2 + squares(down, 0))
        else:
            worth = seen(keep, np.abs(read(model, f"{layer}.down", given)), down)
        stay = top(worth, 4)
        np.testing.assert_array_equal(made[f"{layer}.up"], up[:, stay])
        np.testing.assert_array_equal(made[f"{layer}.upb"], bias[stay])
        np.testing.assert_array_equal(made[f"{layer}.down"], down[stay])


@pytest.mark.parametrize("gated", [False, True])
def test_neurons_by_the_norms_of_their_maps(gated: bool, tmp_path: Path) -> None:
    """A bias counts: what it makes alone is written as well."""
    model = decoder() if gated else encoder()
    for tensor in model.graph.initializer:
        if tensor.name.endswith("upb"):
            large = np.where(np.arange(INNER) < 2, 5.0, numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(large, tensor.name))
    made, w = resized(model, tmp_path, {"intermediate": 4}, "energy"), arrays(model)
    for layer in range(LAYERS):
        up, down = w[f"{layer}.up"], w[f"{layer}.down"]
        worth = np.sqrt(squares(up, 1) + (0.0 if gated else w[f"{layer}.upb"] ** 2)) * np.sqrt(squares(down, 0))
        if gated:
            worth = worth * np.sqrt(squares(w[f"{layer}.gate"], 1))
        stay = top(worth, 4)
        assert gated or stay[:2] == [0, 1]
        np.testing.assert_array_equal(made[f"{layer}.up"], up[:, stay])
        np.testing.assert_array_equal(made[f"{layer}.down"], down[stay])


@pytest.mark.parametrize("keep", ["magnitude", "activation", "wanda"])
def test_heads_of_an_encoder(keep: str, tmp_path: Path) -> None:
    model, given = encoder(), samples(tmp_path, 6, 5, 4)
    made = resized(model, tmp_path, {"heads": 2}, keep, **calibrated(keep, given))
    w = arrays(model)
    for layer in range(LAYERS):
        if keep == "magnitude":
            worth = heads_of(w[f"{layer}.o"], 0, HEADS)
            for part in "qkv":
                worth = worth + heads_of(w[f"{layer}.{part}"], 1, HEADS) + heads_of(w[f"{layer}.{part}b"], 0, HEADS)
        else:
            mixed = read(model, f"{layer}.o", given).reshape(6, 5, HEADS, HEAD_DIM)
            worth = seen(keep, np.linalg.norm(mixed, axis=3), w[f"{layer}.o"].reshape(HEADS, -1))
        places = [head * HEAD_DIM + channel for head in top(worth, 2) for channel in range(HEAD_DIM)]
        for part in "qkv":
            np.testing.assert_array_equal(made[f"{layer}.{part}"], w[f"{layer}.{part}"][:, places])
            np.testing.assert_array_equal(made[f"{layer}.{part}b"], w[f"{layer}.{part}b"][places])
        np.testing.assert_array_equal(made[f"{layer}.o"], w[f"{layer}.o"][places])


@pytest.mark.parametrize("keep", ["magnitude", "activation", "wanda"])
@pytest.mark.parametrize(("kv_heads", "group"), [(2, GROUP), (KV_HEADS, 2), (1, 3)])
def test_groups_stay_whole(kv_heads: int, group: int, keep: str, tmp_path: Path) -> None:
    """A key and value head goes with all of its query heads; of every group as many query heads stay."""
    model, given = decoder(), samples(tmp_path, 6, 5, 4)
    spec = {"kv_heads": kv_heads, "heads": kv_heads * group}
    made = resized(model, tmp_path, spec, keep, **calibrated(keep, given))
    w = arrays(model)
    for layer in range(LAYERS):
        q, k, v, o = (w[f"{layer}.{name}"] for name in "qkvo")
        if keep == "magnitude":
            inner = (heads_of(q, 1, KV_HEADS * GROUP) + heads_of(o, 0, KV_HEADS * GROUP)).reshape(KV_HEADS, GROUP)
            outer = inner.sum(axis=1) + heads_of(k, 1, KV_HEADS) + heads_of(v, 1, KV_HEADS)
        else:
            mixed = read(model, f"{layer}.o", given).reshape(6, 5, KV_HEADS, GROUP, HEAD_DIM)
            sizes = np.linalg.norm(mixed, axis=4).reshape(6, 5, KV_HEADS * GROUP)
            inner = seen(keep, sizes, o.reshape(KV_HEADS * GROUP, -1)).reshape(KV_HEADS, GROUP)
            outer = inner.sum(axis=1)
        shared = top(outer, kv_heads)
        query = [head * GROUP + one for head in shared for one in top(inner[head], group)]
        np.testing.assert_array_equal(made[f"{layer}.k"].T, blocks(k.T, shared))
        np.testing.assert_array_equal(made[f"{layer}.v"].T, blocks(v.T, shared))
        np.testing.assert_array_equal(made[f"{layer}.q"].T, blocks(q.T, query))
        np.testing.assert_array_equal(made[f"{layer}.o"], blocks(o, query))


@pytest.mark.parametrize("keep", ["magnitude", "activation", "wanda"])
def test_a_gate_shares_its_neurons(keep: str, tmp_path: Path) -> None:
    model, given = decoder(), samples(tmp_path, 6, 5, 4)
    made = resized(model, tmp_path, {"intermediate": 4}, keep, **calibrated(keep, given))
    w = arrays(model)
    for layer in range(LAYERS):
        gate, up, down = (w[f"{layer}.{name}"] for name in ("gate", "up", "down"))
        if keep == "magnitude":
            worth = squares(gate, 1) + squares(up, 1) + squares(down, 0)
        else:
            worth = seen(keep, np.abs(read(model, f"{layer}.down", given)), down)
        stay = top(worth, 4)
        np.testing.assert_array_equal(made[f"{layer}.gate"], gate[:, stay])
        np.testing.assert_array_equal(made[f"{layer}.up"], up[:, stay])
        np.testing.assert_array_equal(made[f"{layer}.down"], down[stay])


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("keep", ["magnitude", "activation", "wanda"])
def test_channels_behind_a_batch_norm(keep: str, biased: bool, tmp_path: Path) -> None:
    """A filter counts as the norm leaves it: its own size, which the norm divides away, says nothing."""
    model, given = convolutions(biased=biased), samples(tmp_path, 6, 2, 6, 6)
    made = resized(model, tmp_path, {"width": 0.5}, keep, **calibrated(keep, given))
    w = arrays(model)
    if keep == "magnitude":
        factor = w["scale"] / np.sqrt(w["variance"] + 1e-3)
        bias = ((w["bias"] if biased else 0.0) - w["mean"]) * factor + w["shift"]
        worth = squares(w["first"], 0) * factor**2 + bias**2 + squares(w["second"], 1)
    else:
        sizes = np.abs(read(model, "second", given)).transpose(0, 2, 3, 1).reshape(6, -1, len(w["first"]))
        worth = seen(keep, sizes, np.moveaxis(w["second"], 1, 0))
    stay = top(worth, 5)
    for name in ("first", *(["bias"] if biased else []), "scale", "shift", "mean", "variance"):
        np.testing.assert_array_equal(made[name], w[name][stay].astype(np.float32))
    np.testing.assert_array_equal(made["second"][:, :, 0, 0], w["second"][:, stay, 0, 0])


def test_the_number_of_samples_at_a_time_changes_nothing(tmp_path: Path) -> None:
    """Positions are averaged within a sample, also where the graph flattens samples and positions into rows."""
    b, rng = GraphBuilder(4), np.random.default_rng(4)
    rows = b.op("Reshape", "x", b.ints(-1, 4))
    inside = b.op("Relu", b.op("MatMul", rows, b.weight(4, INNER, name="up")))
    b.op("MatMul", inside, b.weight(INNER, 3, name="down"))
    model = b.model([("x", ["batch", 5, 4])], [b.nodes[-1].output[0]])
    given = tmp_path / "samples.npz"
    x = (rng.standard_normal((9, 5, 4)) * np.exp(2 * rng.standard_normal((9, 1, 1)))).astype(np.float32)
    np.savez(given, x=x)
    w = arrays(model)
    fired = np.maximum(x.astype(np.float64) @ w["up"], 0)
    stay = top(np.linalg.norm(fired.mean(axis=1), axis=0), 3)
    source = save(model, tmp_path)
    dim = next(dim.name for dim in bot_onnx.inspect(source).structure.dims.values() if dim.size == INNER)
    made = resized(model, tmp_path, {"dims": {dim: 3}}, "activation", calibration=given)
    np.testing.assert_array_equal(made["up"], w["up"][:, stay].astype(np.float32))


@pytest.mark.parametrize(
    ("spec", "options", "error", "message"),
    [
        ({"intermediate": 4, "keep": "activation"}, {}, DataError, "intermediate: activations .* --calibration"),
        ({"intermediate": 4, "keep": "magnitude"}, {"align": "permute"}, ResampleError, "alignment 'permute' chooses"),
        ({"intermediate": 20, "keep": "magnitude"}, {}, ResampleError, "nothing that shrinks can be chosen from"),
        ({"layers": 1, "keep": "energy"}, {}, ResampleError, "nothing that shrinks can be chosen from"),
    ],
)
def test_what_nothing_can_be_chosen_by_is_refused(
    spec: dict[str, Any], options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        bot_onnx.plan(save(encoder(), tmp_path), spec, **options)


@pytest.mark.parametrize("spec", [{"intermediate": 4}, {"heads": 2}])
def test_auto_chooses_by_norms_where_the_stream_stays(spec: dict[str, int], tmp_path: Path) -> None:
    source = save(encoder(), tmp_path)
    assert bot_onnx.plan(source, spec).align == "select"
    assert bot_onnx.plan(source, {**spec, "keep": "energy"}).align == "select"


def test_channels_of_the_stream_by_what_their_norms_give(tmp_path: Path) -> None:
    """As Minitron has it: mean |LayerNorm(x)| over positions, L2 over samples, summed over all norms that are read."""
    model, given = encoder(), samples(tmp_path, 6, 5, 4)
    made = resized(model, tmp_path, {**KEPT, "hidden": 7}, "activation", calibration=given, align="select")
    names = [node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization"]
    assert len(names) == 2 * LAYERS + 1
    worth = sum(np.linalg.norm(np.abs(shown(model, name, given)).mean(axis=1), axis=0) for name in names)
    stay, w = top(np.asarray(worth), 7), arrays(model)
    for layer in range(LAYERS):
        for name in ("q", "k", "v", "up"):
            np.testing.assert_array_equal(made[f"{layer}.{name}"], w[f"{layer}.{name}"][stay])
        for name in ("o", "down"):
            np.testing.assert_array_equal(made[f"{layer}.{name}"], w[f"{layer}.{name}"][:, stay])


def test_where_the_stream_can_be_turned_that_goes_first(tmp_path: Path) -> None:
    """Its channels are chosen where the alignment is select, by name."""
    given = samples(tmp_path, 6, 5, 4)
    plan = bot_onnx.plan(save(encoder(), tmp_path), {"hidden": 6, "keep": "activation"}, calibration=given)
    assert plan.align == "rotate"
    assert not any("stays of hidden" in note for note in plan.notes)


def test_auto_reorders_channels_that_it_does_not_choose(tmp_path: Path) -> None:
    assert bot_onnx.plan(save(convolutions(), tmp_path), {"width": 0.5}).align == "permute"


def test_methods_that_align_nothing_choose_where_they_are_told_to(tmp_path: Path) -> None:
    by_bot = resized(encoder(), tmp_path, {"intermediate": 4}, "magnitude")
    by_ws = resized(encoder(), tmp_path, {"intermediate": 4}, "magnitude", method="ws")
    np.testing.assert_array_equal(by_bot["1.down"], by_ws["1.down"])


def calibrated(keep: str, given: Path) -> dict[str, Any]:
    return {"calibration": given} if keep in ("activation", "wanda") else {}


def blocks(array: Array, heads: list[int]) -> Array:
    return np.concatenate([array[head * HEAD_DIM : (head + 1) * HEAD_DIM] for head in heads])
