"""The tables of a plan: what ``--dry-run`` prints before any weight is read."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from bot_onnx._report.costs_report import changes_table
from bot_onnx._report.layout import cell, facts, plural, table
from bot_onnx._report.units import arrow, change, count, number, size
from bot_onnx._shards import External, Shards
from bot_onnx._stack.types import Axis
from bot_onnx._structure import Role
from bot_onnx._surgery.edits import LayerChange
from bot_onnx._surgery.proven import Promise, Proof
from bot_onnx._surgery.types import Plan, StackPlan


def plan_report(plan: Plan) -> Group:
    """Everything that would be done, as one renderable."""
    return Group(
        _header(plan),
        "",
        changes(plan),
        *(["", changes_table(*plan.costs)] if plan.costs is not None else []),
        *(["", _constants(plan)] if plan.constants else []),
        "",
        _stacks(plan),
        "",
        cell(f"proof: {proof_text(plan.proof)}"),
        cell(f"function: {promise_text(plan.promise)}"),
        *(cell(f"note: {note}") for note in plan.notes),
    )


def proof_text(proof: Proof) -> str:
    """What was proven, in a sentence or two."""
    kept = "".join(f" Kept at its size, since the proof fails for it: {one}." for one in proof.kept)
    if proof.left_out:
        kept += f" Not proven for {', '.join(proof.left_out)}: which of their channels belong together is not followed."
    if proof.status == "nothing to prove":
        nothing = "nothing else changes" if proof.left_out else "no dim changes, so there is nothing to prove"
        return f"{nothing}.{kept}"
    if proof.fault is not None:
        place = f" at {proof.fault.op} (node '{proof.fault.node or proof.fault.value}')" if proof.fault.op else ""
        return f"FAILED for {', '.join(proof.fault.dims)}{place}: {proof.fault.difference}.{kept}"
    followed = "".join(f" The constant at {one.value} follows its dim as {one.formula}." for one in proof.formulas[:3])
    more = f" So do {len(proof.formulas) - 3} others." if len(proof.formulas) > 3 else ""
    return (
        f"grown by duplication, a miniature of {plural(proof.nodes, 'node')} computes copies in all of "
        f"{plural(proof.values, 'value')} ({proof.seconds:.2f} s).{followed}{more}{kept}"
    )


def method_text(plan: Plan) -> str:
    """The method with its options, as one writes them."""
    options = ", ".join(f"{key}={_option(value)}" for key, value in plan.options.items() if value is not None)
    aligned = "" if plan.align == "none" else f", aligned: {plan.align}"
    return f"{plan.method}{f' ({options})' if options else ''}{aligned}, seed {plan.seed}"


def promise_text(promise: Promise) -> str:
    """What the outputs are to the source's, in a line."""
    state = {True: "kept: the source's, at the new sizes", False: "not kept, as planned", None: "nothing is promised"}
    factors = ", ".join(f"{name} times {factor:g}" for name, factor in promise.factors)
    told = state[promise.kept] + (f": {promise.why}" if promise.why and not promise.kept else "")
    told += f"; it would be with {promise.way}" if promise.way else ""
    return f"{told} ({factors})" if promise.kept and factors else told


def _option(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _header(plan: Plan) -> RenderableType:
    return facts(
        {
            "source": plan.source,
            "spec": plan.name or None,
            "method": method_text(plan),
            "outputs": promise_text(plan.promise),
            "weights": _weights(plan.external),
        }
    )


def _weights(external: External) -> str:
    if isinstance(external, Shards):
        return f"in files of at most {size(external.limit)} beside the model"
    return "in a file beside the model" if external else "inside the model file"


def changes(plan: Plan, *, seconds: str | None = None) -> RenderableType:
    """The table of what changes: layers, dims, parameters, bytes; and the time it took, if given."""
    made = table("Changes", ["what", "before>", "after>", "change>"])
    for layer in plan.layers:
        if layer.source != layer.target or layer.kept or len(plan.layers) == 1:
            _row(made, f"layers: {layer.chain}{_kept(layer)}", layer.source, layer.target)
    changed = [dim for dim in plan.dims if dim.source != dim.target]
    for dim in changed:
        _row(made, f"{dim.name} ({dim.id})", dim.source, dim.target)
    before, after = plan.parameters
    made.add_section()
    made.add_row("parameters", count(before), count(after), change(before, after))
    if plan.costs is not None:
        source, target = (costs.macs for costs in plan.costs)
        made.add_row("MACs", count(source), count(target), change(source, target))
    before, after = plan.size_bytes
    made.add_row("file", size(before), size(after), change(before, after))
    if seconds is not None:
        made.add_row("time", "", seconds, "")
    same = len(plan.dims) - len(changed)
    made.caption = f"{plural(same, 'other dim')} unchanged" if same else None
    made.caption_justify = "left"
    return made


def _kept(layer: LayerChange) -> str:
    """Which layers stay, where that was chosen: runs of them written as ``0-3``."""
    runs: list[list[int]] = []
    for place in layer.kept:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    told = (f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return f" (source's {', '.join(told)})" if runs else ""


def _row(made: Table, what: str, before: int, after: int) -> None:
    made.add_row(cell(what), str(before), str(after), change(before, after))


def _constants(plan: Plan) -> RenderableType:
    """One row for all the places that change alike: every layer has its own copy of a shape."""
    alike: dict[tuple[float, float, str], list[str]] = {}
    for patch in plan.constants:
        alike.setdefault((patch.old, patch.new, patch.reason), []).append(patch.place)
    made = table("Constants of the graph", ["first place", "places>", "before>", "after>", "because"])
    for (old, new, reason), places in alike.items():
        made.add_row(cell(places[0]), str(len(places)), number(old, 6), number(new, 6), cell(reason))
    return made


def _stacks(plan: Plan) -> RenderableType:
    made = table("Stacks", ["id!", "name", "layers>", "axes", "dtype!", "how"])
    for stack in plan.stacks:
        task = stack.task
        made.add_row(
            task.stack,
            cell(task.name),
            arrow(*task.layers),
            cell(", ".join(map(axis_text, task.axes)) or "scalar"),
            stack.dtype,
            cell(_how(stack)),
        )
    return made


def _how(stack: StackPlan) -> str:
    if stack.closed_form is not None:
        return f"recomputed: {stack.closed_form}"
    if stack.twin_of is not None:
        return f"transpose of {stack.twin_of}"
    task = stack.task
    same = task.layers[0] == task.layers[1] and all(axis_same(axis) for axis in task.axes)
    if stack.refitted:
        return "refitted" if same else "refitted, resampled"
    return "kept" if same else "resampled"


def axis_same(axis: Axis) -> bool:
    """Whether no part of the axis changes size (two parts may change and their product stay)."""
    return axis.source == axis.target and all(axis_same(part) for part in axis.parts)


def axis_text(axis: Axis) -> str:
    """How an axis changes: ``hidden 64 -> 32``, ``(heads 4 -> 2 x head_dim 16)``."""
    # A size of 1 that stays has no meaning worth a word.
    role = "" if axis.role == Role.FREE or axis.source == axis.target == 1 else f"{axis.role} "
    if axis.parts and not axis_same(axis):
        sign = " x " if axis.kind == "product" else " + "
        return f"({sign.join(map(axis_text, axis.parts))})"
    return f"{role}{arrow(axis.source, axis.target)}"
