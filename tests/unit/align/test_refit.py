"""What makes up for the units that go, against formulas written out on graphs made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import numpy_helper

import bot_onnx
from bot_onnx._cli.app import cli
from bot_onnx._runs.runtime import session
from bot_onnx.demo import accuracy, held_out, model_file
from bot_onnx.errors import DataError, ResampleError
from tests.graphs import GraphBuilder, save

Array = NDArray[Any]
HIDDEN, HEADS, HEAD_DIM, INNER, LAYERS = 12, 4, 3, 10, 2
RIDGE = 0.01


def split(b: GraphBuilder, value: str) -> str:
    return b.op("Transpose", b.op("Reshape", value, b.ints(0, 0, HEADS, HEAD_DIM)), perm=[0, 2, 1, 3])


def norm(b: GraphBuilder, x: str, width: int = HIDDEN) -> str:
    return b.op("LayerNormalization", x, b.constant(np.ones(width, np.float32)), b.weight(width))


def attention(b: GraphBuilder, normed: str, layer: int) -> str:
    made = [
        b.op("Add", b.op("MatMul", normed, b.weight(HIDDEN, 12, name=f"{layer}.{part}")), b.weight(12))
        for part in "qkv"
    ]
    q, k, v = (split(b, one) for one in made)
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
    scores = b.op("Softmax", b.op("Mul", scores, b.constant(np.array(HEAD_DIM**-0.5, np.float32))), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", scores, v), perm=[0, 2, 1, 3])
    return b.op("Reshape", mixed, b.ints(0, 0, HEADS * HEAD_DIM))


def encoder(*, biased: bool = True, inner_norm: bool = False, flat: bool = False) -> onnx.ModelProto:
    """Attention and neurons; weights ``LAYER.NAME``. ``flat``: what reads neurons is a Gemm on rows."""
    b = GraphBuilder(1)
    x = b.op("MatMul", "x", b.weight(4, HIDDEN))
    for layer in range(LAYERS):

        def added(value: str, name: str) -> str:
            return b.op("Add", value, b.weight(HIDDEN, name=name)) if biased else value

        mixed = attention(b, norm(b, x), layer)
        made = b.op("MatMul", mixed, b.weight(HEADS * HEAD_DIM, HIDDEN, name=f"{layer}.o"))
        x = b.op("Add", x, added(made, f"{layer}.ob"))
        inside = b.op("MatMul", norm(b, x), b.weight(HIDDEN, INNER, name=f"{layer}.up"))
        inside = b.op("Sigmoid", b.op("Add", inside, b.weight(INNER, name=f"{layer}.upb")))
        inside = norm(b, inside, INNER) if inner_norm else inside
        if flat:
            rows = b.op("Reshape", inside, b.ints(-1, INNER))
            down, bias = b.weight(HIDDEN, INNER, name=f"{layer}.down"), b.weight(HIDDEN, name=f"{layer}.downb")
            made = b.op("Reshape", b.op("Gemm", rows, down, bias, transB=1), b.ints(-1, 5, HIDDEN))
        else:
            made = added(b.op("MatMul", inside, b.weight(INNER, HIDDEN, name=f"{layer}.down")), f"{layer}.downb")
        x = b.op("Add", x, made)
    b.op("MatMul", norm(b, x), b.weight(HIDDEN, 3))
    return b.model([("x", ["batch", 5 if flat else "sequence", 4])], [b.nodes[-1].output[0]], rank=3)


def convolutions(taker: str, *, size: int = 1, stride: int = 1, pad: int = 0, group: int = 1) -> onnx.ModelProto:
    """Filters that a convolution reads, whose result has a bias, a batch normalisation behind it, or neither."""
    b, rng = GraphBuilder(3), np.random.default_rng(3)
    x = b.op("Conv", "x", b.weight(INNER, 2, 3, 3, name="first"), b.weight(INNER, name="fb"), pads=[1, 1, 1, 1])
    second = b.weight(5, INNER // group, size, size, name="second")
    bias = [b.weight(5, name="bias")] if taker == "bias" else []
    x = b.op("Conv", b.op("Sigmoid", x), second, *bias, strides=[stride, stride], pads=[pad] * 4, group=group)
    if taker == "norm":
        given = {name: rng.standard_normal(5) for name in ("scale", "shift", "mean")}
        given["variance"] = np.exp(rng.standard_normal(5))
        stored = [b.constant(given[n].astype(np.float32), n) for n in ("scale", "shift", "mean", "variance")]
        x = b.op("BatchNormalization", x, *stored)
    b.op("ReduceMean", b.op("Relu", x), axes=[2, 3], keepdims=0)
    return b.model([("x", ["batch", 2, 6, 6])], [b.nodes[-1].output[0]])


def arrays(model: onnx.ModelProto | Path) -> dict[str, Array]:
    proto = onnx.load(model) if isinstance(model, Path) else model
    return {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in proto.graph.initializer}


def samples(folder: Path, *shape: int) -> Path:
    path = folder / "samples.npz"
    np.savez(path, x=np.random.default_rng(7).standard_normal(shape).astype(np.float32))
    return path


def run(model: onnx.ModelProto | Path, given: Path, name: str | None = None) -> Array:
    """A value, or the output, on the samples."""
    proto = onnx.load(model) if isinstance(model, Path) else model
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    if name is not None:
        del shown.graph.output[:]
        shown.graph.output.extend([onnx.ValueInfoProto(name=name)])
    with np.load(given) as archive:
        return np.asarray(session(shown.SerializeToString()).run(None, dict(archive))[0], dtype=np.float64)


def read(model: onnx.ModelProto, weight: str, given: Path) -> Array:
    """What a weight reads on the samples, in rows."""
    name = next(node.input[0] for node in model.graph.node if weight in node.input)
    found = run(model, given, name)
    return found.reshape(-1, found.shape[-1])


def refitted(
    model: onnx.ModelProto, folder: Path, spec: dict[str, Any], given: Path, **options: Any
) -> tuple[dict[str, Array], Any]:
    out = folder / "out.onnx"
    result = bot_onnx.resize(save(model, folder), spec, out, calibration=given, force=True, **options)
    return arrays(out), result.plan


def kept(made: Array, source: Array) -> list[int]:
    """Which rows of a weight stayed."""
    return [int(np.argmin(np.abs(source - row).sum(axis=1))) for row in made]


def least_squares(x: Array, weight: Array, bias: Array | None, stay: list[int]) -> tuple[Array, Array]:
    """Weight ``[stay, out]`` and bias that come closest to what ``x @ weight + bias`` is, by the normal equations."""
    wanted = x @ weight
    rows = x[:, stay]
    if bias is not None:
        wanted, rows = wanted - wanted.mean(axis=0), rows - rows.mean(axis=0)
    ridge = RIDGE * (rows**2).sum() / len(stay) * np.eye(len(stay))
    # Least squares with the ridge as further rows: it draws the weights to what they were.
    height = np.linalg.cholesky(ridge).T
    fitted = np.linalg.lstsq(np.vstack([rows, height]), np.vstack([wanted, height @ weight[stay]]), rcond=None)[0]
    shift = 0.0 if bias is None else bias + (x @ weight).mean(axis=0) - x[:, stay].mean(axis=0) @ fitted
    return fitted, np.asarray(shift)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("refit", ["bias", "readers"])
def test_what_reads_neurons(refit: str, flat: bool, tmp_path: Path) -> None:
    model, given = encoder(flat=flat), samples(tmp_path, 6, 5, 4)
    made, plan = refitted(model, tmp_path, {"intermediate": 4, "refit": refit}, given)
    w = arrays(model)
    for layer in range(LAYERS):
        x, down, bias = read(model, f"{layer}.down", given), w[f"{layer}.down"], w[f"{layer}.downb"]
        stay = kept(made[f"{layer}.up"].T, w[f"{layer}.up"].T)
        gone = [unit for unit in range(INNER) if unit not in stay]
        down, found = (down.T, made[f"{layer}.down"].T) if flat else (down, made[f"{layer}.down"])
        if refit == "bias":
            wanted, shift = down[stay], bias + x[:, gone].mean(axis=0) @ down[gone]
        else:
            wanted, shift = least_squares(x, down, bias, stay)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        np.testing.assert_allclose(made[f"{layer}.downb"], shift, atol=1e-5)
    touched = {stack.targets[0] for stack in plan.stacks if stack.refitted}
    assert touched == {"0.downb"} | ({"0.down"} if refit == "readers" else set())
    assert plan.align == "select" and plan.asked.calibration_sha256 and plan.asked.spec["refit"] == refit
    assert any("made up for" in note for note in plan.notes) and any("refit" in one for one in plan.computed)


@pytest.mark.parametrize("refit", ["bias", "readers"])
def test_what_reads_heads(refit: str, tmp_path: Path) -> None:
    model, given = encoder(), samples(tmp_path, 6, 5, 4)
    made, _ = refitted(model, tmp_path, {"heads": 2, "keep": "activation", "refit": refit}, given)
    w = arrays(model)
    for layer in range(LAYERS):
        x, out, bias = read(model, f"{layer}.o", given), w[f"{layer}.o"], w[f"{layer}.ob"]
        stay = kept(made[f"{layer}.v"].T, w[f"{layer}.v"].T)
        gone = [place for place in range(HEADS * HEAD_DIM) if place not in stay]
        if refit == "bias":
            wanted, shift = out[stay], bias + x[:, gone].mean(axis=0) @ out[gone]
        else:
            wanted, shift = least_squares(x, out, bias, stay)
        np.testing.assert_allclose(made[f"{layer}.o"], wanted, atol=1e-5)
        np.testing.assert_allclose(made[f"{layer}.ob"], shift, atol=1e-5)


def test_without_a_bias_the_weights_alone_are_fitted(tmp_path: Path) -> None:
    model, given = encoder(biased=False), samples(tmp_path, 6, 5, 4)
    made, _ = refitted(model, tmp_path, {"intermediate": 4, "refit": "readers"}, given)
    w = arrays(model)
    for layer in range(LAYERS):
        stay = kept(made[f"{layer}.up"].T, w[f"{layer}.up"].T)
        wanted, _ = least_squares(read(model, f"{layer}.down", given), w[f"{layer}.down"], None, stay)
        np.testing.assert_allclose(made[f"{layer}.down"], wanted, atol=1e-5)
    with pytest.raises(ResampleError, match=r"nothing makes up .* has no bias of its own.*take 'readers'"):
        bot_onnx.plan(save(model, tmp_path), {"intermediate": 4, "refit": "bias"}, calibration=given)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("taker", ["bias", "norm", "none"])
@pytest.mark.parametrize("refit", ["bias", "readers"])
def test_channels_that_a_convolution_reads(refit: str, taker: str, stride: int, tmp_path: Path) -> None:
    """A batch normalisation takes the mean of what goes off its own; strides leave positions out."""
    model, given = convolutions(taker, stride=stride), samples(tmp_path, 6, 2, 6, 6)
    spec = {"width": 0.5, "keep": "magnitude", "refit": refit}
    if refit == "bias" and taker == "none":
        with pytest.raises(ResampleError, match="has no bias of its own"):
            bot_onnx.plan(save(model, tmp_path), spec, calibration=given)
        return
    made, _ = refitted(model, tmp_path, {**spec, "dims": {}}, given)
    w = arrays(model)
    stay = kept(made["first"].reshape(5, -1), w["first"].reshape(INNER, -1))
    gone = [unit for unit in range(INNER) if unit not in stay]
    name = next(node.input[0] for node in model.graph.node if "second" in node.input)
    x = run(model, given, name)[:, :, ::stride, ::stride].transpose(0, 2, 3, 1).reshape(-1, INNER)
    weight = w["second"][:, :, 0, 0].T
    bias = None if taker == "none" else w["bias"] if taker == "bias" else -w["mean"]
    if refit == "bias":
        assert bias is not None
        wanted, shift = weight[stay], bias + x[:, gone].mean(axis=0) @ weight[gone]
    else:
        wanted, shift = least_squares(x, weight, bias, stay)
    np.testing.assert_allclose(made["second"][:, :, 0, 0].T, wanted, atol=1e-5)
    if taker == "bias":
        np.testing.assert_allclose(made["bias"], shift, atol=1e-5)
    if taker == "norm":
        np.testing.assert_allclose(-made["mean"], shift, atol=1e-5)


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("refit", ["bias", "readers"])
def test_every_tap_of_a_kernel_makes_up_for_what_goes(refit: str, pad: int, tmp_path: Path) -> None:
    """Where zeros are read beyond the border no constant makes up for anything: the weights alone do."""
    model, given = convolutions("bias", size=3, pad=pad), samples(tmp_path, 6, 2, 6, 6)
    spec = {"width": 0.5, "keep": "magnitude", "refit": refit}
    if pad and refit == "bias":
        with pytest.raises(ResampleError, match="has no bias of its own that could take it"):
            bot_onnx.plan(save(model, tmp_path), spec, calibration=given)
        return
    made, _ = refitted(model, tmp_path, spec, given)
    w = arrays(model)
    stay = kept(made["first"].reshape(5, -1), w["first"].reshape(INNER, -1))
    gone = [unit for unit in range(INNER) if unit not in stay]
    name = next(node.input[0] for node in model.graph.node if "second" in node.input)
    x = run(model, given, name).transpose(0, 2, 3, 1).reshape(-1, INNER)
    shift = w["bias"]
    for place in np.ndindex(3, 3):
        tap = w["second"][:, :, *place].T
        zero = None if pad else np.zeros(5)
        fitted, more = (
            (tap[stay], x[:, gone].mean(axis=0) @ tap[gone]) if refit == "bias" else least_squares(x, tap, zero, stay)
        )
        np.testing.assert_allclose(made["second"][:, :, *place].T, fitted, atol=1e-5)
        shift = shift + more
    np.testing.assert_allclose(made["bias"], shift, atol=1e-5)


def test_channels_that_others_say_as_well_go_and_the_function_stays(tmp_path: Path) -> None:
    """Of every two filters one is the other's copy: kernels of nine taps, zeros beyond the border."""
    model, given = convolutions("bias", size=3, pad=1), samples(tmp_path, 6, 2, 6, 6)
    for tensor in model.graph.initializer:
        if tensor.name in ("first", "fb"):
            array = numpy_helper.to_array(tensor).copy()
            array[1::2] = array[::2]
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    spec = {"width": 0.5, "keep": "activation"}
    refitted(model, tmp_path, spec, given)
    bare = np.abs(run(tmp_path / "out.onnx", given) - run(model, given)).max()
    refitted(model, tmp_path, {**spec, "refit": "readers"}, given)
    assert np.abs(run(tmp_path / "out.onnx", given) - run(model, given)).max() < bare / 4


