"""The transfer study: what it measures, what it trains, and that no run is done twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.zoo.export import quiet

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.exporter, pytest.mark.filterwarnings("ignore::UserWarning")]

from benchmarks.transfer import study as study_module  # noqa: E402
from benchmarks.transfer.corpora import VOCAB, Text  # noqa: E402
from benchmarks.transfer.measures import mean_and_spread, reached, saved_mid, saved_short  # noqa: E402
from benchmarks.transfer.networks import ARCHITECTURES, Size, build, example, export  # noqa: E402
from benchmarks.transfer.page import write_page  # noqa: E402
from benchmarks.transfer.starts import STARTS, Source, resized  # noqa: E402
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


def test_training_lowers_the_loss_and_repeats() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 8, (4000,), generator=generator)
    task = Task("gpt", Text(tokens, tokens[:1000]))
    curves = [train(build("gpt", SMALL), task, Recipe(8, 4, rate=1e-2, evaluations=2)) for _ in range(2)]
    assert curves[0].steps == (0, 4, 8)
    assert curves[0].losses == curves[1].losses
    assert curves[0].losses[-1] < curves[0].losses[0] - 0.3
    assert Recipe(100).rate_at(0) < Recipe(100).rate_at(9) > Recipe(100).rate_at(99)


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
    write_page([first], scale, page, command="command", machine="machine")
    text = page.read_text()
    assert "| bot |" in text and "*scratch* (control)" in text and "small to large (2 x 32 → 3 x 32)" in text
    assert "What is missing (seeds: 1," in text and "not run here" not in text
    assert page.with_suffix(".json").stat().st_size and page.with_suffix(".png").stat().st_size


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
