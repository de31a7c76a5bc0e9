"""The Plan: everything that a resize will do, as plain frozen data. ``--dry-run`` prints it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from bot_onnx import _html
from bot_onnx._costs import Costs
from bot_onnx._stack.types import StackTask
from bot_onnx._surgery.proven import UNKNOWN, UNTRIED, Promise, Proof


@dataclass(frozen=True, slots=True)
class DimChange:
    """Size of one dim before and after (equal where it stays)."""

    id: str
    name: str
    role: str
    kind: str
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class LayerChange:
    """Depth of one chain before and after; ``leading`` of its layers are unlike the others and stay.

    ``kept`` says which layer of the source every layer is, where that was chosen; it is empty where the method says so.
    """

    chain: str
    source: int
    target: int
    leading: int = 0
    kept: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ConstantPatch:
    """One number of the graph that changes: where it stands, what it was, what it becomes, and why."""

    place: str
    old: float
    new: float
    reason: str


@dataclass(frozen=True, slots=True)
class StackPlan:
    """What happens to one stack.

    Attributes:
        task: how its axes change and what they mean.
        sources: tensors read, in layer order. targets: tensors written, in layer order.
        dtype: ONNX data type name of both.
        positive: what the method gives is kept at or above the smallest value of the sources.
        gain: factor of what the method gives: what these weights take so that the function stays.
        closed_form: formula that the tensor is recomputed from, or None.
        twin_of: stack whose result, transposed, this one is, or None.
        offsets: byte offset of every target in the file that holds it.
    """

    task: StackTask
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    dtype: str
    closed_form: str | None = None
    positive: bool = False
    gain: float = 1.0
    twin_of: str | None = None
    offsets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """A whole resize, before any weight is read.

    Attributes:
        source: path of the source model. name: name of the spec, or empty.
        method, options, seed: of the resampling.
        align: how the source's tensors are aligned before: ``none``, ``permute``, ``select`` or ``rotate``.
        dims, layers, constants, stacks: what changes.
        notes: what was derived, and why, in sentences.
        parameters: number of weights before and after.
        size_bytes: size of the file (weights included) before and after.
        costs: parameters, bytes of weights and multiply-accumulates before and after, chain by chain.
        external: whether the weights go to a file beside the model.
        proof: that the sizes make a network of the same kind. promise: of the outputs.
    """

    source: str
    name: str
    method: str
    options: dict[str, Any]
    seed: int
    align: str
    dims: tuple[DimChange, ...]
    layers: tuple[LayerChange, ...]
    constants: tuple[ConstantPatch, ...]
    stacks: tuple[StackPlan, ...]
    notes: tuple[str, ...]
    parameters: tuple[int, int]
    size_bytes: tuple[int, int]
    external: bool
    costs: tuple[Costs, Costs] | None = None
    proof: Proof = UNTRIED
    promise: Promise = UNKNOWN

    def to_json(self, *, indent: int | None = 2) -> str:
        """The plan as JSON, the same every time: without the time that the proof took."""
        plain = asdict(self)
        del plain["proof"]["seconds"]
        return json.dumps(plain, indent=indent)

    def __repr__(self) -> str:
        """What becomes of what, in a line."""
        layers = (f"{layer.chain} {layer.source} -> {layer.target}" for layer in self._layers())
        dims = (f"{dim.name} {dim.source} -> {dim.target}" for dim in self._dims())
        before, after = self.parameters
        changes = ", ".join((*layers, *dims)) or "nothing changes"
        return f"<Plan for {self.source} by {self.method}: {changes}; {before:,} -> {after:,} parameters>"

    def _repr_html_(self) -> str:
        kept = {True: "kept", False: "not kept, as planned", None: "nothing is promised"}[self.promise.kept]
        facts = {"source": self.source, "method": self.method, "align": self.align, "seed": self.seed,
                 "proof": self.proof.status, "function": f"{kept} {self.promise.why}".strip()}  # fmt: skip
        rows = [(f"layers: {layer.chain}", layer.source, layer.target) for layer in self._layers()]
        rows += [(dim.name, dim.source, dim.target) for dim in self._dims()]
        rows += [("parameters", *self.parameters), ("bytes", *self.size_bytes)]
        return _html.block(
            _html.facts("Plan", facts),
            _html.table("Changes", ("what", "before", "after"), rows),
            *(_html.facts("", {"note": note}) for note in self.notes),
        )

    def _layers(self) -> list[LayerChange]:
        return [layer for layer in self.layers if layer.source != layer.target]

    def _dims(self) -> list[DimChange]:
        return [dim for dim in self.dims if dim.source != dim.target]
