"""Which law every dim grows by, what its tensors need for it, and what the graph's constants do.

Where a dim that a norm is taken over grows by no whole multiple, copies of its channels would come in different
numbers, and the norm would see another mean and spread. It is then given further channels instead, if the graph allows
that (:mod:`bot_onnx._surgery.widening`). All other dims grow evenly: see :mod:`bot_onnx._resample.growth`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod, sqrt

import onnx_ir as ir

from bot_onnx._analysis.passes import Analysis
from bot_onnx._axes.dims import Dim as DimId
from bot_onnx._ops import IN_ORDER, passes_on
from bot_onnx._patterns.closed_forms import SCALES, as_copies, factor_alike, treats_alike
from bot_onnx._patterns.frequencies import is_assumed
from bot_onnx._patterns.parameters import parameter_behind
from bot_onnx._patterns.residual import norms_before
from bot_onnx._stack.types import Law
from bot_onnx._structure import Dim, Role, Stack, Structure
from bot_onnx._surgery.edits import SetFactor
from bot_onnx._surgery.proven import Proof
from bot_onnx._surgery.scales import factor_of, set_factor
from bot_onnx._surgery.widening import Widening, find_widening, normalised_dims
from bot_onnx.errors import said


@dataclass(frozen=True, slots=True)
class Laws:
    """How dims grow, for the work orders.

    Attributes:
        widened: facts of every dim that grows by a law of its own, by id.
        notes: what is kept nearly, or not, and why, in sentences.
        gains: factors of tensors, by name: of norms over further channels √(n/m), and of what makes up for factors
            of the stream that follow its size.
    """

    widened: Mapping[str, Widening] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    gains: Mapping[str, float] = field(default_factory=dict)

    def of(self, stack: Stack, identity: str) -> Law:
        """The law of one dim on the tensors of a stack.

        A norm's scale goes on in its mean, so that what is read behind it can learn; its bias in 0, unless what the
        norm gives is a stream itself.
        """
        widening = self.widened.get(identity)
        if widening is None or widening.law is None:
            return "even"
        if not widening.scales.isdisjoint(stack.tensors):
            return "means"
        if not widening.biases.isdisjoint(stack.tensors):
            return "zeros" if widening.kept.isdisjoint(stack.tensors) else "means"
        return widening.law

    def of_output(self, name: str, identity: str) -> Law:
        """The law of one dim on an output of the graph."""
        widening = self.widened.get(identity)
        if widening is None or widening.law is None:
            return "even"
        return "zeros" if name in widening.shown else widening.law

    def gain(self, stack: Stack) -> float:
        """Factor of the values of a stack, see :attr:`bot_onnx._stack.types.StackTask.gain`."""
        found = {self.gains.get(name, 1.0) for name in stack.tensors}
        return found.pop() if len(found) == 1 else 1.0


def find_laws(analysis: Analysis, sizes: Mapping[str, int]) -> Laws:
    """Decide how the dims of ``analysis`` grow, before a resize changes the graph."""
    structure = analysis.structure
    widened: dict[str, Widening] = {}
    notes: list[str] = []
    gains: dict[str, float] = {}
    candidates = normalised_dims(analysis)
    for dim in structure.dims.values():
        new = sizes[dim.id]
        bare = _bare_head(structure, dim.id) if new > dim.size else ""
        if new <= dim.size or dim.id not in candidates or (new % dim.size == 0 and not bare):
            if bare:
                notes.append(_of_bare_head(dim, new, bare))
            continue
        widening = find_widening(analysis, dim.id)
        if not (widening.law and widening.exact):
            if new % dim.size == 0:
                notes.append(_of_bare_head(dim, new, bare))
                continue
            if dim.role != Role.HIDDEN:
                widening = replace(widening, law=None)
        if widening.law is not None:
            widened[dim.id] = widening
            gains.update(dict.fromkeys(widening.scales, sqrt(dim.size / new)))
        if widening.reason is not None:
            # Copies in different numbers give a norm another mean and spread: how far off that is, nothing here says.
            how = (
                "by copies of its channels in different numbers, which does not keep the function exactly"
                if widening.law is None
                else "by further channels, which keeps the function nearly, not exactly"
            )
            notes.append(
                f"{dim.name} grows from {dim.size} to {new} {how}: {said(widening.reason)}; a whole multiple of "
                f"{dim.size} keeps it."
            )
    for name, gain, note in _scaled(analysis, sizes):
        gains[name] = gains.get(name, 1.0) * gain
        notes += [note] if note else []
    notes += _formulas(structure, sizes)
    return Laws(widened, tuple(notes), gains)


def untaken(structure: Structure, proof: Proof, sizes: Mapping[str, int]) -> list[str]:
    """Factors that an op leaves with the size of a dim that shrinks, in sentences: no weight takes them there.

    A network that is trained at the new size computes with them just so, if none of its constants should follow.
    """
    shrinking = {ident for ident, dim in structure.dims.items() if sizes[ident] < dim.size}
    found: dict[str, None] = {}
    for gain in proof.gains:
        names = [structure.dims[ident].name for ident in gain.dims if ident in shrinking]
        if gain.stack and names:
            ratio = prod(sizes[ident] / structure.dims[ident].size for ident in gain.dims) ** -gain.exponent
            found[
                f"{gain.value!r} becomes {ratio:.4g} times as large with {', '.join(names)}, and no constant that is "
                "known to follow that stands before it; if one should follow, say how under 'constants'."
            ] = None
    return list(found)


def nearly(analysis: Analysis, sizes: Mapping[str, int]) -> list[str]:
    """What a variance over n - 1 numbers becomes where there are more of them, in sentences, one a dim."""
    found: dict[DimId, str] = {}
    for count in analysis.counts:
        before, after = analysis.size(count.dim)[0], analysis.new_size(count.dim, dict(sizes))[0]
        number = as_copies(count.formula, before, after)
        if after > before and number != 1.0:
            found.setdefault(
                count.dim,
                f"{count.node.op_type} (node '{count.node.name}') counts {before} less one, and {after} less one from "
                f"then on: it gives {1 / number:.4g} times as much, which keeps the function nearly, not exactly.",
            )
    return list(found.values())


def _bare_head(structure: Structure, identity: str) -> str:
    """The embedding along a dim that is tied to a head without a norm before it."""
    bare = {head.embedding for head in structure.tied_heads if not head.norm}
    return next((s.tensors[0] for s in structure.stacks if identity in s.axes and s.tensors[0] in bare), "")


def _of_bare_head(dim: Dim, new: int, table: str) -> str:
    return (
        f"{dim.name} grows from {dim.size} to {new}, and the head that is tied to '{table}' sums over it with no norm "
        f"before it that could make up for that: its results grow {new / dim.size:g} times as large."
    )


def _scaled(analysis: Analysis, sizes: Mapping[str, int]) -> Iterator[tuple[str, float, str]]:
    """Weights that make up for factors of the stream that follow hidden: (name, gain, note).

    An embedding that is multiplied with √n is divided by what the factor gains, a norm before a factor too. Where the
    embedding is the head's weight as well, the norm before the head takes the gain back.
    """
    for scale in analysis.scales:
        identity = analysis.ids.get(scale.dim)
        if identity is None or analysis.structure.dims[identity].role != Role.HIDDEN or scale.formula not in SCALES:
            continue
        size = analysis.structure.dims[identity].size
        if scale.counts or scale.sums:
            continue
        own = analysis.context.table.size(scale.dim)[0]  # that of the number; a miniature's is another
        before, after = (factor_alike(scale.formula, scale.scalar.value, own, n) for n in (size, sizes[identity]))
        gain = before / after
        node = scale.scalar.node
        if node.op_type == "Div":
            gain = 1.0 / gain
        if sizes[identity] <= size:
            continue
        table = _looked_up(node)
        names = {table} if table else norms_before([node])
        if not names:
            where = f"{node.op_type} (node '{node.name}')"
            yield "", 1.0, f"{where} scales by {scale.formula} of hidden, and no weight makes up for that."
        for name in sorted(names):
            yield name, gain, ""
        for name in {name for head in analysis.structure.tied_heads if head.embedding == table for name in head.norm}:
            yield name, 1.0 / gain, ""


def _looked_up(node: ir.Node) -> str:
    """Name of the table that a factor scales rows of, or nothing."""
    value = next((v for v in node.inputs if v is not None and v.const_value is None), None)
    while value is not None and (made := value.producer()) is not None:
        if made.op_type == "Gather":
            weight = parameter_behind(made.inputs[0])
            return (weight.name or "") if weight is not None else ""
        if not passes_on(made, IN_ORDER):
            return ""
        value = made.inputs[0]
    return ""


def _formulas(structure: Structure, sizes: Mapping[str, int]) -> list[str]:
    """Tables that are computed again where a dim grows: they say something else there. And any by a base assumed."""
    notes: dict[str, str] = {}
    for stack in structure.stacks:
        form = (stack.closed_form or "").partition(":")[0]
        if not form or treats_alike(form) or form in ("arange", "tril"):
            continue
        for identity in stack.axes:
            for leaf in _leaves(structure, identity) if identity is not None else ():
                if sizes[leaf.id] != leaf.size and is_assumed(stack.closed_form or ""):
                    notes.setdefault(f"base {leaf.id}", _assumed(stack, leaf))
                if sizes[leaf.id] > leaf.size and leaf.role not in (Role.POSITIONS, Role.TOKENS):
                    notes.setdefault(
                        leaf.id,
                        f"{stack.name} follows a formula ({form}) of {leaf.name}, which grows from {leaf.size} to "
                        f"{sizes[leaf.id]}: its values are those of the new size, and the function is not kept.",
                    )
    return list(notes.values())


def _assumed(stack: Stack, leaf: Dim) -> str:
    base = float((stack.closed_form or "").partition(":")[2])
    return (
        f"{stack.name} is taken for powers of {base:.6g}, which is no round number: that they go on with this base at "
        f"another size of {leaf.name} is assumed, and a base that was itself made for {leaf.size} would be another one."
    )


def _leaves(structure: Structure, identity: str) -> Iterator[Dim]:
    dim = structure.dims[identity]
    if not dim.parts:
        yield dim
    for part in dim.parts:
        yield from _leaves(structure, part)


EPSILON = 1e-5  #: of a norm that says none


def epsilon_edits(analysis: Analysis, sizes: Mapping[str, int], laws: Laws) -> list[SetFactor]:
    """What brings the epsilons of norms over further channels to n/m of what they are."""
    edits: list[SetFactor] = []
    for identity, widening in laws.widened.items():
        dim = analysis.structure.dims[identity]
        for epsilon in widening.epsilons:
            number = factor_of(epsilon.node, epsilon.slot, EPSILON) * dim.size / sizes[identity]
            reason = f"epsilon over {dim.size} of {sizes[identity]} channels"
            edits.append(set_factor(epsilon.node, epsilon.slot, number, reason, EPSILON))
    return edits
