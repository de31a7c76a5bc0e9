"""The transfer study: what it measures, what it trains, and that no run is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.zoo.export import quiet

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.exporter, pytest.mark.filterwarnings("ignore::UserWarning")]

from benchmarks.environment import CACHE_VARIABLE  # noqa: E402
from benchmarks.transfer import __main__ as transfer_command  # noqa: E402
from benchmarks.transfer import starts as starts_module  # noqa: E402
from benchmarks.transfer import study as study_module  # noqa: E402
from benchmarks.transfer.__main__ import main  # noqa: E402
from benchmarks.transfer.corpora import VOCAB, Text  # noqa: E402
from benchmarks.transfer.measures import mean_and_spread, reached, saved_mid, saved_short  # noqa: E402
from benchmarks.transfer.networks import ARCHITECTURES, Size, build, example, export  # noqa: E402
from benchmarks.transfer.page import Shown, write_page  # noqa: E402
from benchmarks.transfer.starts import STARTS, Source, resized  # noqa: E402
from benchmarks.transfer.study import Column  # noqa: E402
from benchmarks.transfer.training import Curve, Recipe, Task, train  # noqa: E402

SMALL, LARGE = Size(2, 32), Size(4, 64)


def source(architecture: str, size: Size, folder: Path) -> Source:
    network = build(architecture, size, deviation=0.1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():  # no two tensors alike, as after training
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    path = folder / f"{architecture}.onnx"
    with quiet():
        export(network, architecture, path)
    return Source(architecture, path, {name: p.detach() for name, p in network.named_parameters()}, size, 5.0)


def outputs(given: Source, size: Size, state: dict[str, torch.Tensor]) -> torch.Tensor:
    network = build(given.architecture, size)
    network.load_state_dict(state)
    with torch.no_grad():
        return network.eval()(example(given.architecture))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_come_back_by_name(architecture: str, tmp_path: Path) -> None:
    given = source(architecture, SMALL, tmp_path)
    before = outputs(given, SMALL, dict(given.state))
    grown = resized(given, LARGE, 0, method="net2net")
    assert torch.allclose(outputs(given, LARGE, grown), before, atol=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name, start in STARTS.items() if start.control])
@pytest.mark.parametrize(("small_first", "direction"), [(True, "grow"), (False, "shrink")])
def test_controls_fit_the_target(name: str, small_first: bool, direction: str, tmp_path: Path) -> None:
    sizes = (SMALL, LARGE) if small_first else (LARGE, SMALL)
    given = source("gpt", sizes[0], tmp_path)
    state = STARTS[name].make(given, sizes[1], 0)
    assert torch.isfinite(outputs(given, sizes[1], state)).all()
    default = resized(given, sizes[1], 0)
    if name == "shuffled":
        assert all(torch.equal(state[n].flatten().sort().values, t.flatten().sort().values) for n, t in default.items())
        assert not torch.equal(state["blocks.0.up.weight"], default["blocks.0.up.weight"])
    elif name == "embeddings only":
        assert torch.equal(state["tokens"], default["tokens"])
        assert not torch.equal(state["blocks.0.up.weight"], default["blocks.0.up.weight"])


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["bot, LEMON splits", "bot, fresh readers", "bot, x2, fresh readers"])
def test_exact_starts_compute_what_the_source_does(name: str, tmp_path: Path) -> None:
    given = source("bert", SMALL, tmp_path)
    before = outputs(given, SMALL, dict(given.state))
    assert torch.allclose(outputs(given, LARGE, STARTS[name].make(given, LARGE, 0)), before, atol=1e-4)


def test_operators_are_learned_once_for_a_default_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    for name in ("source.onnx", "samples.npz"):
        (tmp_path / name).write_bytes(b"some")
    given = Source("gpt", tmp_path / "source.onnx", {}, LARGE, 5.0, tmp_path / "samples.npz")
    trainings: list[bool] = []
    default = torch.zeros(3)

    def made(_source: Source, _size: Size, seed: int, learn: Any = None) -> dict[str, torch.Tensor]:
        if learn is None:
            return {"weight": default}
        trainings.append(learn["mix"])
        return {"weight": default + seed + 1}

    monkeypatch.setattr(starts_module, "resized", made)
    ligo, mango = (STARTS[f"bot, learned{kind}"] for kind in (" (LiGO-type)", " with mixing (Mango-type)"))
    for _ in range(2):
        assert torch.equal(ligo.make(given, SMALL, 0)["weight"], default + 1)
    ligo.make(given, SMALL, 1)
    mango.make(given, SMALL, 0)
    assert trainings == [False, False, True]
    default = torch.ones(3)
    assert torch.equal(ligo.make(given, SMALL, 0)["weight"], default + 1)
    assert len(trainings) == 4


def curve(*losses: float) -> Curve:
    return Curve(tuple(range(0, 10 * len(losses), 10)), losses, 1.0)


def test_savings() -> None:
    falling = curve(5.0, 4.0, 3.0, 2.0, 1.0)  # readings after 0, 10, 20, 30, 40 steps
    assert reached(falling, 2.5) == pytest.approx(25 / 40)
    assert saved_mid(falling, 5.5) == 1.0
    assert saved_mid(falling, 0.5) is None
    assert saved_short({0.1: curve(9, 4), 0.25: curve(9, 3), 0.5: curve(9, 2)}, 3.0) == 0.75
    assert saved_short({0.1: curve(9, 4)}, 3.0) is None
    assert mean_and_spread([0.2, 0.4]) == (pytest.approx(0.3), pytest.approx(0.1))
    assert mean_and_spread([0.2, None]) is None


@pytest.mark.thorough
def test_training_lowers_the_loss_and_repeats() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 8, (4000,), generator=generator)
    task = Task("gpt", Text(tokens, tokens[:1000]))
    curves = [train(build("gpt", SMALL), task, Recipe(8, 4, rate=1e-2, evaluations=2)) for _ in range(2)]
    assert curves[0].steps == (0, 4, 8)
    assert curves[0].losses == curves[1].losses
    assert curves[0].losses[-1] < curves[0].losses[0] - 0.3
    assert Recipe(100).rate_at(0) < Recipe(100).rate_at(9) > Recipe(100).rate_at(99)


@pytest.mark.thorough
def test_a_study_runs_once_and_writes_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, VOCAB, (3000,), generator=generator)
    (tmp_path / "cache").mkdir()
    torch.save([tokens, tokens[:800]], tmp_path / "cache" / f"text-{VOCAB}.pt")
    scale = replace(
        study_module.SCALES["quick"],
        sizes={"gpt": {"grow": (SMALL, Size(3, 32))}},
        source_steps=4,
        steps=20,
        batch=2,
        rates=(1e-3,),
        validation=4,
    )
    lines: list[str] = []
    with quiet(), study_module.Study(scale, tmp_path / "cache", jobs=1, tell=lines.append) as study:
        first = study.column("gpt", "grow", 0, ("bot", "ws", "embeddings only"))  # ws can only shrink
        monkeypatch.setattr(study, "_pool", _Here())
        monkeypatch.setattr(study_module, "train", _no_training)
        assert study.column("gpt", "grow", 0, ("bot", "embeddings only")).rows == first.rows
    assert {row.name for row in first.rows} == {"bot", "embeddings only", "scratch"}
    page = tmp_path / "transfer.md"
    run = {"command": "command", "machine": "machine", "commit": "0123abc", "date": "2026-01-31"}
    write_page([Shown.of(scale, [first], **run)], page)
    text = page.read_text()
    assert "| bot |" in text and "*scratch* (control)" in text and "`quick`: 2 x 32 to 3 x 32" in text
    assert "fewer than 3 seeds: GPT small to large, `quick`)" in text and "not run here: GPT large to small" in text
    assert page.with_suffix(".json").stat().st_size and page.with_suffix(".png").stat().st_size


@pytest.mark.thorough
def test_the_processes_of_a_killed_study_end_with_it(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from benchmarks.transfer.study import SCALES, Study\n"
        "if __name__ == '__main__':\n"
        "    study = Study(SCALES['quick'], Path(sys.argv[1]), jobs=1)\n"
        "    print(study._pool.submit(os.getpid).result(), flush=True)\n"
        "    study._pool.submit(time.sleep, 120)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    script = tmp_path / "killed.py"
    script.write_text(program)
    root = Path(study_module.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while _runs(int(done.stdout)):
        assert time.monotonic() < deadline, "the process of the pool goes on"
        time.sleep(0.1)


def _runs(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return state.exists() and ") Z" not in state.read_text()  # a zombie has ended; nobody has asked for its status


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--column", "gpt:shrink@0"], "the number of seeds after the @ must be 1 or more"),
        (["--column", "gpt:sideways"], "scale quick has no column gpt:sideways; there are: gpt:shrink, gpt:grow"),
        (["--start", "luck"], "no start 'luck'; there are: bot"),
    ],
)
def test_a_column_that_is_not_there_is_refused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_seeds_of_a_column_come_before_those_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))

    def column(_study: object, *given: Any, short: bool) -> Column:
        asked.append((*given[:3], short))
        return Column(*given[:3], 4.0, (), {})

    monkeypatch.setattr(study_module.Study, "column", column)
    monkeypatch.setattr(transfer_command, "write_page", lambda *_, **__: None)
    arguments = [
        "--column",
        "gpt:grow@2",
        "--column",
        "vit:shrink",
        "--short",
        "1",
        "--output",
        str(tmp_path / "page.md"),
    ]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert asked == [("gpt", "grow", 0, True), ("gpt", "grow", 1, False), ("vit", "shrink", 0, True)]


class _Here:
    """A pool that works in this process."""

    def submit(self, function: object, *arguments: object) -> object:
        from concurrent.futures import Future

        future: Future[object] = Future()
        future.set_result(function(*arguments))  # type: ignore[operator]
        return future

    def shutdown(self, cancel_futures: bool) -> None:
        """Nothing to stop."""


def _no_training(*_: object) -> Curve:
    raise AssertionError("a cached run was trained again")
