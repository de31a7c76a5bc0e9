"""Leaves inside composite axes: orders, selections, places, pieces, sizes."""

from __future__ import annotations

import numpy as np
import pytest

from bot_onnx._align.axes import LeafOrder, axis_order, indices, ordered, outer_leaves, positions, ranges, resized
from bot_onnx._structure import Dim, Stack, Structure

LEAVES = {
    "h": (3, "heads"),
    "v": (4, "v_head_dim"),
    "q": (2, "head_dim"),
    "n": (5, "intermediate"),
    "c": (3, "count"),
    "one": (1, "free"),
}
COMPOSITES = {
    "hv": ("product", ("h", "v")),
    "hq": ("product", ("h", "q")),
    "qkv": ("concat", ("hq", "hq", "hv")),
    "cc": ("product", ("c", "h")),
    "chv": ("product", ("cc", "v")),
    "1c": ("concat", ("one", "c")),
    "1chv": ("product", ("1c", "h", "v")),
    "half": ("concat", ("q", "q")),
    "hhalf": ("product", ("h", "half")),
}


@pytest.fixture(scope="module")
def structure() -> Structure:
    dims = {
        name: Dim(name, name, size, "leaf", (), role, None, ()) for name, (size, role) in LEAVES.items()
    }  # fmt: skip
    for name, (kind, parts) in COMPOSITES.items():
        sizes = [dims[part].size for part in parts]
        size = int(np.prod(sizes)) if kind == "product" else sum(sizes)
        dims[name] = Dim(name, name, size, kind, parts, "free", None, ())  # type: ignore[arg-type]
    stack = Stack("s0", "w", "layers", ("w0",), "FLOAT", ("n", "qkv"), (5, 24), "matrix", ("in", "out"))
    return Structure(dims, (), (stack,))


def test_untouched_axes_have_no_order(structure: Structure) -> None:
    assert axis_order(structure, "hv", {"n": LeafOrder(np.arange(5))}) is None


def test_a_product_orders_its_factor(structure: Structure) -> None:
    order = np.array([2, 0, 1])
    grid = np.arange(12).reshape(3, 4)
    assert axis_order(structure, "hv", {"h": LeafOrder(order)}).tolist() == grid[order].ravel().tolist()  # type: ignore[union-attr]
    inner = np.array([3, 1, 0, 2])
    assert axis_order(structure, "hv", {"v": LeafOrder(inner)}).tolist() == grid[:, inner].ravel().tolist()  # type: ignore[union-attr]


def test_an_inner_order_follows_the_source_index_of_its_head(structure: Structure) -> None:
    heads = np.array([1, 2, 0])
    tables = np.stack([np.roll(np.arange(4), k) for k in range(3)])
    found = axis_order(structure, "hv", {"h": LeafOrder(heads), "v": LeafOrder(tables, given="h")})
    assert found is not None
    assert found.tolist() == [int(h * 4 + tables[h, p]) for h in heads for p in range(4)]


def test_an_order_needs_its_outer_leaf(structure: Structure) -> None:
    with pytest.raises(KeyError):
        axis_order(structure, "half", {"q": LeafOrder(np.zeros((3, 2), dtype=np.intp), given="h")})


def test_a_concat_is_ordered_part_by_part(structure: Structure) -> None:
    heads = LeafOrder(np.array([2, 1, 0]))
    found = axis_order(structure, "qkv", {"h": heads})
    assert found is not None
    q = [4, 5, 2, 3, 0, 1]
    v = [8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3]
    assert found.tolist() == q + [6 + i for i in q] + [12 + i for i in v]


def test_both_halves_move_alike(structure: Structure) -> None:
    found = axis_order(structure, "hhalf", {"q": LeafOrder(np.array([1, 0]))})
    assert found is not None
    assert found.tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10]


def test_a_selection_shortens_the_axis(structure: Structure) -> None:
    array = np.arange(5 * 24.0).reshape(5, 24)
    kept = {"h": LeafOrder(np.array([0, 2])), "n": LeafOrder(np.array([1, 3, 4]))}
    taken = ordered(structure, structure.stacks[0], array, kept)
    assert taken.shape == (3, 16)
    assert taken[0, :4].tolist() == array[1, [0, 1, 4, 5]].tolist()


def test_positions_find_a_leaf_in_every_part(structure: Structure) -> None:
    runs = list(positions(structure, "qkv", ("h",)))
    assert [run.tolist() for run in runs[:2]] == [[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]]
    assert runs[2].tolist() == (12 + np.arange(12).reshape(3, 4)).tolist()
    (only,) = positions(structure, "qkv", ("h", "v"))
    assert only.ravel().tolist() == list(range(12, 24))
    assert len(list(positions(structure, "qkv", ("h",), frozenset({"v"})))) == 2


def test_pieces_of_fused_axes(structure: Structure) -> None:
    assert ranges(structure, "qkv") == [slice(0, 6), slice(6, 12), slice(12, 24)]
    assert ranges(structure, "chv") == [slice(0, 12), slice(12, 24), slice(24, 36)]
    assert ranges(structure, "1chv") == [slice(start, start + 12) for start in range(0, 48, 12)]
    assert ranges(structure, "hv") == [slice(0, 12)]


def test_pieces_of_axes_taken_together(structure: Structure) -> None:
    assert ranges(structure, "c", "h", "v") == ranges(structure, "chv")
    assert ranges(structure, "h", "v") == [slice(0, 12)]
    assert ranges(structure, "qkv", "n") == [slice(0, 30), slice(30, 60), slice(60, 120)]


def test_indices_along_axes_taken_together(structure: Structure) -> None:
    assert indices(structure, ("h", "v"), ("h",)).tolist() == indices(structure, ("hv",), ("h",)).tolist()
    assert indices(structure, ("v", "h"), ("h",)).tolist() == [0, 1, 2] * 4
    assert indices(structure, ("v", "h"), ("h", "v")).tolist() == np.arange(12).reshape(3, 4).T.ravel().tolist()
    assert indices(structure, ("qkv",), ("v",)).tolist() == [-1] * 12 + [0, 1, 2, 3] * 3


def test_outer_leaves(structure: Structure) -> None:
    assert outer_leaves(structure, "qkv", "q") == [{"h"}, {"h"}]
    assert outer_leaves(structure, "hhalf", "q") == [{"h"}, {"h"}]
    assert outer_leaves(structure, "half", "q") == [set(), set()]


def test_composites_and_shapes_follow_their_leaves(structure: Structure) -> None:
    small = resized(structure, {"h": 2, "n": 4})
    assert small.dims["qkv"].size == 16
    assert small.stacks[0].shape == (4, 16)
    assert structure.dims["qkv"].size == 24
