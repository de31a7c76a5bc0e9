"""Whether a growth keeps the function: the plan's own method, at the plan's ratios, carried out on the miniature.

Nothing is argued: the miniature is grown as the source will be, layers added included, and its outputs are held against
the small one's, through the operators of their axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._analysis.passes import Analysis
from bot_onnx._axes.dims import Dim, MaybeDim
from bot_onnx._ops.nodes import FLOATS
from bot_onnx._proof.graphs import KEPT_LAYERS, Excerpt
from bot_onnx._proof.miniature import Miniature, factor
from bot_onnx._proof.relation import Relation, relate
from bot_onnx._resample import MethodOptions, axis_matrix, get_method
from bot_onnx._resample.axes import changes
from bot_onnx._runs.runtime import session
from bot_onnx._stack.groups import regrouped
from bot_onnx._stack.types import Axis, Law, StackTask
from bot_onnx._structure import Structure
from bot_onnx._surgery.apply import apply
from bot_onnx._surgery.edits import Edit, LayerChange, last_of_each
from bot_onnx._surgery.execute import by_name, resampled
from bot_onnx._surgery.joined import gathered, with_joints
from bot_onnx._surgery.laws import Laws, epsilon_edits, find_laws
from bot_onnx._surgery.proven import Formula, Gain
from bot_onnx._surgery.sizes import size_edits
from bot_onnx._surgery.tasks import EVEN, build_task
from bot_onnx._surgery.types import StackPlan
from bot_onnx._surgery.undo import unchanged
from bot_onnx._target import Solution
from bot_onnx.errors import ResampleError

Array = NDArray[Any]
_MORE = 1  #: layers that the miniature of a deeper network has more
#: Numbers that a grown miniature may have, unless it had a 64th of them before: some doublings are tried, what a slip
#: of the keyboard asks for is not.
_MOST, _TIMES = 1 << 24, 64


@dataclass(frozen=True, slots=True)
class Way:
    """How a network is resized: what, besides the sizes, decides whether its function stays."""

    method: str
    options: MethodOptions
    seed: int = 0


def laws_of(analysis: Analysis, sizes: Mapping[str, int], way: Way) -> Laws:
    """How dims grow to new sizes: a method that keeps the function may take a law of its own for each."""
    return find_laws(analysis, sizes) if get_method(way.method).keeps_function(way.options) else EVEN


class Growth:
    """The growth of one plan on its miniature."""

    def __init__(
        self,
        miniature: Miniature,
        solution: Solution,
        formulas: tuple[Formula, ...],
        planned: Mapping[str, int] | None = None,
    ) -> None:
        self._mini, self._solution, self._formulas = miniature, solution, formulas
        self._analysis: Analysis = miniature.analysis
        self._planned = miniature.sizes.planned if planned is None else planned
        self._sizes = miniature.growth(self._planned)
        self._structure = _few_layers(self._sizes.structure)
        self._layers = {
            chain.name: chain.count + (_MORE if solution.layers[chain.name] > _count(self._analysis, chain.name) else 0)
            for chain in self._structure.chains
        }

    @property
    def uneven(self) -> bool:
        """Whether a dim grows to no whole multiple."""
        return any(size % self._mini.sizes.small[ident] for ident, size in self._planned.items())

    @property
    def multiples(self) -> str:
        """The next whole multiples of the dims that grow to none, for people."""
        dims, sizes = self._analysis.structure.dims, self._solution.sizes
        found = [
            f"{dim.name} {dim.size * -(-sizes[dim.id] // dim.size)}"
            for dim in dims.values()
            if dim.kind == "leaf" and sizes[dim.id] % dim.size
        ]
        return ", ".join(found)

    def at_multiples(self) -> Growth:
        """The same growth to the next whole multiples."""
        small = self._mini.sizes.small
        planned = {ident: small[ident] * -(-size // small[ident]) for ident, size in self._planned.items()}
        return Growth(self._mini, self._solution, self._formulas, planned)

    def outputs(self, way: Way, gains: tuple[Gain, ...]) -> dict[str, tuple[Relation, bool]]:
        """Relation per output of the target that the source has as well.

        Returns:
            By name: how the two lie, whether an axis is resized.
        """
        analysis = self._analysis
        ratios = {ident: size / self._mini.sizes.small[ident] for ident, size in self._planned.items()}
        numbers = {gain.stack: factor(gain, ratios) for gain in gains if gain.stack}
        quiet = self._inputs_of_layers()
        small = self._mini.values(self._formulas, quiet)
        laws = laws_of(replace(analysis, structure=self._sizes.structure), self._sizes.large, way)
        sources = {name: value.name or "" for name, value in self._mini.excerpt.outputs.items()}
        edits = self._edits(laws)
        with unchanged(analysis):
            depth = apply(analysis, edits)
            origins = depth.origins
            excerpt = Excerpt(analysis)
            weights = self._weights(way, laws, numbers, depth.targets)
            shown = [value for value in excerpt.outputs.values() if value.producer() is not None]
            feeds = self._feeds(excerpt, origins, way, laws, quiet)
            proto = excerpt.proto(analysis, weights, shown)
            found = dict(zip(shown, session(proto.SerializeToString()).run(None, feeds), strict=True))
            inside = self._inside_of_grown()
            relations: dict[str, tuple[Relation, bool]] = {}
            for name, value in excerpt.outputs.items():
                origin = origins.get(name, name)
                source = small.get(sources.get(origin, ""))
                if source is not None and value in found and value.producer() not in inside:
                    relation = self._relation(source, value, found[value], way, laws)
                    relations[name] = relation, found[value].shape != source.shape
            return relations

    def _edits(self, laws: Laws) -> list[Edit]:
        """What makes the graph that of the grown miniature."""
        analysis, large = self._analysis, self._sizes.large
        epsilons = epsilon_edits(replace(analysis, structure=self._sizes.structure), large, laws)
        factors = self._mini.factor_edits(large, self._formulas, layers=self._solution.layers)
        counts = {chain.name: _count(analysis, chain.name) for chain in self._structure.chains}
        depths = [
            LayerChange(chain.name, counts[chain.name], counts[chain.name] + self._layers[chain.name] - chain.count)
            for chain in self._structure.chains
        ]
        return [*size_edits(analysis, large), *last_of_each([*epsilons, *factors]), *depths]

    def rounded(self, name: str) -> Relation:
        """How an output of the miniature lies to itself where all weights are rounded otherwise in their last place."""
        value = self._mini.excerpt.outputs.get(name)
        quiet = self._inputs_of_layers()
        found = self._mini.values(self._formulas, quiet), self._mini.shaken(self._formulas, quiet)
        before, after = (values.get("" if value is None else value.name or "") for values in found)
        return Relation() if before is None or after is None else relate(before, after)

    def _inputs_of_layers(self) -> frozenset[str]:
        """Inputs that single layers of deeper chains have (caches): they are left empty, for no layer is another's."""
        ports = {value for value in self._analysis.model.graph.inputs if value.dtype in FLOATS}
        found: set[str] = set()
        for chain, info in zip(self._analysis.chains, self._structure.chains, strict=True):
            read: list[set[ir.Value]] = [
                {v for node in layer.nodes for v in node.inputs if v is not None and v in ports}
                for layer in chain.layers
            ]
            if self._layers[info.name] != info.count:
                found.update(
                    value.name or "" for one in read for value in one if not all(value in other for other in read)
                )
        return frozenset(found)

    def _inside_of_grown(self) -> set[ir.Node]:
        """Nodes of layers of chains whose depth changes, but for the last: which layer they belong to is not fixed."""
        chains = zip(self._analysis.chains, self._structure.chains, strict=True)
        return {
            node
            for chain, info in chains
            if self._layers[info.name] != info.count
            for layer in chain.layers
            for node in layer.nodes
        }

    def _weights(
        self, way: Way, laws: Laws, gains: Mapping[str, float], targets: Mapping[str, tuple[str, ...]]
    ) -> dict[str, Array]:
        contents: dict[str, Array] = {}
        held = self._mini.weights
        originals = {stack.id: stack.tensors[0] for stack in self._structure.stacks}
        tasks = {
            stack.id: build_task(self._structure, stack, self._sizes.large, self._layers, laws)
            for stack in self._structure.stacks
            if any(name in held for name in stack.tensors)
        }
        _check_amount(tasks.values())
        plans = [
            StackPlan(
                tasks[stack.id],
                sources := tuple(name for name in stack.tensors if name in held),
                (*sources, *targets[stack.id][len(stack.tensors) :]),
                "FLOAT",
                stack.closed_form,
                stack.positive,
                gains.get(stack.id, 1.0),
                stack.twin_of if stack.twin_of in tasks else None,
            )
            for stack in self._structure.stacks
            if stack.id in tasks
        ]
        joined = self._structure.qkv if get_method(way.method).joins_qkv(way.options) else ()
        for members in gathered(with_joints(plans, joined)):
            made = resampled(members, way.method, way.seed, way.options, held.__getitem__, np)
            for plan, name, array in by_name(members, made):
                contents[name] = np.asarray(array).astype(held[plan.sources[0]].dtype, copy=False)
        for plan in plans:
            if plan.twin_of is not None:
                contents[plan.targets[0]] = np.ascontiguousarray(contents[originals[plan.twin_of]].T)
        return contents

    def _feeds(
        self, excerpt: Excerpt, origins: Mapping[str, str], way: Way, laws: Laws, quiet: frozenset[str]
    ) -> dict[str, Array]:
        given = self._mini.quieted(quiet)
        feeds: dict[str, Array] = {}
        for value in [*self._analysis.model.graph.inputs, *excerpt.random]:
            name = value.name or ""
            source = given[origins.get(name, name)]
            feeds[name] = self._brought(source, name, self._analysis.context.axes_of(value), way, laws)
        return feeds

    def _relation(self, source: Array, value: ir.Value, array: Array, way: Way, laws: Laws) -> Relation:
        dims = self._analysis.context.axes_of(value)
        if array.shape == source.shape:
            return relate(source, array)
        try:
            return relate(self._brought(source, value.name or "", dims, way, laws), array)
        except ResampleError as error:
            return Relation(difference=str(error))

    def _brought(self, array: Array, name: str, dims: tuple[MaybeDim, ...], way: Way, laws: Laws) -> Array:
        """An array of the small network at the new sizes, by the operator of every axis."""
        if not self._sizes.fits(array, dims):
            return array
        kind = array.dtype
        for axis, dim in enumerate(dims):
            changing = None if dim is None else self._axis(dim, partial(laws.of_output, name))
            if changing is not None and changes(changing):
                matrix = axis_matrix(changing, way.method, way.options, way.seed)
                array = np.moveaxis(np.tensordot(matrix, array, axes=(1, axis)), 0, axis)
        return np.asarray(array, kind, order="C")

    def _axis(self, dim: Dim, law: Callable[[str], Law]) -> Axis:
        """How a dim of the miniature changes."""
        table = self._analysis.context.table
        root = table.find(dim)
        before, after = self._sizes.shape([root])[0], self._sizes.shape([root], large=True)[0]
        ident, composite = self._analysis.ids.get(root, ""), table.composite(root)
        if composite is None:
            return Axis("leaf", before, after, self._role(ident), dim=ident, law=law(ident))
        parts = tuple(self._axis(part, law) for part in composite.parts)
        return regrouped(Axis(composite.kind, before, after, self._role(ident), parts, dim=ident))

    def _role(self, ident: str) -> str:
        known = self._structure.dims.get(ident)
        return "free" if known is None else known.role


def _check_amount(tasks: Iterable[StackTask]) -> None:
    before = after = 0
    for task in tasks:
        before += prod(task.source_shape) * task.layers[0]
        after += prod(task.target_shape) * task.layers[1]
    if after > max(_MOST, _TIMES * before):
        raise ResampleError(f"a miniature would have {after:,} numbers once grown, too many to try it")


def _few_layers(structure: Structure) -> Structure:
    """The structure with as many layers a chain as the miniature has."""
    chains = tuple(
        replace(chain, count=min(chain.count, chain.leading + KEPT_LAYERS)) if chain.resizable is None else chain
        for chain in structure.chains
    )
    return replace(structure, chains=chains)


def _count(analysis: Analysis, name: str) -> int:
    return next(chain.count for chain in analysis.structure.chains if chain.name == name)
