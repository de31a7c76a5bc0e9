"""From the comparison of outputs to a verdict: passed, failed, or nothing that could do either."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bot_onnx._surgery.proven import Promise
from bot_onnx._verify.trial import Compared
from bot_onnx._verify.types import Check, OutputComparison

_NAME = "comparison"
_SHOWN = 3


def judge(compared: Compared, promise: Promise | None, locate: Callable[[Sequence[str]], str | None]) -> Check:
    """The check ``comparison``: ``pass`` only where every output is what was promised.

    Args:
        compared: the outputs.
        promise: of the file; None: it says nothing of the model that it was compared with.
        locate: says where the outputs given by name part from the source's.
    """
    if compared.skipped is not None:
        return Check(_NAME, "skip", compared.skipped)
    shown = sorted(compared.outputs, key=lambda entry: entry.cosine is None)[:_SHOWN]  # floats say more
    left_out = [f"not compared: {reason}" for reason in (*compared.faults, *compared.left_out)[:_SHOWN]]
    if promise is None or not promise.kept:
        told = _without_promise(promise)
        return Check(_NAME, "info", "; ".join([told, *map(_closeness, shown), *left_out]))
    held = [entry for entry in compared.outputs if entry.agrees is not None]
    shown = [entry for entry in shown if entry.agrees is not None]
    wrong = [entry for entry in held if not entry.agrees]
    if wrong or compared.faults:
        place = locate([entry.output for entry in wrong]) if wrong else None
        faults = [f"output {reason}" for reason in compared.faults[:_SHOWN]]
        detail = [*map(_fault, wrong[:_SHOWN]), *faults, *([place] if place else [])]
        return Check(_NAME, "fail", "; ".join(detail))
    if left_out or not held:
        return Check(_NAME, "info", "; ".join([*map(_agreement, shown), *left_out]))
    more = len(held) - _SHOWN
    told = "; ".join(map(_agreement, shown)) + (f"; and {more} more" if more > 0 else "")
    return Check(_NAME, "pass", told)


def _without_promise(promise: Promise | None) -> str:
    if promise is None:
        return "no promise known: the file does not say how it was made from this model"
    state = "nothing is promised of the outputs" if promise.kept is None else "not kept, as planned"
    return f"{state}: {promise.why}" if promise.why else state


def _closeness(entry: OutputComparison) -> str:
    if entry.cosine is None:
        return f"{entry.output} max difference {_number(entry.max_difference)}"
    divergence = "" if entry.divergence is None else f", KL {entry.divergence:.4g} nats"
    return f"{entry.output} cosine {entry.cosine:.4f}{divergence}"


def _agreement(entry: OutputComparison) -> str:
    if entry.cosine is None:
        return f"{entry.output} equal"
    return f"{entry.output} within {_part(entry)} of its scale ({entry.tolerance:g} allowed)"


def _fault(entry: OutputComparison) -> str:
    if not entry.nonfinite_alike:
        return f"output {entry.output!r} is NaN or infinite elsewhere than the source's"
    if entry.cosine is None:
        return f"output {entry.output!r} is not the source's in {entry.differing} elements"
    return (
        f"output {entry.output!r} is off by {_part(entry)} of its scale in {entry.differing} elements, "
        f"{entry.tolerance:g} is allowed"
    )


def _part(entry: OutputComparison) -> str:
    """The largest difference as a part of the source's largest value."""
    if not entry.max_difference:
        return "0"
    return f"{entry.max_difference / entry.scale:.2g}" if entry.scale else "more than all"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
