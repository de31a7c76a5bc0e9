"""The miniature and its growth: both run in onnxruntime, every value is held against the copies it should be."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._analysis.facts import Scale
from bot_onnx._analysis.passes import Analysis
from bot_onnx._axes.dims import Dim, MaybeDim
from bot_onnx._ops.nodes import FLOATS
from bot_onnx._patterns.attention import scalar_factors
from bot_onnx._patterns.closed_forms import as_copies
from bot_onnx._proof.duplication import Duplication
from bot_onnx._proof.feeding import input_shapes, shows_as_much
from bot_onnx._proof.graphs import GIVEN, Excerpt, detached, scaled
from bot_onnx._proof.relation import Relation, relate
from bot_onnx._proof.sizes import SmallSizes
from bot_onnx._proof.weights import large_weights, small_weights
from bot_onnx._runs.inputs import feeds, input_specs
from bot_onnx._runs.runtime import session
from bot_onnx._surgery.apply import apply
from bot_onnx._surgery.edits import NumberEdit, last_of_each
from bot_onnx._surgery.proven import Formula, Gain
from bot_onnx._surgery.scales import scale_edits
from bot_onnx._surgery.sizes import size_edits
from bot_onnx._surgery.undo import unchanged

Array = NDArray[Any]
Relations = dict[str, Relation]
_RUNNERS = 3  #: sessions held: the small one of a hypothesis, and its growth at two ratios
_Key = tuple[tuple[Formula, ...], frozenset[str], int | None]


@dataclass(frozen=True, slots=True)
class Repairs:
    """What makes the grown miniature compute the copies.

    Attributes:
        formulas: constants that follow their dims. gains: factors that weights take.
        scored: queries and keys take the factor that makes up for their divisor's formula; else scores take it.
        quiet: inputs that grow are zero: keys in a cache have the factor of those that are made, which nobody gives.
        afresh: values that are made of the very copies: what rounding leaves of a long way parts them (the sine of a
            large number). What they are made of must be the copies all the same.
    """

    formulas: tuple[Formula, ...] = ()
    gains: tuple[Gain, ...] = ()
    scored: bool = True
    quiet: bool = False
    afresh: frozenset[str] = frozenset()


class Miniature:
    """A graph at small sizes with random weights.

    Attributes:
        analysis: of the graph, which is as it was after every call.
        sizes: of the leaves.
        excerpt: the nodes.
        watched: the values, in graph order.
        weights: contents of the tensors of all stacks, by name. feeds: inputs, by name.
    """

    def __init__(
        self, analysis: Analysis, sizes: SmallSizes, given: Mapping[str, str | float], *, positive: bool = False
    ) -> None:
        """``given``: formulas and numbers for constants by node name, from the spec; ``positive``: of the weights."""
        self.analysis, self.sizes, self.given = analysis, sizes, given
        self.excerpt = Excerpt(analysis)
        self.watched = self.excerpt.watched()
        self._still = Duplication(analysis, sizes.small, sizes.small)
        self.weights = small_weights(analysis, self._still, self.excerpt.initializers, seed=0, positive=positive)
        self._held: dict[_Key, dict[str, Array]] = {}
        self._reading: dict[int, set[str]] = {}
        self._runners: dict[tuple[Hashable, ...], tuple[Any, Sequence[str]]] = {}
        self.feeds = self._drawn_feeds()

    def learn(self, scales: tuple[Scale, ...]) -> None:
        """Take factors for ones that follow a size, in all trials from here on."""
        self.analysis = replace(self.analysis, scales=scales)

    def trial(self, ratios: Mapping[str, int], repairs: Repairs, first: int | None = None) -> Relations:
        """Grow some leaves, and relate the watched values.

        Args:
            ratios: how many times, by dim id.
            repairs: what else changes.
            first: how many of the values, without what only later ones need; None: all.
        """
        growth = self.growth(self.sizes.large(ratios))
        of = self.analysis.context.axes_of
        growing = {name for name, port in self._ports.items() if growth.changes(of(port)) and port.dtype in FLOATS}
        quiet = frozenset(growing) if repairs.quiet else frozenset[str]()
        small = self.values(repairs.formulas, quiet, first)
        gains = {gain.stack: factor(gain, ratios) for gain in repairs.gains if gain.stack}
        patched = self._counted(growth)
        for gain in repairs.gains:
            for name in [] if gain.stack else self._alike(gain):
                patched[name] = patched.get(name, 1.0) * factor(gain, ratios)
        given = {name: growth.grown(array, of(self._ports[name])) for name, array in self.quieted(quiet).items()}
        weights = large_weights(self.analysis, growth, self._read(first), gains, scored=repairs.scored)
        copies = {
            name: growth.grown(small[name], of(read))
            for value in self.watched[:first]
            for read in self._read_afresh(value, repairs)
            if (name := read.name or "") in small and growth.fits(small[name], of(read))
        }
        large = self._run(growth.large, weights, given, repairs.formulas, patched, first, repairs.afresh, copies)
        relations: Relations = {}
        for value in self.watched[:first]:
            name, dims = value.name or "", of(value)
            array = small[name]
            known = growth.fits(array, dims)
            wanted = growth.grown(array, dims) if known else array
            axes = [axis for axis, dim in enumerate(dims) if known and self._is_static(dim)]
            relations[name] = relate(wanted, large.pop(name), axes, ratios.values())
            made_of = [relations.get(read.name or "", Relation()) for read in self._read_afresh(value, repairs)]
            if any(one.odd for one in made_of):
                relations[name] = Relation(difference="made of a multiple of the copies")
        return relations

    def _counted(self, growth: Duplication) -> dict[str, float]:
        """What makes copies of means that are corrected by n - 1, by the name of the value."""
        found: dict[str, float] = {}
        for count in self.analysis.counts:
            before, after = (self.analysis.new_size(count.dim, sizes)[0] for sizes in (growth.small, growth.large))
            if before != after:
                found[count.node.outputs[0].name or ""] = as_copies(count.formula, before, after)
        return {name: number for name, number in found.items() if number != 1.0}

    def _read_afresh(self, value: ir.Value, repairs: Repairs) -> list[ir.Value]:
        node = value.producer() if value.name in repairs.afresh else None
        return [] if node is None else self.excerpt.inputs_of(node)

    def _is_static(self, dim: MaybeDim) -> bool:
        return dim is not None and self.analysis.context.table.is_static(dim)

    def growth(self, large: Mapping[str, int]) -> Duplication:
        """The miniature beside one with leaves of other sizes."""
        return Duplication(self.analysis, self.sizes.small, large)

    def values(
        self, formulas: tuple[Formula, ...] = (), quiet: frozenset[str] = frozenset(), first: int | None = None
    ) -> dict[str, Array]:
        """What the miniature computes, its constants following their dims, the inputs in ``quiet`` zero.

        Args:
            formulas: of constants.
            quiet: names of inputs.
            first: how many of the watched values are asked for, at least; None: all.
        """
        for key in ((formulas, quiet, None), (formulas, quiet, first)):
            if key in self._held:
                return self._held[key]
        # Values take room: those of all, and those of one hypothesis, are held, and no more.
        for key in [key for key in self._held if (key[-1] is None) == (first is None)]:
            del self._held[key]
        found = self._run(self._still.small, self.weights, self.quieted(quiet), formulas, {}, first)
        self._held[formulas, quiet, first] = found
        return found

    def shaken(self, formulas: tuple[Formula, ...], quiet: frozenset[str]) -> dict[str, Array]:
        """What the miniature computes where every weight is rounded otherwise in its last place; see :meth:`values`."""
        rng = np.random.default_rng(0)
        weights = {
            name: array * (1 + np.spacing(np.float32(1)) * rng.choice((-1, 1), array.shape)).astype(np.float32)
            if array.dtype == np.float32
            else array
            for name, array in self.weights.items()
        }
        return self._run(self._still.small, weights, self.quieted(quiet), formulas, {}, None)

    def quieted(self, quiet: Collection[str]) -> dict[str, Array]:
        """The inputs, some of them zero."""
        return {name: np.zeros_like(array) if name in quiet else array for name, array in self.feeds.items()}

    def _read(self, first: int | None) -> Mapping[str, Array]:
        """The weights that some values need, and those that are turned to give them."""
        if first is None:
            return self.weights
        if first not in self._reading:
            stacks = self.analysis.structure.stacks
            tensors = {stack.id: stack.tensors for stack in stacks}
            read = self.excerpt.read_for(self.watched[:first])
            turned = (tensors[stack.twin_of] for stack in stacks if stack.twin_of and read.intersection(stack.tensors))
            self._reading = {first: read.union(*turned)}
        return {name: array for name, array in self.weights.items() if name in self._reading[first]}

    @cached_property
    def _ports(self) -> dict[str, ir.Value]:
        return {value.name or "": value for value in [*self.analysis.model.graph.inputs, *self.excerpt.random]}

    def _run(
        self,
        sizes: Mapping[str, int],
        weights: Mapping[str, Array],
        feeds: Mapping[str, Array],
        formulas: Sequence[Formula],
        patched: Mapping[str, float],
        first: int | None,
        afresh: frozenset[str] = frozenset(),
        copies: Mapping[str, Array] = MappingProxyType({}),
    ) -> dict[str, Array]:
        key = (tuple(sorted(sizes.items())), tuple(formulas), tuple(sorted(patched.items())), first, afresh)
        watched = self.watched[:first]
        runner, replaced = self._runners.get(key) or (None, ())
        if runner is None:
            edits = size_edits(self.analysis, sizes)
            factors = self.factor_edits(sizes, formulas, stream=self._still.small)
            with unchanged(self.analysis):
                apply(self.analysis, (*edits, *factors))
                proto = self.excerpt.proto(self.analysis, weights, watched, part=first is not None)
            scaled(proto.graph, patched)
            detached(proto.graph, afresh, copies)
            runner, replaced = (
                _opened(proto, weights) if first is not None else (session(proto.SerializeToString()), ())
            )
        if replaced:  # what differs between hypotheses is mostly weights: the next one need not open another
            others = [other for other in self._runners if other != key]
            self._runners = {other: self._runners[other] for other in others[-(_RUNNERS - 1) :]}
            self._runners[key] = runner, replaced
        given = {name: np.asarray(weights[name], np.float32, order="C") for name in replaced}
        given |= {f"{name}{GIVEN}": array for name, array in copies.items()}
        found = runner.run(None, {**feeds, **given})
        return dict(zip((value.name or "" for value in watched), found, strict=True))

    def factor_edits(
        self,
        sizes: Mapping[str, int],
        formulas: Sequence[Formula],
        stream: Mapping[str, int] | None = None,
        layers: Mapping[str, int] | None = None,
    ) -> tuple[NumberEdit, ...]:
        """What brings the graph's scalar factors to new sizes, those that the proof found included.

        Args:
            sizes: by dim id.
            formulas: that the proof found.
            stream: sizes that factors on the residual stream follow, where they are others. Such a factor makes a
                larger network another function by its own rule; what a trial is about is everything else.
            layers: depth by name of the chain where numbers that the spec gives are to be set as well.
        """
        analysis = self.analysis
        known = [scale for scale in analysis.scales if scale.formula is not None]
        found = [scale for formula in formulas for scale in scales_of(analysis, formula)]
        depths = {chain.name: chain.count for chain in analysis.structure.chains}
        # At the source's own sizes the constants are what they are: a number that the spec gives is set in the target.
        given = self.given if layers else {name: one for name, one in self.given.items() if isinstance(one, str)}
        scales = (*(s for s in known if not s.stream), *found)
        edits = scale_edits(replace(analysis, scales=scales), sizes, layers or depths, given)
        streams = replace(analysis, scales=tuple(s for s in known if s.stream))
        return last_of_each([*edits, *scale_edits(streams, stream or sizes, {}, {})])

    def _alike(self, gain: Gain) -> list[str]:
        """Names of the value that shows a gain in all layers."""
        made = next((value.producer() for value in self.watched if value.name == gain.value), None)
        if made is None:
            return []
        return [node.outputs[0].name or "" for node in in_all_layers(self.analysis, made)]

    def _drawn_feeds(self) -> dict[str, Array]:
        """Random inputs, as the analysis feeds them, at the sizes of the miniature; images as small as can be."""
        specs = input_specs(self.excerpt.proto(self.analysis, self.weights, []).graph)
        *smaller, own = input_shapes(self.analysis, self._still, self._ports, self.watched)
        for shapes in smaller:
            self.feeds = feeds([replace(spec, shape=shapes[spec.name]) for spec in specs], {})
            with suppress(Exception):  # onnxruntime's errors have no public base class
                if shows_as_much(self.analysis, self._still, self.values(), self.watched):
                    return self.feeds
            self._held.clear()
        return feeds([replace(spec, shape=own[spec.name]) for spec in specs], {})


def _opened(proto: onnx.ModelProto, weights: Mapping[str, Array]) -> tuple[Any, Sequence[str]]:
    """A session of a message, and which weights can be given to it in place of those it holds: all, or none."""
    held = [one for one in proto.graph.initializer if one.name in weights and one.data_type == onnx.TensorProto.FLOAT]
    inputs = len(proto.graph.input)
    proto.graph.input.extend(onnx.helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in held)
    with suppress(Exception):  # some ops want constants; onnxruntime's errors have no public base class
        return session(proto.SerializeToString()), [one.name for one in held]
    del proto.graph.input[inputs:]
    return session(proto.SerializeToString()), ()


def factor(gain: Gain, ratios: Mapping[str, int | float]) -> float:
    """The number that a gain is at given ratios (new size over old) of the leaves."""
    product = 1.0
    for ident in gain.dims:
        product *= ratios.get(ident, 1)
    return float(product**gain.exponent)


def scales_of(analysis: Analysis, formula: Formula) -> list[Scale]:
    """The scalar factors that a formula is about, as the graph has them now: one, or one a layer."""
    dim = product_of(analysis, formula.dims)
    if dim is None:
        return []
    found = [
        Scale(scalar, dim, formula.formula)
        for node in analysis.model.graph
        if node.outputs and node.outputs[0].name == formula.value
        for alike in in_all_layers(analysis, node)
        for scalar in scalar_factors(alike)
        if scalar.slot == formula.slot
    ]
    return found


def in_all_layers(analysis: Analysis, node: ir.Node) -> list[ir.Node]:
    """The counterparts of a node in all layers of its chain, or the node alone."""
    for chain in analysis.chains:
        for layer in chain.layers:
            if node in layer.nodes:
                place = layer.nodes.index(node)
                return [other.nodes[place] for other in chain.layers]
    return [node]


def product_of(analysis: Analysis, idents: Sequence[str]) -> Dim | None:
    """The dim of some leaves, slowest first."""
    roots = {ident: dim for dim, ident in analysis.ids.items()}
    return analysis.context.table.product([roots[ident] for ident in idents])
