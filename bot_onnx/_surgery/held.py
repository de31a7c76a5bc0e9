"""Hold a saved plan against what its request makes of the source: what is run must be what was proven.

The edits that are carried out are those of the saved plan. Before that each one is compared with the one that follows
from the source and the request, which is the one that the proof is about. A number that no size demands (a factor, an
epsilon) may be another one where that was asked for; then nothing is promised. Whatever else differs is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from bot_onnx._surgery.edits import Edits, SetFactor
from bot_onnx._surgery.proven import QUANTISED, Fault, Promise
from bot_onnx._surgery.settled import Settled
from bot_onnx._surgery.stored import plan_record
from bot_onnx._surgery.types import Plan
from bot_onnx.errors import PlanError

#: What decides nothing: sentences, names, what a run found out, and figures, which follow from all the rest: of bytes
#: and from the name of the output, of costs and from the shapes that it is run on. Whether weights lie beside the model
#: is a wish that is taken from the plan.
_TOLD = ("source", "notes", "weights_sha256", "device", "size_bytes", "costs", "external")


@dataclass(frozen=True, slots=True)
class Difference:
    """A place at which two records differ; a value that one of them lacks is ``ABSENT``."""

    place: str
    first: Any
    second: Any


ABSENT = "nothing"


def differences(first: Any, second: Any, place: str = "") -> Iterator[Difference]:
    """Where two JSON values differ, in their order.

    Args:
        first, second: the values. place: of both, for the places in them.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys((*first, *second)):
            inner = f"{place}.{key}" if place else str(key)
            yield from differences(first.get(key, ABSENT), second.get(key, ABSENT), inner)
    elif isinstance(first, list) and isinstance(second, list):
        for index in range(max(len(first), len(second))):
            one, other = (values[index] if index < len(values) else ABSENT for values in (first, second))
            yield from differences(one, other, f"{place}[{index}]")
    elif first != second or isinstance(first, bool) != isinstance(second, bool):
        yield Difference(place, first, second)


@dataclass(frozen=True, slots=True)
class Obeyed:
    """The edits of a saved plan, admitted.

    Attributes:
        edits: to carry out.
        changed: numbers that are others than the request makes, in sentences.
    """

    edits: Edits
    changed: tuple[str, ...] = ()

    def of(self, settled: Settled) -> Settled:
        """What is proven and promised of them: nothing, where a number was changed."""
        if not self.changed:
            return settled
        fault = Fault("", "", "", settled.proof.dims, f"the plan was changed: {self.changed[0]}")
        proof = replace(settled.proof, status="failed", fault=fault)
        return replace(settled, proof=proof, promise=Promise(why="a number of the plan was changed"))


def obey(stored: Plan, decided: Edits, *, unproven: bool) -> Obeyed:
    """The edits of a saved plan, held against those that its request makes.

    Args:
        stored: the plan.
        decided: what follows from the source and the request.
        unproven: take numbers that no size demands as the plan has them.

    Raises:
        PlanError: they are others.
    """
    found = Edits(stored.constants, stored.empties, stored.layers)
    if found == decided:
        return Obeyed(found)
    changed: list[str] = []
    for index, (mine, theirs) in enumerate(zip(stored.constants, decided.constants, strict=False)):
        if mine == theirs or not (isinstance(mine, SetFactor) and isinstance(theirs, SetFactor)):
            continue
        place = f"constants[{index}].new ({mine.place})"
        changed.append(f"{place} is {mine.new!r}, and its request makes it {theirs.new!r}")
    if changed and replace(found, constants=_without_factors(found)) == replace(
        decided, constants=_without_factors(decided)
    ):
        if unproven:
            return Obeyed(found, tuple(changed))
        raise PlanError(
            f"the plan was changed: {changed[0]}, which is what was proven; --unproven (in Python: unproven=True) "
            "takes it as it is"
        )
    _refuse_first(stored, replace(stored, constants=decided.constants, empties=decided.empties, layers=decided.layers))
    raise PlanError("the edits of the plan are not those that its request makes of the source: plan anew")


def _without_factors(edits: Edits) -> tuple[Any, ...]:
    return tuple(replace(edit, new=0.0) if isinstance(edit, SetFactor) else edit for edit in edits.constants)


def check_same(stored: Plan, made: Plan, *, changed: bool = False) -> None:
    """Refuse a saved plan that says something else than was planned again from its request.

    Args:
        stored: the plan. made: from its request.
        changed: numbers of it were changed and admitted, so that nothing is proven of it.

    Raises:
        PlanError: names the first place.
    """
    if stored.asked.requantize and stored.promise == QUANTISED:  # what a run says of its result
        stored = replace(stored, promise=made.promise)
    if changed:
        stored = replace(stored, proof=made.proof, promise=made.promise)
    _refuse_first(stored, made)


def _refuse_first(stored: Plan, made: Plan) -> None:
    for one in differences(deciding(stored), deciding(made)):
        raise PlanError(
            f"the plan says {one.first!r:.60} at {one.place}, and its request makes that {one.second!r:.60} of this "
            "source: plan anew with what is wanted"
        )


def deciding(plan: Plan) -> dict[str, Any]:
    """A plan as JSON values, without what decides nothing."""
    record = {key: value for key, value in plan_record(plan).items() if key not in _TOLD}
    del record["asked"]["file_name"]
    for stack in record["stacks"]:
        del stack["offsets"]
    return record
