"""The residual stream: who writes into it, which norms scale it, which linear maps read it, what a turn shows through.

A rotation of the stream is invisible if every writer is linear and every reader stands behind a norm that only knows
the stream's length (and mean), or reads the stream as it is. Where a norm's result is the stream itself (post-norm
networks, a norm behind the embeddings), its scale follows a rotation channel by channel, which is not exact.
:mod:`bot_onnx._align.stream_walk` finds all that in one walk over the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bot_onnx._reasons import Reason


@dataclass(frozen=True, slots=True)
class Reader:
    """A linear map of the stream: its weight, and the bias added to it."""

    weight: str
    bias: str | None


@dataclass(frozen=True, slots=True)
class StreamNorm:
    """A norm of the stream.

    Attributes:
        scale, bias: names of its parameters. centred: it is a LayerNorm, not an RMSNorm. readers: of its result.
        value: name of what it scales (the stream itself where the norm is one op): the stream's direction is in it.
        stands: its result goes on as the stream, or out of the graph.
    """

    scale: str
    bias: str | None
    centred: bool
    readers: tuple[Reader, ...]
    value: str
    stands: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """What the walk found.

    Attributes:
        hidden: id of the stream's dim, or empty.
        norms: in graph order. readers: of the stream as it is, without a norm.
        writers: names of all parameters whose hidden axis is written into the stream, each with the names of the
            vectors that scale what it writes, channel by channel (LayerScale).
        outputs: names of the graph outputs that carry it. activated: an activation stands on it, off the layers.
        obstacle: why the stream cannot be rotated, or None.
    """

    hidden: str
    norms: tuple[StreamNorm, ...] = ()
    readers: tuple[Reader, ...] = ()
    writers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    activated: bool = False
    obstacle: Reason | None = None
