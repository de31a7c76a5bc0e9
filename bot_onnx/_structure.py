"""What the analysis says of a graph: dims, chains of layers, parameter stacks.

These are plain frozen values without weights. Everything downstream (solver, plan, report) reads these and never
the ONNX graph itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from bot_onnx import _html

if TYPE_CHECKING:
    import networkx

from bot_onnx._reasons import Reason
from bot_onnx.errors import said

DimKind = Literal["leaf", "product", "concat"]
TensorKind = Literal["matrix", "kernel", "embedding", "table", "norm_scale", "norm_bias", "bias", "scale", "other"]
Direction = Literal["out", "in", "index", "none"]
Residual = Literal["pre-norm", "post-norm", "post-activation", "unknown", "none"]


class Role(StrEnum):
    """What a dim is for, as far as the graph shows it."""

    HIDDEN = "hidden"  #: the residual stream
    HEADS = "heads"
    KV_HEADS = "kv_heads"
    HEAD_DIM = "head_dim"
    INTERMEDIATE = "intermediate"  #: made by one matrix of a layer, and contracted by the next
    VOCAB = "vocab"
    POSITIONS = "positions"
    V_HEAD_DIM = "v_head_dim"
    GROUP = "group"  #: query heads per head of keys
    HALF_HEAD_DIM = "half_head_dim"
    STATE = "state"  #: contracted between two activations of a layer that are no attention
    CONV_GROUPS = "conv_groups"
    EXPERTS = "experts"
    TOKENS = "tokens"  #: rows of tables that are added or joined to activations
    OUT = "out"  #: shown by a graph output, and read by no weight
    COUNT = "count"  #: a number of things, such as the 3 of a fused qkv
    IO = "io"  #: of a graph input
    SPATIAL = "spatial"
    FREE = "free"  #: anything else


#: Roles a spec can address by key; every other dim is addressed by its name or id through ``dims``.
SPEC_ROLES = (
    Role.HIDDEN,
    Role.HEADS,
    Role.KV_HEADS,
    Role.HEAD_DIM,
    Role.INTERMEDIATE,
    Role.VOCAB,
    Role.POSITIONS,
)


@dataclass(frozen=True, slots=True)
class Dim:
    """One static dim of the graph: a set of tensor axes that must always have the same size and index order.

    Attributes:
        id: ``d0``, ``d1``… in order of first occurrence along the graph.
        name: unique, readable: the role where there is one (``hidden``, ``heads``, ``intermediate``,
            ``intermediate_2``…), else ``dim_<size>``.
        size: number of indices in the source model.
        kind: ``leaf``, an ordered ``product`` (mixed radix: 768 = heads 12 x head_dim 64, first part slowest), or an
            ordered ``concat`` (2304 = q + k + v).
        parts: ids of the parts for a product or concat, in order; the same id may stand there twice
            (rotary: head_dim = half + half).
        role: see :class:`Role`.
        frozen: None if the dim can be resized, else the reason why not.
        occurrences: ``(initializer name, axis)`` pairs.
        outputs: names of the graph outputs that show the dim, or that are decided or summed over it.
    """

    id: str
    name: str
    size: int
    kind: DimKind
    parts: tuple[str, ...]
    role: Role
    frozen: Reason | None
    occurrences: tuple[tuple[str, int], ...]
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """A run of structurally equal layers: ``count`` layers of ``period`` segments each.

    ``leading`` of them, at the start, lack something that the others have (a norm). They count as layers and keep
    their place whatever the depth; their parameters are no part of the stacks, which hold ``stacked`` layers.
    ``residual`` says what its residual stream passes between two sums: nothing (``pre-norm``), a norm (``post-norm``),
    an activation (``post-activation``); ``unknown``: anything else; ``none``: there are no sums. ``follows`` names a
    chain whose weights this one uses as well, layer by layer (two inputs through one network): both always have the
    same depth. ``turns`` is after how many layers what they read from outside is the same again (local and global
    masks); 1 too where it never is, so that there can be no more layers. ``strays`` is the number of layers like these
    that stand outside the chain, and stay: such as read keys and values of another layer. ``within`` is how many layers
    each of these is, where layers take turns in what they do (one masks its scores, the next does not): ``count`` is of
    turns. ``placed`` says that layers hold numbers that follow their place (1 / (k + 1)).
    """

    name: str
    count: int
    period: int
    nodes_per_layer: int
    resizable: Reason | None = None  # None: depth can change; else the reason why not
    residual: Residual = "none"
    leading: int = 0
    follows: str | None = None
    turns: int = 1
    strays: int = 0
    within: int = 1
    placed: bool = False

    @property
    def held(self) -> int:
        """``turns``; 0 where layers do not alternate, and keep their place for the numbers that they hold."""
        return 0 if self.placed and self.turns == 1 else self.turns

    @property
    def stacked(self) -> int:
        """Number of layers in the chain's stacks."""
        return self.count - self.leading

    def in_turns(self, count: int | None = None) -> str:
        """What a number of layers (by default the source's) is: where each is a turn of several, how many in all."""
        number = self.count if count is None else count
        return str(number) if self.within == 1 else f"{number} turns of {self.within}, {number * self.within} in all"

    def beside(self) -> str:
        """What to say of layers that stand outside, in a sentence."""
        return (
            f"WARNING: {self.strays} more with the weights of a layer of '{self.name}' stand outside the chain: they "
            f"stay, and its {self.count} layers are not all that the network has."
        )


