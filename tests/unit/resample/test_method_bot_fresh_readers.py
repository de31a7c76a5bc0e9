"""Option ``fresh_readers``: added layers start as in a fresh network, and the function stays."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import array_api_strict
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bot_onnx
from bot_onnx._resample import make_options
from bot_onnx.errors import ResampleError
from tests.method_runs import leaf, run, task

RNG = np.random.default_rng(11)
DIGITS = Path(str(files("bot_onnx") / "demo" / "digits_vit.onnx"))
MORE = {"layers": (2, 4), "residual": "pre-norm"}


def test_readers_of_added_layers_are_drawn_and_their_biases_zero() -> None:
    layers = RNG.standard_normal((2, 30, 40))
    axes = (leaf(30, 60), leaf(40, 80, "hidden"))
    work = task("matrix", axes, ("out", "in"), **MORE)
    fresh, default = (run("bot", work, layers, **options) for options in ({"fresh_readers": 0.12}, {}))
    for k in (0, 2):  # the source's own
        np.testing.assert_array_equal(fresh[k], default[k])
    for k in (1, 3):
        assert abs(fresh[k].std() - 0.12) < 0.005 and abs(fresh[k].mean()) < 0.01
    assert not np.allclose(fresh[1], fresh[3])
    np.testing.assert_array_equal(fresh[1], run("bot", work, layers, fresh_readers=0.12)[1])
    assert not np.allclose(fresh[1], run("bot", work, layers, fresh_readers=0.12, seed=1)[1])
    biases = run("bot", task("bias", axes[:1], ("out",), **MORE), layers[:, :, 0], fresh_readers=0.12)
    np.testing.assert_array_equal(biases[1], np.zeros(60))
    np.testing.assert_array_equal(biases[2], np.repeat(layers[1, :, 0], 2))
    scales = run("bot", task("norm_scale", axes[:1], ("out",), **MORE), layers[:, :, 0], fresh_readers=0.12)
    np.testing.assert_array_equal(scales[1], scales[0])  # a norm is a norm


def test_writers_of_added_layers_are_zero() -> None:
    """What they read are no copies: noise that copies do not see would be seen."""
    layers = RNG.standard_normal((2, 6, 8))
    work = task("matrix", (leaf(6, 12, "hidden"), leaf(8, 16)), ("out", "in"), writes_residual=True, **MORE)
    out = run("bot", work, layers, fresh_readers=0.12)
    for k in (1, 3):
        np.testing.assert_array_equal(out[k], np.zeros((12, 16)))
    np.testing.assert_array_equal(out[0], run("bot", work, layers)[0])


@pytest.mark.parametrize("spec", [{"layers": 8}, {"hidden": 96, "heads": 6, "intermediate": 384, "layers": 8}])
def test_a_grown_network_computes_the_same(spec: dict[str, int], tmp_path: Path) -> None:
    result = bot_onnx.resize(DIGITS, spec, tmp_path / "out.onnx", options={"fresh_readers": 0.12})
    assert result.plan.promise.kept is True and result.report.passed
    tensors = [numpy_helper.to_array(t) for t in onnx.load(tmp_path / "out.onnx").graph.initializer]
    drawn = [t for t in tensors if t.ndim == 2 and t.size > 2000 and abs(t.std() - 0.12) < 0.003]
    assert len(drawn) >= 2  # of every added layer what makes queries, keys and values, and neurons
    assert any(t.ndim == 2 and not t.any() for t in tensors)


def test_strict_namespace_gives_the_same() -> None:
    layers = RNG.standard_normal((2, 6, 8)).astype(np.float32)
    work = task("matrix", (leaf(6, 12), leaf(8, 16, "hidden")), ("out", "in"), **MORE)
    plain = run("bot", work, layers, fresh_readers=0.5)
    strict = run("bot", work, [array_api_strict.asarray(x) for x in layers], xp=array_api_strict, fresh_readers=0.5)
    for a, b in zip(plain, strict, strict=True):
        np.testing.assert_allclose(np.asarray(b), a, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_axis": "stack"}, "layer axis 'stack' adds none; use layer axis identity"),
        ({"preset": "paper"}, "layer axis 'wavelet' adds none"),
        ({"convention": "std-fresh"}, "convention 'std-fresh' sets one; use convention value"),
    ],
)
def test_what_they_do_not_go_with_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ResampleError, match=message):
        make_options("bot", fresh_readers=0.12, **options)


def test_where_no_layer_is_added_they_have_nothing_to_do() -> None:
    for spec, idle in (({"hidden": 128}, True), ({"layers": 8}, False)):
        plan = bot_onnx.open(DIGITS).plan(bot_onnx.ResizeRequest(spec, options={"fresh_readers": 0.12}))
        assert any(note.startswith("Option fresh_readers has nothing to do") for note in plan.notes) is idle
