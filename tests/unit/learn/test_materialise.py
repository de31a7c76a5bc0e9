"""Weights as functions of operators: LiGO's and Mango's formulas in NumPy, on a network made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot_onnx._learn.materialise import Materialiser
from bot_onnx.demo import model_bytes
from bot_onnx.errors import ResampleError
from tests.unit.learn.networks import Array, Hand, materialised
from tests.zoo.architectures import base_size
from tests.zoo.export import cached_export

pytestmark = pytest.mark.exporter
torch = pytest.importorskip("torch")


def values(made: Materialiser) -> dict[str, Array]:
    return {name: tensor.detach().numpy() for name, tensor in made.weights().items()}


def shaken(made: Materialiser) -> dict[str, Array]:
    """Every trained operator moved by chance; their values by name, float64."""
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for parameter in made.operators.named().values():
            parameter += torch.from_numpy(rng.standard_normal(tuple(parameter.shape)).astype(np.float32) * 0.3)
    return {name: tensor.detach().numpy().astype(np.float64) for name, tensor in made.operators.named().items()}


def haar(n: int) -> Array:
    """Orthonormal: half as many sums of neighbours over √2."""
    return np.kron(np.eye(n), np.full((1, 2), 2**-0.5))


def test_shrinking_is_ligos_formula() -> None:
    """W'_k = Σ_l w_kl B_l W_l Aᵀ: the stream's operator is one in all layers, those of neurons are the layer's own."""
    hand = Hand((4, 2), (6, 3))
    made = hand.materialiser()
    found = shaken(made)
    assert set(found) == {"matrix h", "gates n", "partners n", "layers up", "layers bias", "layers down"}
    stream, old = found["matrix h"], hand.tensors
    partner = np.zeros((3, 6))
    partner[np.arange(3), [1, 3, 5]] = 1.0  # the other one of the pair
    inner = [
        np.diag(found["gates n"][layer]) @ haar(3) + np.diag(found["partners n"][layer]) @ partner for layer in range(3)
    ]
    wanted = {"new.embedding.0": old["embedding.0"] @ stream.T}
    for k in range(2):
        terms: dict[str, list[Array]] = {"up": [], "bias": [], "down": []}
        for layer in range(3):
            terms["up"].append(stream @ old[f"up.{layer}"] @ inner[layer].T)
            terms["bias"].append(inner[layer] @ old[f"bias.{layer}"])
            terms["down"].append(inner[layer] @ old[f"down.{layer}"] @ stream.T)
        for name, parts in terms.items():
            weights = found[f"layers {name}"][k]
            wanted[f"new.{name}.{k}"] = sum(w * part for w, part in zip(weights, parts, strict=True))
    ours = values(made)
    assert ours.keys() == wanted.keys() == hand.base.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(ours[name], array, rtol=0, atol=3e-6, err_msg=name)


def test_what_is_contracted_takes_its_form_of_the_same_matrix() -> None:
    """Growing by copies, a contraction shares them out: it applies half of what outputs apply."""
    hand = Hand((2, 4), (3, 3), (2, 2), details="zero")
    made = hand.materialiser()
    found = shaken(made)
    assert set(found) == {"matrix h"}
    stream = found["matrix h"]
    for layer in range(2):
        up, down = values(made)[f"new.up.{layer}"], values(made)[f"new.down.{layer}"]
        np.testing.assert_allclose(up, stream / 2 @ hand.tensors[f"up.{layer}"], atol=2e-6)
        np.testing.assert_allclose(down, hand.tensors[f"down.{layer}"] @ stream.T, atol=2e-6)


def test_a_dims_operator_is_shared_by_all_that_carry_it() -> None:
    hand = Hand((4, 2), (6, 3))
    made = hand.materialiser()
    with torch.no_grad():
        made.operators.matrices["h"].matrix += 0.1
    moved = {name.split(".")[1] for name, array in values(made).items() if np.abs(array - hand.base[name]).max() > 1e-3}
    assert moved == {"embedding", "up", "down"}


