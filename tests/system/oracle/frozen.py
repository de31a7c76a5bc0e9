"""A dim that a network cannot have at another size: frozen for a reason, and refused by it."""

from __future__ import annotations

from pathlib import Path

import pytest

import bot_onnx
from bot_onnx._reasons import Why
from bot_onnx.errors import DimError


def assert_frozen(source: Path, size: int, why: Why, told: str, asked: int) -> None:
    """The first dim of a size is frozen for a reason; asking another size of it is refused, and nothing is written.

    Args:
        source: the model. size: of the dim. why: the reason. told: what the error says of it. asked: the other size.
    """
    dim = next(dim for dim in bot_onnx.inspect(source).structure.dims.values() if dim.size == size)
    out = source.with_name("refused.onnx")
    assert dim.frozen is not None and dim.frozen.kind is why
    with pytest.raises(DimError, match=told):
        bot_onnx.resize(source, {"dims": {dim.name: asked}}, out)
    assert not out.exists()