@pytest.mark.parametrize(
    ("model", "spec", "why"),
    [
        (
            convolutions("bias", group=5),
            {"width": 0.5, "keep": "magnitude"},
            "is a transposed or a grouped convolution",
        ),
        (encoder(inner_norm=True), {"intermediate": 4}, "normalised together with what goes, by LayerNormalization"),
        (encoder(), {"hidden": 8, "heads": 4, "intermediate": 10, "keep": "magnitude"}, "normalised together"),
    ],
)
def test_what_cannot_make_up_for_anything_is_refused(
    model: onnx.ModelProto, spec: dict[str, Any], why: str, tmp_path: Path
) -> None:
    given = samples(tmp_path, 6, *([2, 6, 6] if "width" in spec else [5, 4]))
    for refit in ("bias", "readers"):
        with pytest.raises(ResampleError, match=f"nothing makes up for what goes .*{why}"):
            bot_onnx.plan(save(model, tmp_path), {**spec, "refit": refit}, align="select", calibration=given)


def test_what_is_added_along_other_axes_takes_nothing(tmp_path: Path) -> None:
    """As many numbers as channels, one for every position: no bias."""
    b = GraphBuilder(5)
    inside = b.op("Sigmoid", b.op("MatMul", "x", b.weight(4, INNER, name="up")))
    made = b.op("MatMul", inside, b.weight(INNER, HIDDEN, name="down"))
    b.op("MatMul", b.op("Add", made, b.weight(HIDDEN, 1, name="places")), b.weight(HIDDEN, 3))
    model, given = b.model([("x", ["batch", HIDDEN, 4])], [b.nodes[-1].output[0]], rank=3), samples(tmp_path, 6, 12, 4)
    dims = bot_onnx.inspect(save(model, tmp_path)).structure.dims.values()
    spec = {"dims": {next(dim.name for dim in dims if dim.size == INNER): 4}, "keep": "magnitude"}
    with pytest.raises(ResampleError, match="has no bias of its own"):
        bot_onnx.plan(tmp_path / "model.onnx", {**spec, "refit": "bias"}, calibration=given)
    made_of, _ = refitted(model, tmp_path, {**spec, "refit": "readers"}, given)
    np.testing.assert_array_equal(made_of["places"], arrays(model)["places"])


