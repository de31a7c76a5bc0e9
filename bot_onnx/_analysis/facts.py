"""What the passes of the analysis hand on: a frozen type a kind of fact.

Some passes find nothing: they merge or release dims, and the fact is that it was done. Passes that look at dims
afterwards name it, so that their place in the order shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from bot_onnx._axes.dims import Dim as DimId
from bot_onnx._axes.dims import MaybeDim
from bot_onnx._canonical.form import Form
from bot_onnx._patterns.attention import Attention, Scalar
from bot_onnx._patterns.counts import Count
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._patterns.parameters import Parameter
from bot_onnx._reasons import Reason
from bot_onnx._structure import Dim, Stack, TiedHead


@dataclass(frozen=True, slots=True)
class Scale:
    """A scalar factor that follows the size of a dim.

    Attributes:
        scalar: where it stands.
        dim: head_dim on the path of attention scores, hidden on the residual stream outside the layers.
        formula: of the dim's size; None for a factor of attention scores that no formula explains.
        stream: it stands on the residual stream, where no weight makes up for it.
        counts: it is how many numbers a mean is over, or that less one (see :mod:`bot_onnx._patterns.counts`).
        sums: it stands beside a product that sums over the dim, and makes no attention scores.
    """

    scalar: Scalar
    dim: DimId
    formula: str | None
    stream: bool = False
    counts: bool = False
    sums: bool = False


@dataclass(frozen=True, slots=True)
class Normalised:
    """A model in the canonical form, and the form that it had. What all passes begin with."""

    model: ir.Model
    form: Form

    @property
    def graph(self) -> ir.Graph:
        """The graph of the model."""
        return self.model.graph


@dataclass(frozen=True, slots=True)
class Spelled:
    """The graph has its last form, and its outputs the shapes that they have; ``notes`` say which were wrong."""

    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layers:
    """Chains of layers, in the order in which they end, and their names."""

    chains: tuple[LayerChain, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Aligned:
    """Dims of corresponding values of all layers of a chain are one: a stack needs one size for all of them."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Every float initializer with more than one element, by name, in graph order of first use."""

    by_name: Mapping[str, Parameter]


@dataclass(frozen=True, slots=True)
class Constants:
    """Names of the parameters that are constant tables; their axes keep their sizes."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Attentions:
    """All attentions, in graph order."""

    found: tuple[Attention, ...]


@dataclass(frozen=True, slots=True)
class Grouped:
    """Numbers of groups that are normalised each by itself keep their sizes."""


@dataclass(frozen=True, slots=True)
class Released:
    """Axes of graph inputs that follow from sizes inside are free."""


@dataclass(frozen=True, slots=True)
class Twins:
    """Name of the embedding by the name of the matrix that is its transpose; their dims are one."""

    originals: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Merged:
    """Composites of the same parts in the same order are one dim."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Closed form by the name of a table that is no trained weight; None where none is known, and its axes stay."""

    forms: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Stacks:
    """Parameters and tables, grouped by layers.

    Attributes:
        stacks: in graph order of first use; their axes have no names yet.
        axes: dims of every stack, by its id.
        broken: why a chain cannot change its depth, by its index.
        follows: index of the chain that another one follows, by its index.
        tied_heads: linear maps by an embedding, with the norms before them.
        qkv: ids of the stacks of queries, keys and values that are kept apart.
    """

    stacks: tuple[Stack, ...]
    axes: Mapping[str, tuple[MaybeDim, ...]]
    broken: Mapping[int, Reason]
    follows: Mapping[int, int]
    tied_heads: tuple[TiedHead, ...]
    qkv: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Named:
    """Plain dims by id, and the id of every dim of the algebra that has one."""

    dims: Mapping[str, Dim]
    ids: Mapping[DimId, str]


@dataclass(frozen=True, slots=True)
class Scales:
    """Scalar factors that follow a size, or may do so; ``counts`` of means, those that no constant gives among them."""

    found: tuple[Scale, ...]
    counts: tuple[Count, ...] = ()
