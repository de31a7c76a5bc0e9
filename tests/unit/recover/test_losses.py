"""What the loss sees: padding never, another width through a map, distances between samples whatever their scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bot_onnx._recover.losses import Objective, Pair, hidden_pairs
from bot_onnx._recover.types import OutputLoss, Settings
from bot_onnx.errors import RecoverError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.exporter


def normal(*shape: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def objective(
    ours: Any, theirs: Any, mask: Any = None, *, what: Any = "output", logits: bool = False, words: bool = False,
    chances: bool = False, loss: OutputLoss = "auto",
) -> tuple[Objective, float]:  # fmt: skip
    """The objective of one pair of values, and the loss at the values themselves."""
    pair = Pair(what, "y", "y", logits, words, chances)
    side = Pair("output", "o", "o")
    pairs = [pair] if what == "output" else [side, pair]
    plain = normal(len(ours), 2)
    made = Objective(pairs, Settings(output_loss=loss), [({"y": ours, "o": plain}, {"y": theirs, "o": plain}, mask)])
    return made, float(made({"y": ours, "o": plain}, {"y": theirs, "o": plain}, mask).detach())


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_knowing_the_mean_costs_one_and_knowing_all_nothing(scale: float) -> None:
    theirs = normal(64, 9) * scale + 3
    mean = theirs.mean(0, keepdim=True).expand_as(theirs)
    assert objective(mean, theirs)[1] == pytest.approx(1, rel=1e-3)
    assert objective(theirs.clone(), theirs)[1] == 0
    assert objective(theirs.clone(), theirs, logits=True)[1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", ["auto", "divergence"])
def test_probabilities_cost_what_their_logits_do(loss: OutputLoss) -> None:
    ours, theirs = normal(6, 5, 9).requires_grad_(), normal(6, 5, 9, seed=1) * 4
    ours.retain_grad()
    wanted, logits = objective(ours, theirs, logits=True)[0], {"o": normal(6, 2)}
    wanted({"y": ours, **logits}, {"y": theirs, **logits}, None).backward()
    expected, ours.grad = ours.grad, None
    made, found = objective(ours.softmax(-1), theirs.softmax(-1), chances=True, loss=loss)
    made({"y": ours.softmax(-1), **logits}, {"y": theirs.softmax(-1), **logits}, None).backward()
    assert found == pytest.approx(objective(ours, theirs, logits=True)[1], rel=1e-5)
    assert torch.allclose(ours.grad, expected, atol=1e-7)


def test_a_probability_of_nothing_has_a_gradient() -> None:
    ours = torch.tensor([[200.0, 0.0, -200.0], [0.0, 1.0, 2.0]], requires_grad=True)
    made, _ = objective(ours.softmax(-1).detach(), normal(2, 3).softmax(-1), chances=True)
    plain = {"o": normal(2, 2)}
    made({"y": ours.softmax(-1), **plain}, {"y": normal(2, 3).softmax(-1), **plain}, None).backward()
    assert torch.isfinite(ours.grad).all()


def test_padding_does_not_count() -> None:
    theirs, mask = normal(8, 5, 4), torch.ones(8, 5)
    mask[:, 3:] = 0
    ours = theirs.clone()
    ours[:, 3:] += 100
    assert objective(ours, theirs, mask)[1] == pytest.approx(0, abs=1e-6)
    assert objective(ours, theirs, mask, logits=True)[1] == pytest.approx(0, abs=1e-6)
    assert objective(ours, theirs, mask, loss="similarity")[1] == pytest.approx(0, abs=1e-6)
    assert objective(ours, theirs)[1] > 100
    far = theirs.clone()
    far[:, 3:] *= 1000  # must not make the error of the tokens that count look small
    assert objective(theirs + 1, far, mask)[1] == pytest.approx(
        float(1 / theirs[:, :3].reshape(-1, 4).var(0, correction=0).mean()), rel=1e-3
    )


def test_another_width_goes_through_the_best_linear_map() -> None:
    ours = normal(60, 5, 6)
    theirs = ours @ normal(6, 10, seed=1) + normal(10, seed=2)
    made, loss = objective(ours, theirs, what="hidden")
    assert loss == pytest.approx(0, abs=1e-3)
    assert {tuple(map_.shape) for map_ in made.parameters.values()} == {(6, 10), (10,)}
    assert all(map_.requires_grad for map_ in made.parameters.values())
    channels_first = objective(ours.movedim(-1, 1), theirs.movedim(-1, 1), what="hidden")[1]
    assert channels_first == pytest.approx(loss, abs=1e-3)


def test_similarity_sees_distances_and_neither_scale_nor_rotation() -> None:
    theirs = normal(40, 8)
    turned = theirs @ torch.linalg.qr(normal(8, 8, seed=3))[0] * 7
    assert objective(turned, theirs, loss="similarity")[1] == pytest.approx(0, abs=1e-5)
    wider = torch.cat([turned, torch.zeros(40, 3)], 1)
    assert objective(wider, theirs, loss="similarity")[1] == pytest.approx(0, abs=1e-5)
    assert objective(normal(40, 8, seed=4), theirs, loss="similarity")[1] > 1


def test_samples_that_the_teacher_cannot_tell_apart_stay_small() -> None:
    theirs = normal(1, 8).expand(40, 8) + 1e-4 * normal(40, 8, seed=5)
    assert objective(normal(40, 8, seed=6), theirs, loss="similarity")[1] < 3000


def test_a_smaller_vocabulary_keeps_its_tokens() -> None:
    theirs = normal(6, 4, 11)
    made, loss = objective(theirs[..., :7].clone(), theirs, logits=True, words=True)
    assert loss == pytest.approx(0, abs=1e-6) and made.compared[0].how == "KL divergence"
    with pytest.raises(RecoverError, match="7 and 11 classes have no divergence"):
        objective(theirs[..., :7].clone(), theirs, logits=True)


def test_shapes_that_have_nothing_in_common_are_noted_or_refused() -> None:
    with pytest.raises(RecoverError, match=r"no output can be compared.*shapes \[4, 3\] and \[4, 3, 2\]"):
        objective(normal(4, 3), normal(4, 3, 2))
    made, _ = objective(normal(4, 3, 5), normal(4, 2, 6), what="hidden")
    assert made.notes == ["hidden 'y' is not compared: shapes [4, 3, 5] and [4, 2, 6] differ in more than a width"]


def test_layers_are_paired_at_the_same_relative_depth() -> None:
    names = {depth: tuple(f"h{place}" for place in range(depth + 1)) for depth in (2, 3, 6, 12)}

    def matched(ours: int, theirs: int) -> list[str]:
        return [pair.teacher for pair in hidden_pairs({"encoder": names[ours]}, {"encoder": names[theirs]})]

    assert matched(3, 6) == ["h0", "h2", "h4", "h6"]
    assert matched(2, 12) == ["h0", "h6", "h12"]
    assert matched(3, 3) == ["h0", "h1", "h2", "h3"]
    assert [pair.teacher for pair in hidden_pairs({"a": names[2]}, {"b": names[2]})] == ["h0", "h1", "h2"]
    assert hidden_pairs({"a": names[2], "c": names[2]}, {"b": names[2], "d": names[2]}) == []
