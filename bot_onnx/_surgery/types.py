"""The Plan: everything that a resize will do, as plain frozen data. ``--dry-run`` prints it, a file stores it.

What a plan changes are edits: of the graph (:mod:`bot_onnx._surgery.edits`, which ``surgery.apply`` carries out) and of
the tensors (a :class:`StackPlan` each, which ``surgery.execute`` carries out).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bot_onnx import _html
from bot_onnx._costs import Costs
from bot_onnx._shards import External
from bot_onnx._stack.types import StackTask
from bot_onnx._structure import Role, Structure
from bot_onnx._surgery.edits import Edit, LayerChange, NumberEdit, ReshapeEmpty
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

    @classmethod
    def of(cls, structure: Structure, sizes: Mapping[str, int]) -> tuple[DimChange, ...]:
        """Those of all dims of a source, whose new sizes are given by id."""
        return tuple(cls(d.id, d.name, d.role, d.kind, d.size, sizes[d.id]) for d in structure.dims.values())


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
        joint: ids of the stacks that are resampled with this one as one matrix, itself among them; empty: it is alone.
        refitted: the sources make up for units that go, before anything else is done to them.
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
    joint: tuple[str, ...] = ()
    refitted: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, as far as a plan does not say it elsewhere: all that follows from the source and this.

    Attributes:
        spec: the target, with the keys of a spec file.
        align: the alignment that was asked for; None: as the method likes it.
        calibration_sha256: of the samples that the alignment, the choice of layers, or what makes up for what goes
            looks at; or None.
        unproven: go on where the proof fails.
        requantize: quantise the result as the source is.
        inputs: what the models ran on was given as arrays. input_shapes: shapes that were given, by input.
        file_name: of the output that sizes and offsets are of.
        learned: the training of the operators: its settings, and the hash of its data; None: they are not trained.
    """

    spec: dict[str, Any] = field(default_factory=dict)
    align: Literal["none", "permute", "select", "rotate", "auto"] | None = None
    calibration_sha256: str | None = None
    unproven: bool = False
    requantize: bool = False
    inputs: bool = False
    input_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    file_name: str = field(default="model.onnx", compare=False)
    learned: dict[str, Any] | None = None

    @property
    def tokens(self) -> tuple[int, ...]:
        """Ids of the source's tokens that stay, where the target names them; else empty."""
        told = self.spec.get("vocab")
        return tuple(told["keep"]) if isinstance(told, dict) else ()


#: Of what a saved plan holds, and how it says it.
FORMAT = 1


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
        external: whether the weights go to a file beside the model; if to several, their largest size.
        proof: that the sizes make a network of the same kind. promise: of the outputs.
        asked: what was asked for.
        source_sha256: of the source's files. version: of bot-onnx.
        empties: tensors without elements that change their shapes.
        two_heads: the one key and value head that all share was read as two (:mod:`bot_onnx._surgery.more_heads`), so
            that dims, stacks and constants are those of that graph.
        computed: what the execution works out of the source's weights instead of finding it here: the operators of an
            alignment. They follow from the source and the plan.
        weights_sha256: of the tensors that a run made by this plan, on ``device``; None: there was none yet.
        format: of this record.

    Two plans are equal where the same is done by them: what a run found out, and the name of its output, do not count.
    """

    source: str
    name: str
    method: str
    options: dict[str, Any]
    seed: int
    align: str
    dims: tuple[DimChange, ...]
    layers: tuple[LayerChange, ...]
    constants: tuple[NumberEdit, ...]
    stacks: tuple[StackPlan, ...]
    notes: tuple[str, ...]
    parameters: tuple[int, int]
    size_bytes: tuple[int, int]
    external: External
    costs: tuple[Costs, Costs] | None = None
    proof: Proof = UNTRIED
    promise: Promise = UNKNOWN
    asked: Asked = Asked()
    source_sha256: str = ""
    version: str = ""
    empties: tuple[ReshapeEmpty, ...] = ()
    two_heads: bool = False
    computed: tuple[str, ...] = ()
    weights_sha256: str | None = field(default=None, compare=False)
    device: str | None = field(default=None, compare=False)
    format: int = FORMAT

    @property
    def edits(self) -> tuple[Edit, ...]:
        """What changes in the graph, in the order in which it is done."""
        return (*self.constants, *self.empties, *self.layers)

    @property
    def source_tokens(self) -> int:
        """Number of the source's tokens, where the target names those that stay; else 0."""
        kept = len(self.asked.tokens)
        return max(
            (dim.source for dim in self.dims if kept and (dim.role, dim.target) == (Role.VOCAB, kept)), default=0
        )

    def to_json(self, *, indent: int | None = 2) -> str:
        """The plan as JSON, the same every time: without the time that the proof took."""
        from bot_onnx._surgery.stored import write_plan  # it reads and writes this class

        return write_plan(self, indent)

    @classmethod
    def from_json(cls, text: str, where: str = "plan") -> Plan:
        """The plan that :meth:`to_json` wrote.

        Args:
            text: JSON.
            where: the file, for messages.

        Raises:
            PlanError: it is no plan, or one that is damaged.
        """
        from bot_onnx._surgery.stored import read_plan

        return read_plan(text, where)

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
