"""Dominators and ancestors of graphs without cycles are those that networkx finds."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from bot_onnx._patterns.flow import Flow


def random_graph(seed: int, nodes: int, share: float) -> tuple[Flow[int], nx.DiGraph]:
    rng = np.random.default_rng(seed)
    ours, other = Flow(range(nodes)), nx.DiGraph()
    other.add_nodes_from(range(nodes))
    for first in range(nodes):
        for second in range(first + 1, nodes):
            if rng.random() < share:
                ours.connect(first, second)
                ours.connect(first, second)
                other.add_edge(first, second)
    return ours, other


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("share", [0.05, 0.15, 0.5])
def test_as_networkx_finds_them(seed: int, share: float) -> None:
    ours, other = random_graph(seed, 24, share)
    for node in range(24):
        expected = {n: d for n, d in nx.immediate_dominators(other, node).items() if n != node}
        assert ours.dominators(node) == expected
        assert ours.ancestors(node) == nx.ancestors(other, node)
        assert list(ours.before(node)) == sorted(other.predecessors(node))
        assert list(ours.after(node)) == sorted(other.successors(node))


def test_a_skip_is_dominated_by_where_it_starts() -> None:
    flow = Flow(["in", "a", "b", "sum", "out"])
    for edge in (("in", "a"), ("a", "b"), ("a", "sum"), ("b", "sum"), ("sum", "out")):
        flow.connect(*edge)
    assert flow.dominators("in") == {"a": "in", "b": "a", "sum": "a", "out": "sum"}
    assert flow.dominators("b") == {"sum": "b", "out": "sum"}
    assert "other" not in flow and list(flow) == ["in", "a", "b", "sum", "out"]