@dataclass(frozen=True, slots=True)
class Stack:
    """The corresponding parameters of the layers of a chain, or one parameter outside of them.

    Attributes:
        id: ``s0``, ``s1``… in order of first use.
        name: readable, from the initializers' names.
        chain: name of the chain, or None outside the layers.
        tensors: initializer names in layer order; one name where ``chain`` is None, or where all the layers share
            one tensor (``shared``).
        dtype: ONNX data type name, e.g. ``FLOAT``.
        axes: dim id per tensor axis (without the layer axis); None for an axis of size 1.
        kind: what the tensor does. ``matrix``: a 2-D (or batched) weight of MatMul / Gemm / Linear; ``kernel``: a
            convolution's; ``embedding``: gathered along axis 0 by computed indices; ``table``: a tensor added to
            activations that has more than one non-unit axis (position tables, class tokens); ``norm_scale`` /
            ``norm_bias``: a normalisation's; ``bias`` / ``scale``: added to / multiplied with activations.
        directions: per axis, ``in`` (contracted with the activation), ``out`` (an axis of the result), ``index``
            (looked up), ``none`` (a kernel's taps).
        writes_residual: the tensor is the last linear map (or its bias) before an addition to the residual stream.
        score_parts: for an ``out`` axis that carries queries or keys into attention scores: the indices of its
            top-level concat parts that do (``(0, 1)`` for a fused qkv, ``(0,)`` for a separate query matrix). Empty
            for all others.
        before_tied_head: the tensor (of the last layer, in a chain) is the scale or bias of the last norm before a
            head tied to the embedding.
        twin_of: id of the stack of which this one is the transpose (a head that an exporter folded away from its
            embedding); its values are that stack's, transposed.
        positive: no value may become zero or less: the variances of a batch normalisation, norms of matrices.
        norm_position: for a norm inside a layer, ``last`` if it is the layer's last one, else ``inner``.
        offset: what is added to the tensor wherever it is used: the 1 of norms that scale by 1 + w.
        closed_form: name of the formula that recomputes the tensor at another size (``arange``, ``inv_freq:10000``,
            …) or None.
    """

    id: str
    name: str
    chain: str | None
    tensors: tuple[str, ...]
    dtype: str
    axes: tuple[str | None, ...]
    shape: tuple[int, ...]
    kind: TensorKind
    directions: tuple[Direction, ...]
    shared: bool = False
    writes_residual: bool = False
    score_parts: tuple[int, ...] = ()
    before_tied_head: bool = False
    closed_form: str | None = None
    twin_of: str | None = None
    positive: bool = False
    norm_position: Literal["inner", "last"] | None = None
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class TiedHead:
    """A head that has its weight from an embedding: both names, the norm's by its scale and bias (none: no norm)."""

    embedding: str
    norm: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a network at a glance: an input, an output, a layer of a chain, or a node outside of the layers.

    Attributes:
        name: unique: of the input, output or node; ``<chain>.<number>`` of a layer, counted from 0.
        kind: which of them. chain, layer: where it is a layer.
        ops: how many nodes of each op it has. tensors: the initializers that it reads.
        parameters: how many numbers these hold.
        dims: names of the leaf dims of these. roles: what they are for (see :class:`Role`).
    """

    name: str
    kind: Literal["input", "output", "layer", "node"]
    chain: str | None
    layer: int | None
    ops: tuple[tuple[str, int], ...]
    tensors: tuple[str, ...]
    parameters: int
    dims: tuple[str, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """The values, by name, that one part makes and another reads."""

    start: str
    end: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """The parts of a network, in graph order, and what flows between them; without shape arithmetic."""

    parts: tuple[Part, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Structure:
    """The whole analysis, without the graph: what ``inspect`` prints and the solver reads."""

    dims: dict[str, Dim]
    chains: tuple[Chain, ...]
    stacks: tuple[Stack, ...]
    ties: tuple[tuple[str, ...], ...] = ()  # groups of uses of one tensor, as readable places
    equal_sizes: tuple[tuple[str, str], ...] = ()  # ids of dims of one size whose indices are in different orders
    #: Ids of concats, and of the products of one size (groups x channels) that they are normalised as.
    dealt: tuple[tuple[str, str], ...] = ()
    joint: tuple[str, ...] = ()  # ids of concats of which a mean, or another statistic, is taken as of one axis
    residual: Residual = "none"  # of the largest chain
    parameters: int = 0
    nodes: int = 0
    notes: tuple[str, ...] = field(default=())
    tied_heads: tuple[TiedHead, ...] = ()
    #: Ids of stacks of queries, keys and values that are kept apart: of one shape, and read from one value.
    qkv: tuple[tuple[str, ...], ...] = ()
    single_kv_head: bool = False  # query heads that share one key and value head, an axis of size 1 without a dim
    own_kv_heads: bool = False  # every query head has a key and value head of its own
    #: Only where people look at it, and only for them: :meth:`graph` gives it.
    overview: Overview | None = field(default=None, compare=False, metadata={"json": False})

    def graph(self) -> networkx.DiGraph:
        """The network as a directed graph, to draw and to query.

        Returns:
            A ``networkx.DiGraph``. Its nodes are inputs, outputs, layers (``encoder.0``) and the nodes outside of
            layers, with the attributes of a :class:`Part`: ``kind``, ``chain``, ``layer``, ``ops`` (a dict),
            ``tensors``, ``parameters``, ``dims``, ``roles``. Its edges carry ``values``: names of what flows there.

        Raises:
            ValueError: this structure was not made by :meth:`bot_onnx._model.Model.inspect`, and knows no nodes.

        Examples:
            >>> import bot_onnx
            >>> graph = bot_onnx.open("model.onnx").structure.graph()  # doctest: +SKIP
            >>> [n for n, part in graph.nodes(data=True) if "vocab" in part["roles"]]  # doctest: +SKIP
        """
        import networkx

        if self.overview is None:
            raise ValueError("only the structure of an opened model (bot_onnx.open) knows its nodes")
        made: networkx.DiGraph = networkx.DiGraph()
        for part in self.overview.parts:
            told = {name: getattr(part, name) for name in ("kind", "chain", "layer", "tensors", "parameters", "dims")}
            made.add_node(part.name, **told, roles=part.roles, ops=dict(part.ops))
        made.add_edges_from((link.start, link.end, {"values": link.values}) for link in self.overview.links)
        return made

    @property
    def together(self) -> tuple[str, ...]:
        """Ids of the concats over whose parts a norm or a mean runs, in groups or as one."""
        return tuple(dict.fromkeys((*(concat for concat, _ in self.dealt), *self.joint)))

    def uneven(self, sizes: Mapping[str, int]) -> list[str]:
        """Those of :attr:`together` whose parts change by different ratios: a norm then weighs them otherwise.

        Args:
            sizes: new number of indices by dim id.
        """
        parts = {concat: self.dims[concat].parts for concat in self.together}
        ratios = {
            concat: {Fraction(sizes[part], self.dims[part].size) for part in each} for concat, each in parts.items()
        }
        return [concat for concat, found in ratios.items() if len(found) > 1]

    def __repr__(self) -> str:
        """Its layers, dims and size in a line."""
        layers = ", ".join(f"{chain.name} {chain.count}" for chain in self.chains) or "no layers"
        counts = f"{len(self.dims)} dims, {len(self.stacks)} stacks, {self.parameters:,} parameters"
        return f"<Structure: {layers}; {counts}, {self.nodes:,} nodes>"

    def _repr_html_(self) -> str:
        chains = ((chain.name, chain.count, _or_yes(chain.resizable)) for chain in self.chains)
        dims = ((dim.id, dim.name, dim.size, dim.role, _or_yes(dim.frozen)) for dim in self.dims.values())
        kinds = Counter(stack.kind for stack in self.stacks)
        return _html.block(
            _html.table("Layers", ("chain", "layers", "resizable"), chains),
            _html.table("Dims", ("id", "name", "size", "role", "resizable"), dims),
            _html.table("Stacks", ("kind", "stacks"), kinds.items()),
            *(_html.facts("", {"note": note}) for note in self.notes),
        )


def _or_yes(reason: Reason | None) -> str:
    return "yes" if reason is None else f"no: {said(reason)}"