def test_mixed_blocks_are_mangos_formula() -> None:
    """X'_b = Σ_c S_bc X_c over the blocks of hidden x hidden; up has two of them, and so has down."""
    hand = Hand((4, 2), (8, 4))
    made = hand.materialiser(mix=True)
    plain = hand.materialiser()
    mix = np.random.default_rng(2).standard_normal((4, 4))
    with torch.no_grad():
        made.operators.mixes["layers"].copy_(torch.from_numpy(mix.astype(np.float32)))
    ours, before = values(made), values(plain)
    for k in range(2):
        up, down = before[f"new.up.{k}"], before[f"new.down.{k}"]
        blocks = np.stack([up[:, :2], up[:, 2:], down[:2], down[2:]])
        mixed = np.tensordot(mix, blocks, 1)
        np.testing.assert_allclose(ours[f"new.up.{k}"], np.concatenate(mixed[:2], axis=1), atol=3e-6)
        np.testing.assert_allclose(ours[f"new.down.{k}"], np.concatenate(mixed[2:], axis=0), atol=3e-6)
        np.testing.assert_array_equal(ours[f"new.bias.{k}"], before[f"new.bias.{k}"])


def test_noise_stays_as_the_method_drew_it() -> None:
    hand = Hand((2, 4), (3, 6), (2, 3), noise_scale=3.0)
    made = hand.materialiser()
    assert "new.up.0" in made.kept and "new.embedding.0" not in made.kept
    for name, array in values(made).items():
        np.testing.assert_allclose(array, hand.base[name], rtol=0, atol=1e-6)


def test_gradients_reach_every_operator() -> None:
    made = Hand((4, 2), (8, 4)).materialiser(mix=True)
    torch.stack([tensor.square().sum() for tensor in made.weights().values()]).sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in made.operators.named().values())


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ResampleError, match="nothing can be trained"):
        Hand((4, 4), (6, 6), (2, 2)).materialiser()
    with pytest.raises(ResampleError, match="--learn-mix"):
        Hand((4, 2), (6, 3)).materialiser(mix=True)


WHOLE: dict[str, tuple[str, dict[str, Any], dict[str, Any], set[str]]] = {
    "turned": ("demo", {"layers": 3, "hidden": 32}, {}, {"norm_scale"}),
    "chosen": ("demo", {"heads": 2, "intermediate": 100}, {}, set()),
    "ordered": ("demo", {"hidden": 32}, {"align": "permute"}, set()),
    "grouped": ("llama", {"hidden": 32, "heads": 2, "kv_heads": 1, "intermediate": 64}, {"align": "none"}, set()),
    "packed": ("gpt2", {"layers": 2, "hidden": 32, "head_dim": 8}, {}, {"norm_scale"}),
    "scaled": ("demo", {"hidden": 32}, {"options": {"convention": "std-source"}, "align": "none"}, set()),
    "paper": ("demo", {"layers": 9, "hidden": 128}, {"options": {"preset": "paper"}}, set()),
    "copies": ("demo", {"hidden": 96}, {"method": "net2net"}, set()),
}


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow if n > 1 else ()) for n, c in enumerate(WHOLE)]
)
def test_operators_alone_make_what_the_method_makes(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a whole network, alignment and all; but for norms, which follow a turn by a rule of their own."""
    arch, spec, request, besides = WHOLE[case]
    source = tmp_path / "demo.onnx"
    if arch == "demo":
        source.write_bytes(model_bytes())
    else:
        source = cached_export(arch, base_size(arch), "torchscript17")
    made, base = materialised(source, spec, tmp_path / "out.onnx", monkeypatch, **request)
    kinds = {name: plan.task.kind for stack in made._stacks.values() for plan in [stack.plan] for name in plan.targets}
    assert {kinds[name] for name in made.kept} <= besides
    with torch.no_grad():
        ours = {name: tensor.numpy() for name, tensor in made._tensors().items()}
    for name in set(ours) - set(made.kept):
        np.testing.assert_allclose(
            ours[name], base[name], rtol=0, atol=2e-6 * max(1.0, float(np.abs(base[name]).max()))
        )
    assert len(ours) >= len(base) - 2  # a twin, a table
