"""What a file says of the model it was made from: how its axes changed, what was promised of its outputs.

The metadata entry of a resized file holds it, so that ``verify --against`` can hold outputs against the source's
through the operators that were applied, and knows what must come out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, prod
from typing import Any, Final, get_args

import onnx_ir as ir

from bot_onnx._analysis.passes import Analysis
from bot_onnx._axes.dims import Dim, MaybeDim
from bot_onnx._resample.axes import changes
from bot_onnx._stack.groups import regrouped
from bot_onnx._stack.types import Axis, Law
from bot_onnx._structure import Role
from bot_onnx._surgery.emit import PROVENANCE
from bot_onnx._surgery.laws import Laws
from bot_onnx._surgery.proven import Promise
from bot_onnx._surgery.settled import Settled

#: How far an output that is kept may be from the source's, as a part of the source's largest value, by the coarsest
#: arithmetic of the source. Half precision rounds at 2^-11, bfloat16 at 2^-8, and a network rounds some hundred times
#: in a row. A quantised source is held against in floating point, with the weights that were resized in its stead.
TOLERANCES: Final[Mapping[str, float]] = {"BFLOAT16": 1e-1, "FLOAT16": 2e-2, "QUANTISED": 1e-3, "FLOAT": 1e-4}

#: The same where only tokens went: nothing is computed otherwise than in the source.
CUT: Final = 1e-6

#: Stands for what is set at run time inside a composite axis.
RUNTIME: Final = Axis("leaf", 0, 0, "runtime")

Axes = tuple[Axis | None, ...]  #: per axis of a value how it changes; None where it does not


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a file says of its source.

    Attributes:
        source_sha256: of the source's files.
        method, options, seed, align: of the resampling.
        promise: of its outputs. tolerance: how far they may be off, as a part of the source's largest value.
        quantised: what was resized is the source in floating point.
        inputs, outputs: axes by name, of those that have one that changes.
        partners: name of an input or output -> its name in the source, None where the source has no such thing; those
            of the same name are left out.
        sizes: target size by id of the leaves that change, in the source's analysis.
        layers: names of the chains whose depth changed, or whose layers are others.
        tokens: ids of the source's tokens that stay, by their new ids, where they were named; else empty.
        token_ports: names of the inputs and outputs that hold ids of them.
    """

    source_sha256: str
    method: str
    options: Mapping[str, Any]
    seed: int
    align: str
    promise: Promise
    tolerance: float
    quantised: bool = False
    inputs: Mapping[str, Axes] = field(default_factory=dict)
    outputs: Mapping[str, Axes] = field(default_factory=dict)
    partners: Mapping[str, str | None] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    layers: frozenset[str] = frozenset()
    tokens: tuple[int, ...] = ()
    token_ports: frozenset[str] = frozenset()

    def partner(self, name: str) -> str | None:
        """Name in the source of an input or output."""
        return self.partners.get(name, name)


def tolerance_of(analysis: Analysis, dtypes: Iterable[str], *, cut: bool = False) -> float:
    """How far outputs may be off that are kept.

    Args:
        analysis: of the source.
        dtypes: ONNX names of the types that its weights are stored in.
        cut: tokens go, and the weights of those that stay are the source's own.
    """
    graph = analysis.model.graph
    found = {
        *dtypes,
        *(["QUANTISED"] if analysis.form.scheme is not None else []),
        *(value.dtype.name for value in (*graph.inputs, *graph.outputs) if value.dtype is not None),
    }
    found |= {ir.DataType(node.attributes["to"].as_int()).name for node in graph if node.op_type == "Cast"}
    coarsest = max(tolerance for name, tolerance in TOLERANCES.items() if name in {*found, "FLOAT"})
    return CUT if cut and coarsest == TOLERANCES["FLOAT"] else coarsest


def describe(
    analysis: Analysis,
    settled: Settled,
    partners: Mapping[str, str | None],
    tolerance: float,
    token_ports: Sequence[str] = (),
) -> dict[str, Any]:
    """The entries of the metadata that say how axes changed and what was promised.

    Args:
        analysis: of the source, its graph changed already.
        settled: sizes, laws and promise.
        partners: see :class:`Lineage`.
        tolerance: how far outputs may be off that are kept.
        token_ports: see :class:`Lineage`.
    """
    solution, promise = settled.solution, settled.promise
    graph, structure = analysis.model.graph, analysis.structure
    told: dict[str, Any] = {
        "promise": {
            "kept": promise.kept,
            "why": promise.why,
            "factors": [list(pair) for pair in promise.factors],
            "outputs": None if promise.outputs is None else list(promise.outputs),
            "tolerance": tolerance,
            "quantised": analysis.form.scheme is not None,
        }
    }
    for key, values in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        found = {
            name: tuple(_lawful(axis, name, settled.laws) for axis in value_axes(analysis, value, solution.sizes))
            for value in values
            if (name := value.name or "")
        }
        told[key] = {name: [_to_json(axis) for axis in axes] for name, axes in found.items() if any(axes)}
    told["partners"] = {name: origin for name, origin in partners.items() if name != origin}
    # Where a head was given a dim, ids are not those of the source's own analysis.
    leaves = () if analysis.stored else (dim for dim in structure.dims.values() if not dim.parts)
    told["sizes"] = {dim.id: size for dim in leaves if (size := solution.sizes[dim.id]) != dim.size}
    if solution.tokens:
        told["token_ports"] = list(token_ports)
    told["layers"] = [
        chain.name
        for chain in structure.chains
        if solution.layers[chain.name] != chain.count or chain.name in solution.picks
    ]
    return told


