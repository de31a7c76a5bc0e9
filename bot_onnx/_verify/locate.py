"""Where two models that should agree part: the first value in graph order that is not what it should be.

Asked only where an output is not what was promised. Both models run again and show their inner values; those that
exist under the same name in both are held against each other, the source's brought to the new size. A value that is
off by a factor alone may be right (queries and keys where head_dim changes, sums over an axis that grew): such a one
is named only where nothing else is found. Along a dim that was given further channels each value goes on in its own
way (zeros, means), so any of them will do; where none does, as inside a norm, the value is not known to be wrong. What
is named is then the stretch up to the first one that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._onnxfile.reader import Source
from bot_onnx._resample.axes import leaves
from bot_onnx._runs.fills import least_fill
from bot_onnx._stack.types import Axis, Law
from bot_onnx._surgery.laws import find_laws
from bot_onnx._surgery.provenance import Axes, Lineage, value_axes
from bot_onnx._verify.carrying import Incomparable
from bot_onnx._verify.comparison import Way, bring
from bot_onnx._verify.descent import Descent
from bot_onnx._verify.outputs import is_float
from bot_onnx._verify.runner import Runner
from bot_onnx._verify.trial import Trial, run_source

#: Inner values that are shown in one run: all of them together may not fit into memory.
_AT_ONCE: Final = 64
#: How much more than an output an inner value may be off: what follows may make up for it (a norm).
_SLACK: Final = 10


def first_difference(
    file: Source, readable: str, reference: Source, against: str, trial: Trial, descent: Descent, wrong: Sequence[str]
) -> str | None:
    """Say which value is the first that differs; None where that cannot be told.

    Args:
        file: the checked model. readable: path that opens its file.
        reference: its source. against: path that opens its file.
        trial: inputs and outputs of the checked model.
        descent: how it came from the source.
        wrong: outputs that are not what was promised.
    """
    if descent.lineage is None or descent.carrier is None:
        return None
    try:
        ways = _ways(analyse(reference.model()), descent, descent.lineage, wrong)
        search = _Search(file.proto.graph, ways, wrong, set(_made(reference.proto.graph)))
        for names in search.batches():
            theirs = run_source(reference, against, trial, descent, show=names)[0][-1]
            runner = Runner(file, readable, mapped=True, show=names)
            try:
                ours = runner.run(trial.feeds[-1])  # masks hide something in these
            finally:
                runner.close()
            for name in names:
                search.look(name, ours[name], theirs[name])
                if search.found is not None:
                    return search.found
        return search.scaled
    except Exception:  # help with a failure must not hide it, whatever a runtime thinks of these graphs
        return None


def _made(graph: onnx.GraphProto) -> Iterator[str]:
    return (name for node in graph.node for name in node.output if name)


def _ways(analysis: Analysis, descent: Descent, lineage: Lineage, wrong: Sequence[str]) -> dict[str, tuple[Way, ...]]:
    """How each value of the source may become the file's.

    Where the depth changed, layers stand elsewhere, all but the first; the norm that ends it may have moved on too.
    """
    changed = [
        c for c, told in zip(analysis.chains, analysis.structure.chains, strict=True) if told.name in lineage.layers
    ]
    moved = {node for chain in changed for layer in chain.layers[1:] for node in layer.nodes}
    moved |= {chain.layers[0].end for chain in changed}
    sizes = {dim.id: lineage.sizes.get(dim.id, dim.size) for dim in analysis.structure.dims.values()}
    widened = frozenset(find_laws(analysis, sizes).widened)
    ways = {
        value.name or "": tuple(
            Way(descent.carrier, axes, 1.0, lineage.tolerance)
            for axes in _in_any_law(value_axes(analysis, value, lineage.sizes), widened)
        )
        for node in analysis.model.graph
        if node not in moved
        for value in node.outputs
    }
    return ways | {name: (descent.way(name),) for name in wrong}


def _in_any_law(axes: Axes, widened: frozenset[str]) -> Iterator[Axes]:
    """Axes as they are, and by the other laws where they have a dim that grows by one of its own."""
    yield axes
    if any(leaf.dim in widened for axis in axes if axis is not None for leaf in leaves(axis)):
        laws: tuple[Law, ...] = ("zeros", "means")
        for law in laws:
            yield tuple(None if axis is None else _by_law(axis, law, widened) for axis in axes)


def _by_law(axis: Axis, law: Law, widened: frozenset[str]) -> Axis:
    parts = tuple(_by_law(part, law, widened) for part in axis.parts)
    return replace(axis, parts=parts, law=law if axis.dim in widened and not parts else axis.law)


class _Search:
    """Goes through the values in graph order.

    Attributes:
        found: the first value that differs in more than a factor, in words.
        scaled: the first one that differs at all.
    """

    def __init__(
        self, graph: onnx.GraphProto, ways: dict[str, tuple[Way, ...]], wrong: Sequence[str], known: set[str]
    ) -> None:
        self.found: str | None = None
        self.scaled: str | None = None
        self._ways, self._wrong = ways, frozenset(wrong)
        self._producers = {name: node for node in graph.node for name in node.output if name}
        constant = {tensor.name for tensor in graph.initializer}
        self._live = {value.name for value in graph.input} - constant
        self._agreed = set(self._live)
        needed = self._ancestors(wrong)
        self._order: list[str] = []
        for node in graph.node:
            if not self._live.isdisjoint(_reads(node)):
                self._live.update(node.output)
                self._order += [name for name in node.output if name in ways and name in needed and name in known]

    def batches(self) -> Iterator[list[str]]:
        """Names to show together."""
        for start in range(0, len(self._order), _AT_ONCE):
            yield self._order[start : start + _AT_ONCE]

    def look(self, name: str, new: Any, source: Any) -> None:
        """Hold one value against the source's."""
        if name in self._wrong:
            self.found = self.scaled or self._words(name)
            return
        if not (is_float(new) and is_float(source)):  # sizes, among others, which differ as they should
            self._agreed.add(name)
            return
        apart = [found for way in self._ways[name] if (found := _apart(new, source, way)) is not None]
        if "no" in apart:
            self._agreed.add(name)
        elif "by a factor" in apart:
            self.scaled = self.scaled or self._words(name)
            self._agreed.add(name)
        elif apart and len(self._ways[name]) == 1:
            self.found = self._words(name)

    def _words(self, name: str) -> str:
        node = self._producers[name]
        told = f"{name!r}, of {node.op_type} (node {node.name!r})"
        unknown = self._unknown_before(name)
        if not unknown:
            return f"the first value that differs is {told}, whose inputs agree"
        first = self._producers[unknown[0]]
        start = f"{unknown[0]!r}, of {first.op_type} (node {first.name!r})"
        return f"the first value that differs lies between {start}, which cannot be compared, and {told}, which differs"

    def _unknown_before(self, name: str) -> list[str]:
        """Values that lead to one, back to those that agree, in graph order."""
        found: set[str] = set()
        pending = [value for value in _reads(self._producers[name])]
        while pending:
            value = pending.pop()
            if value in self._live and value not in self._agreed and value not in found and value in self._producers:
                found.add(value)
                pending += _reads(self._producers[value])
        return [value for value in self._producers if value in found]

    def _ancestors(self, names: Sequence[str]) -> set[str]:
        found: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending += _reads(self._producers[name]) if name in self._producers else []
        return found


def _apart(new: Any, source: Any, way: Way) -> Literal["no", "by a factor", "yes"] | None:
    """How far a value is from the source's; None where the two cannot be compared."""
    try:
        pair = bring(new, source, way)
    except Incomparable:
        return None
    a, b = pair.new.astype(np.float64), pair.source.astype(np.float64)
    limit = _SLACK * (way.tolerance or 0.0)
    if not pair.alike:
        return "yes"
    rest = np.abs(b) < least_fill(b)  # beside what a mask filled in, anything would be close
    a, b = a[rest], b[rest]
    if _close(a, b, limit):
        return "no"
    factor = float((a * b).sum()) / (float((b * b).sum()) or 1.0)
    return "by a factor" if factor > 0 and _close(a, factor * b, limit) else "yes"


def _close(a: NDArray[np.float64], b: NDArray[np.float64], limit: float) -> bool:
    return float(np.abs(a - b).max(initial=0.0)) <= limit * float(np.abs(b).max(initial=0.0))


def _reads(node: onnx.NodeProto) -> list[str]:
    """Values that a node reads, those that its bodies take from outside included."""
    read = [name for name in node.input if name]
    for attribute in node.attribute:
        for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            read += [name for inner in body.node for name in _reads(inner)]
    return read
