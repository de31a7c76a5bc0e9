"""The one command for a CUDA device, without one: its book, its pages, what it does where there is none."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper, numpy_helper

from benchmarks.gpu import bandwidth
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.book import Book, Section, run_sections
from benchmarks.gpu.commands import largest_difference
from benchmarks.gpu.page import MARK, measured, write_page
from benchmarks.gpu.rows import add_row, read_rows
from benchmarks.gpu.sections import SECTIONS, rows_of_tests, transfer_rows
from bot_onnx._resample import width
from tests.host_kernel import HostEngine, compiler

ROOT = Path(__file__).resolve().parents[2]
ROW = "from benchmarks.gpu.rows import add_row; from pathlib import Path; import sys, time\n"
ONE = ROW + "add_row(Path(sys.argv[1]), {'what': 'a copy', 'GB/s': 1234.5})\n"


def section(name: str, script: str, *, least: float = 0.0, most: float = 1.0) -> Section:
    return Section(
        name,
        f"Section {name}",
        lambda folder: [sys.executable, "-c", script, str(folder / "rows.json")],
        lambda folder: read_rows(folder / "rows.json"),
        least,
        most,
    )


def outcomes(tmp_path: Path, *sections: Section, minutes: float = 2.0, about: Any = "one") -> Book:
    book = Book(tmp_path / "gpu.json", {"device": about})
    run_sections(sections, book, minutes, tmp_path, written=lambda: None, tell=lambda _: None)
    return book


def test_a_section_that_fails_or_takes_too_long_stops_no_other(tmp_path: Path) -> None:
    broken = section("broken", ONE + "raise SystemExit('no such kernel')")
    endless = section("endless", ONE + "time.sleep(60)", most=3 / 60)
    silent = section("silent", "print('nothing to see')")
    book = outcomes(tmp_path, broken, endless, silent, section("fine", ONE))
    states = {name: found["state"] for name, found in book.sections.items()}
    assert states == {"broken": "failed", "endless": "cut off", "silent": "failed", "fine": "done"}
    assert (
        "no such kernel" in book.sections["broken"]["reason"] and "nothing to see" in book.sections["silent"]["reason"]
    )
    assert all(len(book.sections[name]["rows"]) == 1 for name in ("broken", "endless", "fine"))
    assert json.loads((tmp_path / "gpu.json").read_text())["sections"] == book.sections


def test_a_second_run_does_what_the_first_did_not(tmp_path: Path) -> None:
    first, second = section("first", ONE), section("second", ROW + "raise SystemExit(1)")
    outcomes(tmp_path, first, second)
    (tmp_path / "first" / "rows.json").unlink()
    book = outcomes(tmp_path, first, section("second", ONE))
    assert [found["state"] for found in book.sections.values()] == ["done", "done"]
    assert not (tmp_path / "first" / "rows.json").exists()


def test_another_device_starts_over(tmp_path: Path) -> None:
    outcomes(tmp_path, section("first", ONE))
    assert not Book(tmp_path / "gpu.json", {"device": "another"}).sections


def test_what_there_is_no_time_for_is_not_begun_and_what_was_reached_stays(tmp_path: Path) -> None:
    long = section("long", ONE + "time.sleep(60)", least=0.0, most=3 / 60)
    outcomes(tmp_path, long)
    again = section("long", "", least=5.0)
    book = outcomes(tmp_path, again, section("later", ONE, least=5.0), minutes=1.0)
    assert book.sections["long"]["state"] == "cut off" and len(book.sections["long"]["rows"]) == 1
    assert book.sections["later"]["state"] == "not begun"


def test_pages_keep_what_was_written_by_hand(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    page.write_text(f"# By hand\n\n{MARK}\nold\n")
    book = outcomes(tmp_path, section("fine", ONE), section("broken", "raise SystemExit('no')"))
    write_page(book, page)
    text = page.read_text()
    assert text.startswith("# By hand\n\n" + MARK) and "old" not in text
    assert "| a copy | 1,234 |" in text and "**Failed**" in text
    page.write_text("no mark")
    with pytest.raises(ValueError, match="has no line"):
        write_page(book, page)


def test_the_page_of_the_project_has_its_mark() -> None:
    assert MARK in (ROOT / "docs" / "gpu.md").read_text()


def test_without_a_device_it_says_so_and_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    page = tmp_path / "gpu.md"
    page.write_text(MARK)
    ended = CliRunner().invoke(main, ["--page", str(page), "--work", str(tmp_path / "work")])
    assert ended.exit_code == 3 and "no CUDA device" in ended.output
    assert page.read_text() == MARK and [path.name for path in tmp_path.iterdir()] == ["gpu.md"]


def test_a_dry_run_lists_every_section() -> None:
    ended = CliRunner().invoke(main, ["--dry-run"])
    assert ended.exit_code == 0
    assert all(section.name in ended.output for section in SECTIONS)


def test_the_command_writes_json_and_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gpu.__main__.SECTIONS", [section("tests", ONE)])
    monkeypatch.setattr("benchmarks.gpu.__main__.about", lambda: {"device": "a card, 80 GB", "torch": "2.13.0"})
    page = tmp_path / "gpu.md"
    page.write_text(MARK)
    given = ["--page", str(page), "--work", str(tmp_path / "work"), "--minutes", "2"]
    assert CliRunner().invoke(main, given).exit_code == 0
    assert "a card, 80 GB, torch 2.13.0" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())["sections"]["tests"]["state"] == "done"


def test_the_counts_of_tests_are_read(tmp_path: Path) -> None:
    report = '<testsuites><testsuite tests="{}" failures="1" errors="0" skipped="2"/></testsuites>'
    (tmp_path / "tests.xml").write_text(report.format(9))
    assert rows_of_tests(tmp_path) == [{"what": "pytest -m gpu", "passed": 6, "failed": 1, "skipped": 2}]
    (tmp_path / "tests.xml").write_text(report.format(2).replace('failures="1"', 'failures="0"'))
    with pytest.raises(ValueError, match="no test ran"):
        rows_of_tests(tmp_path)


def test_the_study_is_read_column_by_column(tmp_path: Path) -> None:
    assert transfer_rows(tmp_path) == []
    rows = [{"name": "bot", "control": False, "final": 1.5, "note": "none"}]
    page = [{"scale": "small", "columns": [{"architecture": "gpt", "direction": "grow", "rows": rows}]}]
    (tmp_path / "page.json").write_text(json.dumps(page))
    assert transfer_rows(tmp_path) == [{"what": "gpt grow, bot", "control": False, "final": 1.5}]


def test_a_difference_between_two_files_is_found(tmp_path: Path) -> None:
    for name, value in (("a", 2.0), ("b", 2.5)):
        weight = numpy_helper.from_array(np.array([value, 4.0], np.float32), "w")
        graph = helper.make_graph([], "g", [], [], [weight])
        onnx.save(helper.make_model(graph), tmp_path / name)
    assert largest_difference(tmp_path / "a", tmp_path / "b") == pytest.approx(0.125)


class Event:
    def record(self) -> None: ...

    synchronize = record


@pytest.fixture
def numpys() -> Any:
    """NumPy under CuPy's names, with a clock that always says a millisecond."""
    cuda = SimpleNamespace(Event=Event, get_elapsed_time=lambda begin, end: 1.0)
    names = ("random", "float32", "empty_like", "empty", "copyto", "ascontiguousarray")
    return SimpleNamespace(cuda=cuda, **{name: getattr(np, name) for name in names})


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler: g++, clang++ or the package ziglang")
def test_bandwidth_has_a_row_for_every_case(numpys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = HostEngine()
    monkeypatch.setattr(width, "engine_of", lambda _: engine)
    path = tmp_path / "rows.json"
    bandwidth.measure_on_device(numpys, np, (2, 64, 96), path)
    rows = read_rows(path)
    assert len(rows) == 1 + 3 * 2 * 2
    copied, halved = rows[0], rows[1]
    assert copied["GB/s"] == pytest.approx(2 * 2 * 64 * 96 * 4 / 1e-3 / 1e9)
    assert halved["ratio"] == pytest.approx(1.25 / 2)


def test_bandwidth_from_the_host_goes_layer_by_layer(
    numpys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Placed(np.ndarray[Any, Any]):
        set: Callable[..., None] = lambda self, host: np.copyto(self, host)

    numpys.empty = lambda shape, dtype: np.empty(shape, dtype).view(Placed)
    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(empty_pinned=np.empty))
    link = SimpleNamespace(send=lambda x: x, receive=lambda x: x)
    monkeypatch.setattr(bandwidth, "link_to", lambda xp, x: link)
    bandwidth.measure_from_host(numpys, np, (5, 64, 96), tmp_path / "rows.json")
    assert len(read_rows(tmp_path / "rows.json")) == 4


def test_rows_are_whole_after_each(tmp_path: Path) -> None:
    add_row(tmp_path / "rows.json", {"a": 1})
    add_row(tmp_path / "rows.json", {"a": 2})
    assert read_rows(tmp_path / "rows.json") == [{"a": 1}, {"a": 2}]


@pytest.mark.exporter
def test_columns_are_those_of_the_study() -> None:
    from benchmarks.gpu.sections import COLUMNS
    from benchmarks.transfer.study import SCALES

    assert set(COLUMNS) == {f"{a}:{d}" for a, sizes in SCALES["small"].sizes.items() for d in sizes}


def test_measured_is_markdown_of_every_section(tmp_path: Path) -> None:
    book = outcomes(tmp_path, section("fine", ONE))
    assert measured(book).count("###") == 1