def value_axes(analysis: Analysis, value: ir.Value, sizes: Mapping[str, int]) -> Axes:
    """How the axes of a value change, None for those that do not.

    Args:
        analysis: of the source. value: of its graph.
        sizes: target size by dim id; leaves that are left out stay.
    """
    axes = (_axis(analysis, dim, sizes) for dim in analysis.context.axes_of(value))
    return tuple(axis if axis is not None and changes(axis) else None for axis in axes)


def _lawful(axis: Axis | None, name: str, laws: Laws) -> Axis | None:
    """An axis of the input or output called ``name`` with the law that each of its leaves grows by."""
    if axis is None:
        return None
    parts = tuple(one for part in axis.parts if (one := _lawful(part, name, laws)) is not None)
    return replace(axis, parts=parts, law="even" if parts else laws.of_output(name, axis.dim))


def _axis(analysis: Analysis, dim: MaybeDim, sizes: Mapping[str, int]) -> Axis | None:
    table = analysis.context.table
    if dim is None:
        return None
    composite = table.composite(dim)
    if composite is None:
        return _leaf(analysis, table.find(dim), sizes)
    parts = tuple(axis for part in composite.parts if (axis := _axis(analysis, part, sizes)) is not None)
    root = table.find(dim)
    return regrouped(_composite(composite.kind, parts, _role(analysis, root), analysis.ids.get(root, "")))


def _leaf(analysis: Analysis, dim: Dim, sizes: Mapping[str, int]) -> Axis:
    first, second = analysis.size(dim)
    if first != second:
        return RUNTIME
    identity = analysis.ids.get(dim, "")
    return Axis("leaf", first, sizes.get(identity, first), _role(analysis, dim), dim=identity)


def _role(analysis: Analysis, dim: Dim) -> str:
    known = analysis.structure.dims.get(analysis.ids.get(dim, ""))
    return Role.FREE if known is None else known.role


def _composite(kind: Any, parts: tuple[Axis, ...], role: str, identity: str) -> Axis:
    combine = prod if kind == "product" else sum
    source, target = combine(part.source for part in parts), combine(part.target for part in parts)
    return Axis(kind, source, target, role, parts, dim=identity)


def _to_json(axis: Axis | None) -> dict[str, Any] | None:
    if axis is None:
        return None
    told: dict[str, Any] = {"kind": axis.kind, "role": axis.role, "dim": axis.dim}
    if axis.parts:
        return told | {"parts": [_to_json(part) for part in axis.parts]}
    return told | {"source": axis.source, "target": axis.target, "law": axis.law}


def _from_json(told: Any) -> Axis | None:
    if told is None:
        return None
    kind, role, identity = str(told["kind"]), str(told["role"]), str(told["dim"])
    if kind == "leaf":
        law: Law = told.get("law", "even")
        if law not in get_args(Law):
            raise ValueError(law)
        return Axis("leaf", int(told["source"]), int(told["target"]), role, dim=identity, law=law)
    if kind not in ("product", "concat"):
        raise ValueError(kind)
    parts = tuple(axis for part in told["parts"] if (axis := _from_json(part)) is not None)
    return _composite(kind, parts, role, identity)


def read_lineage(metadata: Mapping[str, str]) -> Lineage | None:
    """What the metadata of a file say of its source; None where they say nothing, or nothing that can be read."""
    try:
        told = read_provenance(metadata)
        promise = told["promise"]
        tolerance = float(promise["tolerance"])
        factors = tuple((str(name), float(factor)) for name, factor in promise["factors"])
        if promise["kept"] not in (True, False, None) or not all(map(isfinite, (tolerance, *dict(factors).values()))):
            return None
        return Lineage(
            source_sha256=str(told["source_sha256"]),
            method=str(told["method"]),
            options=dict(told["options"]),
            seed=int(told["seed"]),
            align=str(told["align"]),
            promise=Promise(promise["kept"], str(promise["why"]), factors, _names(promise.get("outputs"))),
            tolerance=tolerance,
            quantised=bool(promise["quantised"]),
            inputs=_ports(told["inputs"]),
            outputs=_ports(told["outputs"]),
            partners={str(name): None if other is None else str(other) for name, other in told["partners"].items()},
            sizes={str(identity): int(size) for identity, size in told["sizes"].items()},
            layers=frozenset(map(str, told["layers"])),
            tokens=_tokens(told.get("spec")),
            token_ports=frozenset(map(str, told.get("token_ports", ()))),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError):
        return None


def _tokens(spec: Any) -> tuple[int, ...]:
    """Ids of the tokens that stay, of a spec that names them."""
    told = spec.get("vocab") if isinstance(spec, dict) else None
    return tuple(map(int, told["keep"])) if isinstance(told, dict) else ()


def read_provenance(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What the metadata of a file say of how it was made; empty where that is nothing, or no JSON object."""
    try:
        told = json.loads(metadata[PROVENANCE])
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _names(told: Any) -> tuple[str, ...] | None:
    return None if told is None else tuple(map(str, told))


def _ports(told: Mapping[str, Sequence[Any]]) -> dict[str, Axes]:
    return {str(name): tuple(map(_from_json, axes)) for name, axes in told.items()}


def unpromised(provenance: Mapping[str, Any], why: str) -> dict[str, Any]:
    """The metadata of a file whose weights are not those of the resize any more: nothing is promised of its outputs."""
    changed = dict(provenance)
    if isinstance(changed.get("promise"), dict):
        changed["promise"] = {**changed["promise"], "kept": None, "why": why, "factors": [], "outputs": None}
    return changed
