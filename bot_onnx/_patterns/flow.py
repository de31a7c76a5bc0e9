"""A directed graph without cycles whose nodes stand in topological order, and what layers are found by: dominators.

All that is asked of such a graph takes one pass. A library for graphs of any kind takes a tenth of a second to import.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator
from typing import Generic, TypeVar

Node = TypeVar("Node", bound=Hashable)


class Flow(Generic[Node]):
    """Nodes in topological order, and the edges between them, each once.

    Args:
        nodes: every node after all that lead to it.
    """

    __slots__ = ("_after", "_before")

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._before: dict[Node, dict[Node, None]] = {}
        self._after: dict[Node, dict[Node, None]] = {}
        for node in nodes:
            self.add(node)

    def add(self, node: Node) -> None:
        """Add a node behind all others."""
        self._before[node], self._after[node] = {}, {}

    def connect(self, first: Node, second: Node) -> None:
        """Add the edge between two nodes of the graph, if it is not there."""
        self._before[second][first] = None
        self._after[first][second] = None

    def before(self, node: Node) -> Collection[Node]:
        """Nodes that lead to a node directly."""
        return self._before[node]

    def after(self, node: Node) -> Collection[Node]:
        """Nodes that a node leads to directly."""
        return self._after[node]

    def ancestors(self, node: Node) -> set[Node]:
        """All nodes from which there is a way to a node."""
        found: set[Node] = set()
        left = [node]
        while left:
            for one in self._before[left.pop()]:
                if one not in found:
                    found.add(one)
                    left.append(one)
        return found

    def dominators(self, start: Node) -> dict[Node, Node]:
        """Immediate dominator of every node that ``start`` leads to, but for ``start``.

        The one that every way from ``start`` passes last (Cooper, Harvey and Kennedy 2001, "A Simple, Fast Dominance
        Algorithm"): in topological order a single pass gives them all.
        """
        found: dict[Node, Node] = {}
        place = {start: 0}
        for node in self:
            known = [one for one in self._before[node] if one in place]
            if node == start or not known:
                continue
            meeting = known[0]
            for other in known[1:]:
                one = other
                while one != meeting:
                    if place[one] > place[meeting]:
                        one = found[one]
                    else:
                        meeting = found[meeting]
            found[node] = meeting
            place[node] = len(place)
        return found

    def __iter__(self) -> Iterator[Node]:
        """The nodes, in their order."""
        return iter(self._before)

    def __contains__(self, node: object) -> bool:
        """Whether a node is there."""
        return node in self._before
