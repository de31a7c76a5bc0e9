"""Which tokens of the source stay, where a spec names them."""

from __future__ import annotations

from collections.abc import Mapping

from bot_onnx._structure import Role, Structure
from bot_onnx._target.messages import place
from bot_onnx._target.schema import TargetSpec
from bot_onnx.errors import SpecError


def kept_tokens(
    structure: Structure, spec: TargetSpec, sizes: Mapping[str, int]
) -> tuple[tuple[int, ...], dict[str, int]]:
    """The tokens that a spec names, and the dims that count them.

    Args:
        structure: the analysed graph. spec: the target.
        sizes: new size per dim id.

    Returns:
        Ids of the source's tokens in ascending order, and the source size by dim id; nothing where the spec names
        none, or all.

    Raises:
        SpecError: a token that the model does not have, or a vocabulary that is made of parts.
    """
    tokens = spec.tokens
    if not tokens:
        return (), {}
    found = [dim for dim in structure.dims.values() if dim.role == Role.VOCAB and sizes[dim.id] == len(tokens)]
    rows = max((dim.size for dim in found), default=0)
    if tokens[-1] >= rows:
        raise SpecError(f"key 'vocab.keep' names token {tokens[-1]}, and the model has {rows}, from 0 on")
    if len(tokens) == rows:
        return (), {}
    made = next((dim for dim in found if dim.parts), None)
    if made is not None:
        raise SpecError(
            f"key 'vocab.keep': the vocabulary {place(made)} is made of parts, of which no single rows are taken; "
            "size its parts by name under 'dims'"
        )
    return tokens, {dim.id: dim.size for dim in found if dim.size == rows}
