"""The study of real checkpoints: what its page says of what was found, and how files are shown to a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.exporter


def real(tmp_path: Path) -> Any:
    from benchmarks.real.network import Real

    return Real(
        "toy", "a toy", tmp_path / "toy.onnx", "About it.", {"width": 0.5}, None, tmp_path / "x.npz", {}, (),
        tmp_path / "s.npz", {}, {"label": lambda model: 0.0},
    )  # fmt: skip


def test_the_page_has_a_row_a_way_and_what_was_not_run_is_no_number(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.real.page import Shown, write_page
    from benchmarks.real.study import Found

    def found(way: str, steps: int, quality: float, minutes: float | None = None) -> list[Found]:
        return [
            Found(way, steps, seed, packed, 4.0 if not packed else 1.0, 2.0, {"label": quality + seed / 50}, minutes)
            for seed in (0, 1)
            for packed in (False, True)
        ]

    rows = [*found("source", 0, 1.0), *found("bot", 0, 0.4), *found("bot", 200, 0.9, 3.0), *found("random", 0, 0.1)]
    page = tmp_path / "real.md"
    run = {"machine": "a machine", "commit": "abc1234", "date": "2026-01-01"}
    write_page({"toy": Shown.of(real(tmp_path), rows, command="run it", **run)}, page)
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    assert lines[0] == "|  | MB | ms | label, 0 steps | label, 200 steps | minutes |"
    assert (
        lines[2]
        == "| bot | 4.0 / 1.0 | 2.0 / 2.0 | 0.410 ± 0.010 / 0.410 ± 0.010 | 0.910 ± 0.010 / 0.910 ± 0.010 | 3.0 |"
    )
    assert lines[3].endswith("| 0.110 ± 0.010 / 0.110 ± 0.010 | - | - |")
    assert page.with_suffix(".png").stat().st_size > 1000

    write_page({"other": Shown.of(real(tmp_path), rows[:4], command="run another", **run)}, page)
    both = page.read_text()
    assert all(line in both for line in lines), "what another run has found stays"
    assert both.index("run it") < both.index("run another") and both.count("at commit abc1234") == 2
    write_page({"toy": Shown.of(real(tmp_path), rows[:4], command="run it again", **run)}, page)
    assert "200 steps" not in page.read_text(), "the last run of a network stands alone"


def test_an_aim_is_reached_by_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.real import page
    from benchmarks.real.study import Found

    monkeypatch.setattr(page, "_draw", lambda *_: None)
    aims = [("toy", "bot", 200, False, "label", 0.7), ("toy", "bot", None, True, "label", 0.7)]
    monkeypatch.setattr(page, "AIMS", (*aims, ("toy", "bot", 3000, False, "label", 0.1), ("other", *aims[0][1:])))
    rows = [
        Found("bot", steps, seed, packed, 1.0, 1.0, {"label": quality})
        for steps, seed, packed, quality in [
            (200, 0, False, 0.6),
            (200, 1, False, 0.9),
            (200, 0, True, 0.8),
            (700, 0, True, 0.65),
            (700, 0, False, 0.1),
        ]
    ]
    run = {"command": "run it", "machine": "a machine", "commit": "abc1234", "date": "2026-01-01"}
    page.write_page({"toy": page.Shown.of(real(tmp_path), rows, **run)}, tmp_path / "real.md")
    lines = [line for line in (tmp_path / "real.md").read_text().splitlines() if line.endswith("reached |")]
    assert lines == [
        "| a toy, label, 200 steps | 0.7 | 0.750 ± 0.150 | reached |",
        "| a toy, label, 700 steps, int8 | 0.7 | 0.650 | not reached |",
    ]


def test_a_short_file_is_filled_between_its_ends() -> None:
    from benchmarks.real.models import MAGIKA_BYTES, MAGIKA_PAD, _features

    row = _features(b"  abc", b"xyz\n")
    assert row[:4].tolist() == [97, 98, 99, MAGIKA_PAD] and row[-4:].tolist() == [MAGIKA_PAD, 120, 121, 122]
    assert len(row) == MAGIKA_BYTES and np.count_nonzero(row != MAGIKA_PAD) == 6


def test_letters_are_counted_by_edits() -> None:
    from benchmarks.real.models import _letters

    assert _letters(["abc", "x"], ["abc", "x"]) == 1
    assert _letters(["abd", ""], ["abc", "x"]) == pytest.approx(1 - 2 / 4)  # one other, one missing
    assert _letters(["xabc"], ["abc"]) == pytest.approx(1 - 1 / 3)  # one too many


def test_printed_lines_are_what_the_network_takes() -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.real.models import OCR_HEIGHT, OCR_WIDTH, _printed

    images = _printed(["a word", "another one"])
    assert images.shape == (2, 3, OCR_HEIGHT, OCR_WIDTH) and images.dtype == np.float32
    assert np.abs(images).max() < 1.5 and images[0].std() > 0.1
    assert (images[0, :, :, -4:] == 0).all()  # a short line ends before the paper does
    assert np.array_equal(images, _printed(["a word", "another one"]))


def test_a_training_is_known_by_its_start_wherever_that_came_from(tmp_path: Path) -> None:
    import onnx

    from benchmarks.real.study import _digest
    from tests.graphs import GraphBuilder, save

    def digest(scale: float, source: str) -> str:
        builder = GraphBuilder(0)
        model = builder.model([("x", ["batch", 4])], [builder.op("MatMul", "x", builder.weight(4, 4))], rank=2)
        weight = onnx.numpy_helper.to_array(model.graph.initializer[0]) * np.float32(scale)
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, model.graph.initializer[0].name))
        model.metadata_props.add(key="source", value=source)
        model.graph.node[0].metadata_props.add(key="trace", value=source)
        return _digest(save(model, tmp_path), data, "200 steps")

    data = tmp_path / "data.txt"
    data.write_text("lines")
    assert digest(1, "here") == digest(1, "there") != digest(2, "here")


def test_longer_trainings_are_of_the_first_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.real import study

    ran: list[tuple[str, int, int]] = []

    def measured(_study: Any, name: str, steps: int, seed: int, _model: Path, _minutes: float | None) -> list[Any]:
        ran.append((name, steps, seed))
        return []

    monkeypatch.setattr(study.Study, "_measured", measured)
    monkeypatch.setattr(study.Study, "_start", lambda *_: tmp_path / "start.onnx")
    monkeypatch.setattr(study.Study, "_recovered", lambda *_: (tmp_path / "end.onnx", 1.0))
    monkeypatch.setattr(study, "milliseconds", lambda *_: {})
    list(study.Study(real(tmp_path), tmp_path, print).run(["bot", "random"], [0, 20], {"bot": [70]}, 2))
    assert ran[0] == ("source", 0, 0)
    assert ran[1:] == [
        *(("bot", steps, 0) for steps in (0, 20, 70)), *(("bot", steps, 1) for steps in (0, 20)),
        *(("random", steps, seed) for seed in (0, 1) for steps in (0, 20)),
    ]  # fmt: skip


def test_a_choice_is_made_as_it_says_and_leaves_the_turn_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bot_onnx
    from benchmarks.real.choices import CHOICES, Choice, measured
    from benchmarks.real.models import MODELS
    from bot_onnx._align import rotate

    ours, made = rotate.outliers, []

    def resize(_source: Path, spec: Any, output: Path, **options: Any) -> None:
        made.append((spec, options["calibration"], rotate.outliers is ours))
        output.write_bytes(b"made")

    monkeypatch.setattr(bot_onnx, "resize", resize)
    network = real(tmp_path)
    assert measured(network, Choice("one", {"hidden": 8}, seen=False), tmp_path) == {"label": 0.0}
    measured(network, Choice("other", {"layers": 2}, seen=True, pinned=False), tmp_path)
    assert made == [({"hidden": 8}, None, True), ({"layers": 2}, network.samples, False)]
    assert rotate.outliers is ours and set(CHOICES) <= set(MODELS)
