"""The tables of a page as rows of texts: costs part by part, weights stack by stack, dims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bot_onnx._costs import OUTSIDE, Cost, Costs
from bot_onnx._costs.sizing import bytes_of
from bot_onnx._page.blocks import Chip, chip, leaf_chips
from bot_onnx._page.types import Content, Facts
from bot_onnx._report.dims import composition, fixed_reason
from bot_onnx._report.units import arrow, change, count, seconds, size
from bot_onnx._structure import Stack, Structure


@dataclass(frozen=True, slots=True)
class Row:
    """A row: cells in order, and the dims of the thing as chips, where it has any."""

    cells: tuple[str, ...]
    chips: tuple[Chip, ...] = ()


def summary(content: Content) -> list[tuple[str, str]]:
    """What one wants to know first, by label."""
    model, source = content.model, content.source
    costs, old = model.costs, None if source is None else source.costs
    weights = "weights, as floats" if model.quantised else "weights"
    facts = [
        ("file", _before(size(model.size_bytes), None if source is None else size(source.size_bytes))),
        ("parameters", _exact(count, costs.parameters, None if old is None else old.parameters)),
        (weights, _exact(size, costs.weight_bytes, None if old is None else old.weight_bytes)),
        ("MACs", _exact(count, costs.macs, None if old is None else old.macs)),
        ("layers", _layers(content)),
    ]
    if model.seconds is not None:
        past = None if source is None or source.seconds is None else seconds(source.seconds)
        threads = f"{content.threads} thread{'s' if content.threads > 1 else ''}"
        facts.append((f"latency ({threads})", _before(seconds(model.seconds), past)))
    return facts


def _layers(content: Content) -> str:
    """Depths of the chains; a chain stands with its name where there are several."""
    chains = content.model.structure.chains
    past = {} if content.source is None else {one.name: one.count for one in content.source.structure.chains}
    told = [(one.name, arrow(past.get(one.name, one.count), one.count)) for one in chains]
    return ", ".join(depth if len(told) == 1 else f"{name} {depth}" for name, depth in told) or "none"


def _before(now: str, past: str | None) -> str:
    return now if past is None else arrow(past, now)


def _exact(form: Callable[[int], str], now: int, past: int | None) -> str:
    if past is None:
        return f"{form(now)} ({now:,})"
    return f"{arrow(form(past), form(now))} ({change(past, now)})"


def file_facts(facts: Facts) -> list[tuple[str, str]]:
    """What the file is."""
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in facts.costs.inputs.items())
    ports = [(f"{kind} {name}", shape) for kind, name, shape in facts.ports]
    return [
        ("opset", str(facts.opset)),
        ("producer", facts.producer or "not known: the file does not say"),
        *ports,
        ("MACs counted at", shapes or "no inputs"),
        ("nodes", f"{facts.structure.nodes:,}"),
        ("SHA-256", facts.sha256),
    ]


def part_rows(content: Content) -> list[Row]:
    """What every chain, a layer of it, and the rest costs; with a source, before and after."""
    old = None if content.source is None else content.source.costs
    past = {} if old is None else {part.name: part for part in old.parts}
    rows = []
    for part in content.model.costs.parts:
        before = past.get(part.name) if old is not None else None
        rows.append(Row((part.name, *_costs(part, before))))
        if part.layers:
            rows.append(Row((f"{part.name}: one layer, on average", *_each(part, before))))
    return rows


def _costs(part: Cost, before: Cost | None) -> tuple[str, ...]:
    was = before or part
    return (
        "" if part.name == OUTSIDE else arrow(was.layers, part.layers),
        arrow(count(was.parameters), count(part.parameters)),
        arrow(size(was.weight_bytes), size(part.weight_bytes)),
        arrow(count(was.macs), count(part.macs)),
    )


def _each(part: Cost, before: Cost | None) -> tuple[str, ...]:
    def of(cost: Cost) -> tuple[str, str, str]:
        share = max(cost.layers, 1)
        numbers = (round(n / share) for n in (cost.parameters, cost.weight_bytes, cost.macs))
        parameters, stored, macs = numbers
        return count(parameters), size(stored), count(macs)

    pairs = zip(of(before or part), of(part), strict=True)
    return ("", *(arrow(was, now) for was, now in pairs))


def paired(before: Structure | None, after: Structure) -> dict[str, Stack]:
    """The source's stack by id of a stack of the resized model; empty where they are not of one form.

    A resize keeps the graph, so its stacks come in the same order; what is of another form was made in another way.
    """
    if before is None or len(before.stacks) != len(after.stacks):
        return {}
    forms = [[(s.chain, s.kind, s.directions, s.dtype, s.shared) for s in one.stacks] for one in (before, after)]
    return dict(zip((s.id for s in after.stacks), before.stacks, strict=True)) if forms[0] == forms[1] else {}


def stack_rows(content: Content) -> list[Row]:
    """The weights, stack by stack: of a chain, the tensors of its layers together."""
    structure = content.model.structure
    old = None if content.source is None else content.source.structure
    pairs = paired(old, structure)
    rows = []
    for stack in structure.stacks:
        before = pairs.get(stack.id, stack if old is None else None)
        cells = (
            stack.name,
            stack.chain or OUTSIDE,
            stack.kind,
            _change(before, stack, lambda one: str(len(one.tensors))),
            _change(before, stack, lambda one: " x ".join(map(str, one.shape)) or "scalar"),
            _change(before, stack, lambda one: count(elements(one))),
            _change(before, stack, lambda one: size(bytes_of(one.dtype, elements(one)))),
        )
        kept = () if old is None else (_kept(content, stack, before),)
        rows.append(Row((*cells, *kept), leaf_chips(structure, stack.axes)))
    return rows


def elements(stack: Stack) -> int:
    """Numbers in all tensors of a stack."""
    single = 1
    for extent in stack.shape:
        single *= extent
    return single * len(stack.tensors)


def _change(before: Stack | None, after: Stack, said: Callable[[Stack], str]) -> str:
    return f"not known -> {said(after)}" if before is None else arrow(said(before), said(after))


def _kept(content: Content, stack: Stack, before: Stack | None) -> str:
    if before is None:
        return "not known"
    if before.shape == stack.shape:
        return "100 %" if content.told_from_source else "not known"
    share = content.kept.get(before.id)
    return "not measured" if share is None else f"{share * 100:.1f} %"


def dim_rows(structure: Structure) -> list[Row]:
    """The dims: what they are, how large, and why they stay where they do."""
    return [
        Row(
            (
                dim.id,
                f"{dim.size:,}",
                composition(dim, structure.dims),
                ", ".join(dim.outputs),
                fixed_reason(dim, structure.dims) or "yes",
            ),
            (chip(dim),),
        )
        for dim in structure.dims.values()
    ]


def notes(content: Content) -> Sequence[str]:
    """What the analysis has to say, once each."""
    costs: Costs = content.model.costs
    missing = f"Not counted as MACs, for the shapes around them are not known: {', '.join(costs.uncounted)}."
    own = [*content.model.structure.notes, *([missing] if costs.uncounted else [])]
    return list(dict.fromkeys(own))
