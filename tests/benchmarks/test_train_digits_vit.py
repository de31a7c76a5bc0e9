"""The demo's training script: its data, its schedule, its network and its export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

for package in ("torch", "sklearn", "onnxscript"):
    pytest.importorskip(package)

import torch  # noqa: E402

from benchmarks import train_digits_vit as vit  # noqa: E402
from bot_onnx import demo  # noqa: E402

TINY = vit.VitConfig(hidden=16, heads=2, intermediate=32, layers=2)


def test_split_is_disjoint_and_the_shipped_one() -> None:
    training, test = vit.digits(0)
    assert (len(training.labels), len(test.labels)) == (1437, 360)
    shipped = demo.held_out()
    np.testing.assert_array_equal(test.images.numpy(), shipped.images)
    np.testing.assert_array_equal(test.labels.numpy(), shipped.labels)
    seen = {image.numpy().tobytes() for image in training.images}
    assert not any(image.numpy().tobytes() in seen for image in test.images)


def test_shifted_moves_by_at_most_a_pixel() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 3, 4] = 7.0
    moved = vit.shifted(image.repeat(400, 1, 1, 1), torch.Generator().manual_seed(0))
    assert moved.shape == (400, 1, 8, 8)
    places = {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(row, column) for row in (2, 3, 4) for column in (3, 4, 5)}
    assert float(moved.sum()) == 400 * 7.0


def test_rate_rises_then_falls() -> None:
    rates = [vit.rate_at(step, 100, 0.1) for step in range(100)]
    assert rates[9] == rates[10] == max(rates) == 1.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001


def test_doubled_network_computes_the_same() -> None:
    """Every channel and every whole head twice, what reads them halved: the demo's exact growth rests on it."""
    torch.manual_seed(0)
    small = vit.VisionTransformer(TINY).double()
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    large = vit.VisionTransformer(replace(TINY, hidden=32, heads=4, intermediate=64)).double()
    by_channel, head_dim = torch.arange(16).repeat_interleave(2), 8
    by_head = torch.arange(16).reshape(-1, head_dim).repeat_interleave(2, dim=0).flatten()
    neurons = torch.arange(32).repeat_interleave(2)
    columns = {"expand": by_channel, "contract": neurons, "output": by_head, "head": by_channel}
    rows = {"expand": neurons, "query": by_head, "key": by_head, "value": by_head, "head": torch.arange(10)}
    state = {}
    for name, tensor in small.state_dict().items():
        layer = name.split(".")[-2] if "." in name else name
        if tensor.ndim == 3:
            state[name] = tensor[..., by_channel]
            continue
        out = tensor[rows.get(layer, by_channel)]
        state[name] = out[:, columns.get(layer, by_channel)] / 2 if tensor.ndim == 2 else out
    large.load_state_dict(state)
    images = torch.rand(3, 1, 8, 8, dtype=torch.float64) * 16
    with torch.inference_mode():
        np.testing.assert_allclose(large(images).numpy(), small(images).numpy(), rtol=1e-10, atol=1e-12)


def test_training_is_repeatable() -> None:
    def trained() -> list[torch.Tensor]:
        torch.manual_seed(3)
        model = vit.VisionTransformer(TINY)
        images, labels = torch.rand(40, 1, 8, 8) * 16, torch.arange(40) % 10
        vit.train(model, vit.Split(images, labels), vit.Schedule(epochs=2, batch=16), seed=3)
        return [parameter.detach() for parameter in model.parameters()]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert all(torch.equal(one, two) for one, two in zip(trained(), trained(), strict=True))
    finally:
        torch.set_num_threads(threads)


def test_strip_reaches_every_level() -> None:
    tensor = onnx.helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [1.0])
    tensor.doc_string = "/home/somebody/model.py"
    node = onnx.helper.make_node("Constant", [], ["y"], value=tensor, doc_string="/home/somebody/model.py")
    node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File model.py")
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1], doc_string="model.py")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "main", [], [output]))
    onnx.helper.set_model_props(model, {"path": "/home/somebody"})
    vit.strip(model)
    text = str(model)
    assert "model.py" not in text
    assert "somebody" not in text
    assert model.graph.node[0].attribute[0].t.float_data[:] == [1.0]


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_export_computes_what_the_network_computes(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model, path = vit.VisionTransformer(TINY), tmp_path / "vit.onnx"
    vit.export(model, TINY, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["vit.onnx"]
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        images = torch.rand(batch, 1, 8, 8) * 16
        (logits,) = session.run(None, {"image": images.numpy()})
        with torch.inference_mode():
            np.testing.assert_allclose(logits, model(images).numpy(), rtol=1e-4, atol=1e-5)
