"""Blocks: chains folded, equal nodes folded, roles named; drawings that keep their places."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import bot_onnx
from bot_onnx._page.blocks import GROUPS, Block, blocks_of
from bot_onnx._page.drawing import INNER, LEFT, boxes, points
from bot_onnx._page.fitted import Found
from bot_onnx._page.rows import paired
from bot_onnx._page.told import told_of
from bot_onnx._structure import Role
from tests import pages
from tests.graphs import GraphBuilder, save


def blocks(name: str, folder: Path) -> tuple[Block, ...]:
    return blocks_of(bot_onnx.inspect(save(pages.NETWORKS[name](), folder)).structure)


def test_a_chain_is_one_block_between_its_stem_and_its_head(tmp_path: Path) -> None:
    found = blocks("bert", tmp_path)
    assert [block.kind for block in found][:1] == ["port"] and found[-1].kind == "port"
    (place,) = (n for n, block in enumerate(found) if block.kind == "layers")
    layers = found[place]
    assert layers.times == 3 and {"hidden", "heads", "head_dim", "intermediate"} <= {c.role for c in layers.chips}
    assert {chip.text for chip in layers.chips} >= {"hidden 32", "heads 4", "intermediate 96"}
    assert all(block.kind == "nodes" for block in (*found[1:place], *found[place + 1 : -1]))
    assert (
        sum(block.parameters * block.times for block in found)
        == bot_onnx.inspect(tmp_path / "model.onnx").structure.parameters
    )


def test_equal_blocks_that_follow_one_another_are_folded(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("Conv", "x", b.weight(8, 3, 3, 3), pads=[1, 1, 1, 1])
    for _ in range(60):
        x = b.op("Sigmoid", x)
    b.op("Gemm", b.op("Flatten", b.op("GlobalAveragePool", x)), b.weight(8, 4))
    model = b.model([("x", ["batch", 3, 8, 8])], [b.nodes[-1].output[0]])
    found = blocks_of(bot_onnx.inspect(save(model, tmp_path)).structure)
    assert [block.kind for block in found] == ["port", "nodes", "nodes", "port"]
    assert "60 Sigmoid" in found[1].ops


def test_every_role_has_a_colour_and_a_name() -> None:
    roles = [role for _, named in GROUPS.values() for role in named]
    assert sorted(roles) == sorted(Role)


@pytest.mark.parametrize("name", ["bert", "cnn", "tied decoder"])
def test_boxes_stand_below_one_another_and_hold_their_chips(name: str, tmp_path: Path) -> None:
    placed, height = boxes(blocks(name, tmp_path))
    for box, below in pairwise(placed):
        assert box.y + box.height < below.y
    for box in placed:
        assert box.y + box.height <= height
        for chip in box.chips:
            assert chip.x > LEFT and chip.x + chip.width <= LEFT + INNER
            assert box.y < chip.y and chip.y + 20 <= box.y + box.height


def test_numbers_of_a_fit_do_not_cover_one_another() -> None:
    found = [Found(str(n), 1000 + n, 1, 1, 0.3 + n / 1000, None) for n in range(5)]
    placed, across, up = points(found)
    rows = sorted(point.label_y for point in placed)
    assert all(low + 12 <= high for low, high in pairwise(rows))
    assert [tick.text for tick in up] == ["0 %", "25 %", "50 %", "75 %", "100 %"] and len(across) >= 3
    assert points([replace(found[0], size_bytes=0)])[0]


@pytest.mark.parametrize(
    "metadata", [{}, {"bot_onnx": "no json"}, {"bot_onnx": "[1]"}, {"bot_onnx": '{"proof": 3, "spec": []}'}]
)
def test_what_a_file_does_not_say_is_not_known(metadata: dict[str, str]) -> None:
    told = told_of(metadata, None)
    assert all(line.startswith("not known") for line in told.values())


def test_stacks_of_another_form_are_no_pairs(tmp_path: Path) -> None:
    one = bot_onnx.inspect(save(pages.bert(), tmp_path)).structure
    other = bot_onnx.inspect(save(pages.decoder(), tmp_path, "other.onnx")).structure
    assert paired(None, one) == {} == paired(one, other)
    assert {ident: stack.id for ident, stack in paired(one, one).items()} == {s.id: s.id for s in one.stacks}
