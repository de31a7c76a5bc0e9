"""Where two models that should agree part: the first value in graph order that is not what it should be.

Asked only where an output is not what was promised. Both models run again and show their inner values; those that
exist under the same name in both are held against each other, the source's brought to the new size. A value that is
off by a factor alone may be right (queries and keys where head_dim changes, sums over an axis that grew): such a one
is named only where nothing else is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from bot_onnx.graph.analysis import Analysis, analyse
from bot_onnx.graph.reader import Source
from bot_onnx.surgery.lineage import Lineage, value_axes
from bot_onnx.verify.carrying import Incomparable
from bot_onnx.verify.comparison import Way, bring
from bot_onnx.verify.descent import Descent
from bot_onnx.verify.outputs import is_float
from bot_onnx.verify.runner import Runner
from bot_onnx.verify.trial import Trial, run_source

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
            theirs = run_source(reference, against, trial, descent, show=names)[0]
            runner = Runner(file, readable, mapped=True, show=names)
            try:
                ours = runner.run(trial.feeds[0])
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


def _ways(analysis: Analysis, descent: Descent, lineage: Lineage, wrong: Sequence[str]) -> dict[str, Way]:
    """How each value of the source becomes the file's.

    Where the depth changed, layers stand elsewhere, all but the first; the norm that ends it may have moved on too.
    """
    changed = [
        c for c, told in zip(analysis.chains, analysis.structure.chains, strict=True) if told.name in lineage.layers
    ]
    moved = {node for chain in changed for layer in chain.layers[1:] for node in layer.nodes}
    moved |= {chain.layers[0].end for chain in changed}
    ways = {
        value.name or "": Way(descent.carrier, value_axes(analysis, value, lineage.sizes), 1.0, lineage.tolerance)
        for node in analysis.model.graph
        if node not in moved
        for value in node.outputs
    }
    return ways | {name: descent.way(name) for name in wrong}


class _Search:
    """Goes through the values in graph order.

    Attributes:
        found: the first value that differs in more than a factor, in words.
        scaled: the first one that differs at all.
    """

    def __init__(self, graph: onnx.GraphProto, ways: dict[str, Way], wrong: Sequence[str], known: set[str]) -> None:
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
            return
        try:
            pair = bring(new, source, self._ways[name])
        except Incomparable:
            return
        a, b = pair.new.astype(np.float64), pair.source.astype(np.float64)
        limit = _SLACK * (self._ways[name].tolerance or 0.0)
        if pair.alike and _close(a, b, limit):
            self._agreed.add(name)
            return
        self.scaled = self.scaled or self._words(name)
        factor = float((a * b).sum()) / (float((b * b).sum()) or 1.0)
        if pair.alike and factor > 0 and _close(a, factor * b, limit):
            self._agreed.add(name)
            return
        self.found = self._words(name)

    def _words(self, name: str) -> str:
        node = self._producers[name]
        read = [value for value in _reads(node) if value in self._live]
        told = ", whose inputs agree" if read and all(value in self._agreed for value in read) else ""
        return f"the first value that differs is {name!r}, of {node.op_type} (node {node.name!r}){told}"

    def _ancestors(self, names: Sequence[str]) -> set[str]:
        found: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending += _reads(self._producers[name]) if name in self._producers else []
        return found


def _close(a: NDArray[np.float64], b: NDArray[np.float64], limit: float) -> bool:
    return float(np.abs(a - b).max(initial=0.0)) <= limit * float(np.abs(b).max(initial=0.0))


def _reads(node: onnx.NodeProto) -> list[str]:
    """Values that a node reads, those that its bodies take from outside included."""
    read = [name for name in node.input if name]
    for attribute in node.attribute:
        for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            read += [name for inner in body.node for name in _reads(inner)]
    return read
