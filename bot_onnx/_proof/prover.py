"""Prove a plan: grow the miniature by duplication, and where a value parts from its copies, look for what explains it.

Rules propose which dims change together; this decides. A difference that is one factor is explained by a constant that
is a formula of the dim (1/n behind a sum), or by weights that would take the factor; a hypothesis is kept only if the
proof holds further with it. What stays unexplained names its node and its dims.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType

import onnx_ir as ir

from bot_onnx._analysis.passes import Analysis
from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._proof.hypotheses import hypotheses
from bot_onnx._proof.miniature import Miniature, Relations, Repairs
from bot_onnx._proof.sizes import SmallSizes, small_sizes
from bot_onnx._surgery.proven import Fault, Proof

_TRIALS = 100  #: hypotheses tried for one difference
_LARGE = 20_000_000  #: weights of a network that is no miniature of itself
_REPAIRS = 12  #: differences explained, at most
_NONE = Repairs()
#: Miniatures to try while none runs: few indices, as many where the source has as many, no negative weights, the
#: source's own sizes.
_ATTEMPTS: tuple[dict[str, bool], ...] = ({}, {"alike": True}, {"positive": True}, {"whole": True})


def prove(
    analysis: Analysis, targets: Mapping[str, int], given: Mapping[str, str | float] = MappingProxyType({})
) -> Proven:
    """Prove that the sizes of a plan make a network of the same kind.

    Args:
        analysis: of the source; its graph is as it was afterwards.
        targets: size per dim id in the plan.
        given: formulas (or numbers) for constants by node name, from the spec.

    Returns:
        What was proven; a failure is a ``fault``.
    """
    started = time.perf_counter()
    sizes = small_sizes(analysis.structure, targets)
    names = _names(analysis, sizes.grown)
    failure: Exception | None = None
    for attempt in _ATTEMPTS:
        try:
            whole, alike = attempt.get("whole", False), attempt.get("alike", False)
            if whole and analysis.structure.parameters > _LARGE:
                break
            sizes = small_sizes(analysis.structure, targets, whole=whole, alike=alike)
            miniature = Miniature(analysis, sizes, given, positive=attempt.get("positive", False))
            proof = _Prover(miniature).run() if sizes.grown else Proof("nothing to prove")
        except Exception as error:  # ours, and onnxruntime's, which have no public base class
            failure = failure or error
            continue
        seconds = time.perf_counter() - started
        left_out = _names(analysis, sizes.shuffled)
        return Proven(replace(proof, dims=names, left_out=left_out, seconds=seconds), miniature)
    fault = Fault("", "", "", names, f"no miniature of it runs: {one_line(failure)}")
    proof = Proof("failed" if names else "nothing to prove", names, fault=fault if names else None)
    return Proven(replace(proof, seconds=time.perf_counter() - started), None)


@dataclass(frozen=True, slots=True)
class Proven:
    """A proof with the miniature that it was made on; None where none runs."""

    proof: Proof
    miniature: Miniature | None


class _Prover:
    def __init__(self, miniature: Miniature) -> None:
        self._mini = miniature
        self._sizes: SmallSizes = miniature.sizes
        self._place = {value.name or "": place for place, value in enumerate(miniature.watched)}
        self._shown = {value.name or "" for value in miniature.excerpt.outputs.values()}

    def run(self) -> Proof:
        ratios = self._sizes.ratios()
        repairs = _NONE
        relations = self._mini.trial(ratios, repairs)
        for _ in range(_REPAIRS):
            value = self._first(relations)
            better = None if value is None else self._repair(value, relations, repairs, ratios)
            if better is None:
                break
            repairs, relations = better
        value = self._first(relations, strict=True)
        compared = [relation for relation in relations.values() if relation.factor is not None]
        return Proof(
            "proven" if value is None else "failed",
            values=len(compared),
            nodes=len(self._mini.excerpt.nodes),
            formulas=repairs.formulas,
            gains=repairs.gains,
            fault=None if value is None else self._fault(value, relations, repairs),
        )

    def _first(self, relations: Relations, *, strict: bool = False) -> ir.Value | None:
        """The first value that is no multiple of its copies; without ``strict``, also an output that is another one."""
        for value in self._mini.watched[: len(relations)]:
            relation = relations[value.name or ""]
            if relation.difference or (relation.odd and not strict and value.name in self._shown):
                return value
        return None

    def _repair(
        self, value: ir.Value, relations: Relations, repairs: Repairs, ratios: Mapping[str, int]
    ) -> tuple[Repairs, Relations] | None:
        """The first hypothesis with which the proof holds further, at these ratios and at others."""
        upto = self._place[value.name or ""] + 1  # what comes later is computed only if all holds until then
        for better in islice(hypotheses(self._mini, value, relations, repairs, ratios), _TRIALS):
            trials = (self._mini.trial(each, better, upto) for each in (ratios, self._sizes.ratios(1)))
            if all(self._first(found) is None for found in trials):
                return better, self._mini.trial(ratios, better)
        return None

    def _fault(self, value: ir.Value, relations: Relations, repairs: Repairs) -> Fault:
        """Name the node and the dims that by themselves already fail."""
        grown, upto = self._sizes.grown, self._place[value.name or ""] + 1
        alone = self._alone(grown, repairs, upto) or self._alone(grown, repairs, None)
        node = value.producer()
        assert node is not None
        return Fault(
            node.name or "",
            node.op_type,
            value.name or "",
            _names(self._mini.analysis, tuple(alone or self._sizes.grown)),
            relations[value.name or ""].difference,
        )

    def _alone(self, idents: tuple[str, ...], repairs: Repairs, first: int | None) -> list[str]:
        """The dims that by themselves already fail, of some that fail together: looked for half by half."""
        ratios, half = self._sizes.ratios(), len(idents) // 2
        if not self._fails({ident: ratios[ident] for ident in idents}, repairs, first):
            return []
        if not half:
            return list(idents)
        return [*self._alone(idents[:half], repairs, first), *self._alone(idents[half:], repairs, first)]

    def _fails(self, ratios: Mapping[str, int], repairs: Repairs, first: int | None) -> bool:
        try:
            return self._first(self._mini.trial(ratios, repairs, first), strict=True) is not None
        except Exception:  # onnxruntime's errors have no public base class
            return True


def _names(analysis: Analysis, idents: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(analysis.structure.dims[ident].name for ident in idents)
