"""Quality beside the teacher: what is measured, and what is left out because it would mean nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bot_onnx._recover.dataset import Dataset, consecutive
from bot_onnx._recover.quality import got_worse, measure
from bot_onnx._recover.types import OutputQuality

Values = NDArray[np.floating[Any]]


class Answers:
    """Stands for a model: row ``n`` of what it was made with is its answer to sample ``n``."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def run(self, feeds: dict[str, Values], fixed: object, names: list[str]) -> dict[str, Values]:
        cut = feeds["mask"].shape[1] if "mask" in feeds else None
        answers = self._values[feeds["sample"]]
        return {names[0]: answers if cut is None else answers[:, :cut]}

    def answers(self, chosen: object, feeds: dict[str, Values]) -> dict[str, Values]:
        return self.run(feeds, None, ["y"])


def measured(
    ours: Values, theirs: Values, *, logits: bool = False, words: bool = False, chances: bool = False,
    lengths: Any = None,
) -> OutputQuality:  # fmt: skip
    found = [frozenset({"y"}) if known else frozenset() for known in (logits, words, chances)]
    network: Any = SimpleNamespace(outputs=("y",), logits=found[0], words=found[1], chances=found[2])
    arrays: dict[str, Any] = {"sample": np.arange(len(ours))}
    if lengths is not None:
        arrays["mask"] = (np.arange(ours.shape[1]) < lengths[:, None]).astype(np.int64)
    data = Dataset(
        arrays, {}, lengths, ("mask",) if lengths is not None else (), "mask" if lengths is not None else None
    )
    sides: Any = Answers(ours), Answers(theirs)
    (quality,) = measure(*sides, (network, network), data, consecutive(np.arange(len(ours)), 7, None))
    return quality


def normal(*shape: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).normal(size=shape)


def test_logits_are_compared_by_class_and_divergence() -> None:
    theirs = normal(40, 5)
    quality = measured(theirs * 3 + 1, theirs, logits=True)
    assert quality.agreement == 1 and quality.similarity is None
    assert quality.divergence is not None and quality.divergence > 0.1
    turned = measured(np.roll(theirs, 1, axis=1), theirs, logits=True)
    assert turned.agreement == 0
    perfect = measured(theirs, theirs, logits=True)
    assert (perfect.agreement, perfect.cosine, perfect.error) == (1, pytest.approx(1), 0)


def test_probabilities_are_compared_as_the_logits_that_they_are_of() -> None:
    ours, theirs = normal(40, 5, seed=1), normal(40, 5)
    shares = [np.exp(side) / np.exp(side).sum(1, keepdims=True) for side in (ours, theirs)]
    wanted, found = measured(ours, theirs, logits=True), measured(shares[0], shares[1], chances=True)
    assert found.agreement == wanted.agreement and found.similarity is None
    assert found.divergence == pytest.approx(wanted.divergence, rel=1e-9)
    sure = np.eye(5)[np.arange(40) % 5]  # shares of exactly zero
    assert measured(sure, sure, chances=True).divergence == 0
    assert measured(shares[0], shares[1]).agreement is None


def test_a_smaller_vocabulary_is_compared_on_the_tokens_that_both_know() -> None:
    theirs = normal(10, 3, 9)
    quality = measured(theirs[..., :6], theirs, logits=True, words=True)
    assert quality.error == 0 and quality.agreement == 1
    assert measured(theirs[..., :6], theirs, logits=True).agreement is None


def test_another_width_is_compared_by_the_distances_of_samples() -> None:
    theirs = normal(30, 6)
    wider = np.concatenate([theirs, np.zeros((30, 4))], 1) * 5
    quality = measured(wider, theirs)
    assert quality.similarity == pytest.approx(1) and quality.cosine is None and quality.error is None
    unlike = measured(normal(30, 10, seed=1), theirs).similarity
    assert unlike is not None and abs(unlike) < 0.4
    assert measured(wider[:3], theirs[:3]).similarity is None


def test_padding_does_not_count() -> None:
    theirs, lengths = normal(20, 8, 6), np.arange(20) % 8 + 1
    ours = theirs.copy()
    ours[np.arange(8) >= lengths[:, None]] = 1e3
    quality = measured(ours, theirs, lengths=lengths)
    assert quality.error == 0 and quality.similarity == pytest.approx(1)
    assert measured(ours, theirs).error != 0


def test_the_error_of_the_mean_is_one() -> None:
    theirs = normal(400, 6) + 5
    assert measured(np.full_like(theirs, theirs.mean()), theirs).error == pytest.approx(1)


def test_what_got_worse_is_named() -> None:
    before = [OutputQuality("a", error=0.5), OutputQuality("b", similarity=0.5), OutputQuality("c", similarity=0.5)]
    after = [OutputQuality("a", error=0.6), OutputQuality("b", similarity=0.4), OutputQuality("c", similarity=0.6)]
    assert got_worse(before, after) == ["a", "b"]


@pytest.mark.parametrize(
    ("loss", "said"),
    [((2.0, 1.5), "train for more steps"), ((2.0, 7.0), "the loss rose, so train at a lower rate than 0.05")],
)
def test_what_is_advised_where_an_output_is_worse_goes_by_the_loss(loss: tuple[float, float], said: str) -> None:
    from bot_onnx._recover.reporting import _warnings

    before, after = [OutputQuality("logits", error=0.5)], [OutputQuality("logits", error=0.9)]
    assert _warnings(before, after, loss, 0.05) == [f"Output 'logits' is further from the teacher than before: {said}."]
    assert _warnings(after, before, loss, 0.05) == []