@pytest.mark.parametrize(
    ("spec", "options", "error", "message"),
    [
        ({"intermediate": 4}, {}, DataError, "--calibration"),
        ({"intermediate": 4}, {"align": "permute"}, ResampleError, "alignment 'permute' chooses none"),
        ({"intermediate": 20}, {}, ResampleError, "nothing that shrinks can be chosen from"),
    ],
)
def test_refused(
    spec: dict[str, Any], options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    given: dict[str, Any] = {} if error is DataError else {"calibration": samples(tmp_path, 6, 5, 4)}
    with pytest.raises(error, match=message):
        bot_onnx.plan(save(encoder(), tmp_path), {**spec, "refit": "bias"}, **options, **given)


def constant_neurons(*, doubled: bool = False) -> onnx.ModelProto:
    """Half of all neurons give the same number everywhere, or what the neuron before them gives."""
    model = encoder()
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name.endswith(".up"):
            array[:, 1::2] = array[:, ::2] if doubled else 0
        elif tensor.name.endswith(".upb"):
            array[1::2] = array[::2] if doubled else 0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


@pytest.mark.parametrize("align", ["select", "rotate"])
def test_what_is_always_the_same_goes_and_the_function_stays(align: str, tmp_path: Path) -> None:
    """A turn of the stream turns what makes up for it as well."""
    model, given = constant_neurons(), samples(tmp_path, 6, 5, 4)
    spec = {"intermediate": 5, "hidden": HIDDEN, "heads": HEADS, "keep": "energy"}
    refitted(model, tmp_path, {**spec, "refit": "bias"}, given, align=align)
    np.testing.assert_allclose(run(tmp_path / "out.onnx", given), run(model, given), atol=2e-4)
    bot_onnx.resize(tmp_path / "model.onnx", spec, tmp_path / "bare.onnx", align="select")
    assert np.abs(run(tmp_path / "bare.onnx", given) - run(model, given)).max() > 0.01


def test_what_others_say_as_well_goes_and_the_function_stays(tmp_path: Path) -> None:
    model, given = constant_neurons(doubled=True), samples(tmp_path, 40, 5, 4)
    spec = {"intermediate": 5, "keep": "activation"}
    refitted(model, tmp_path, spec, given)
    bare = np.abs(run(tmp_path / "out.onnx", given) - run(model, given)).max()
    refitted(model, tmp_path, {**spec, "refit": "readers"}, given)
    assert np.abs(run(tmp_path / "out.onnx", given) - run(model, given)).max() < bare / 4


def test_the_demo_keeps_more_of_its_accuracy(tmp_path: Path) -> None:
    """From the command line, with the same half of the heads: 120 digits are the samples, the others are counted."""
    images = held_out()
    np.savez(tmp_path / "samples.npz", image=images.images[:120])
    scores = []
    given = ["--keep", "energy", "--refit", "readers", "--calibration", str(tmp_path / "samples.npz")]
    for options in ([], given):  # without samples heads are chosen by energy, too
        out = tmp_path / "out.onnx"
        with model_file() as source:
            arguments = ["resize", str(source), "--heads", "2", "--hidden", "64", "-o", str(out), "--force", "--json"]
            result = CliRunner().invoke(cli, [*arguments, *options])
        assert result.exit_code == 0, result.stderr
        plan = json.loads(result.stdout)["plan"]
        assert {stack["task"]["name"] for stack in plan["stacks"] if stack["refitted"]} == (
            {"node_MatMul_*", "layers.*.attention.output.bias"} if options else set()
        )
        (logits,) = session(str(out)).run(None, {"image": images.images[120:]})
        scores.append(accuracy(np.asarray(logits), images.labels[120:]))
    assert scores[1] > scores[0] + 0.15
