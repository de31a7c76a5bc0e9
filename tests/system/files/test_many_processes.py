"""``resize --jobs``: other processes make the weights, and the output has the bytes that one process gives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import bot_onnx
from benchmarks.memory import Sizes, write_llama
from bot_onnx import api
from bot_onnx._cli import cli
from bot_onnx._surgery import spread
from bot_onnx._surgery.execute import Piece
from bot_onnx._workers import Pool, client_of
from bot_onnx.errors import BotError, OutputError
from tests.graphs import GraphBuilder, save
from tests.system.cli.test_sweep_dask import scheduler
from tests.system.files.test_resuming import SPEC, files
from tests.unit.surgery.test_tokens import KEPT, network

pytest.importorskip("distributed", reason="needs the extra 'sweep'")
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")

LARGER = {"hidden": 72, "heads": 9, "kv_heads": 3, "intermediate": 80, "layers": 7}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("many") / "llama.onnx"
    write_llama(path, 5, sizes=Sizes(48, 6, 2, 8, 64, 97))
    return path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two processes, for all tests that ask for some."""
    with client_of(Pool(2), tmp_path_factory.mktemp("dask"), own_threads=False) as client:
        yield client


@pytest.fixture
def shared(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def there(*given: Any, **more: Any) -> Iterator[Any]:
        yield cluster

    monkeypatch.setattr(spread, "client_of", there)


def resized(source: Path, out: Path, spec: dict[str, Any] = SPEC, **given: Any) -> api.Result:
    return api.resize(source, spec, out, **{"against": False, "device": "auto", "external": True, **given})


def both(source: Path, folder: Path, spec: dict[str, Any], **given: Any) -> api.Result:
    """One process and two: the same files, and nothing else is left. Give the result of the one."""
    for name in ("one", "two"):
        (folder / name).mkdir()
    alone = resized(source, folder / "one" / "out.onnx", spec, **given)
    told: list[tuple[int, int]] = []
    result = resized(
        source, folder / "two" / "out.onnx", spec, jobs=2, progress=lambda what, n, of: told.append((n, of)), **given
    )
    assert files(folder / "one") == files(folder / "two")
    assert len(list((folder / "two").iterdir())) == len(list((folder / "one").iterdir()))
    assert result.plan.weights_sha256 == alone.plan.weights_sha256 and result.report.passed
    steps = [n for n, of in told if of > 1]
    assert steps == sorted(steps) and steps[-1] == max(of for _, of in told)
    return alone


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize(
    ("spec", "given"),
    [
        (SPEC, {"align": "rotate"}),
        (SPEC, {"align": "permute", "external": False}),
        (SPEC, {"align": "none", "external": "20kB"}),
        (LARGER, {}),
        (SPEC, {"method": "ws"}),
        (SPEC, {"method": "front"}),
        (SPEC, {"method": "scratch", "seed": 3}),
        (LARGER, {"method": "net2net", "seed": 3}),
        (LARGER, {"method": "bert2bert", "seed": 2}),
        ({"layers": 9}, {"method": "stack"}),
        ({"layers": 9}, {"method": "interleave"}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
def test_the_bytes_are_those_of_one_process(
    source: Path, tmp_path: Path, spec: dict[str, Any], given: dict[str, Any]
) -> None:
    both(source, tmp_path, spec, **given)


@pytest.mark.usefixtures("shared")
def test_tokens_that_stay_and_a_head_that_is_the_transpose_of_the_embedding(tmp_path: Path) -> None:
    tokens = save(network(), tmp_path, "tokens.onnx")
    (tmp_path / "tokens").mkdir()
    both(tokens, tmp_path / "tokens", {"vocab": {"keep": list(KEPT)}})
    (tmp_path / "twin").mkdir()
    plan = both(save(twins(), tmp_path, "twin.onnx"), tmp_path / "twin", {"dims": {"hidden": 6}}).plan
    assert any(stack.twin_of is not None for stack in plan.stacks)


def twins() -> onnx.ModelProto:
    b = GraphBuilder()
    table = np.random.default_rng(5).normal(size=(60, 8)).astype(np.float32)
    x = b.op("Gather", b.constant(table, "words"), "tokens")
    x = b.op("Tanh", b.op("MatMul", x, b.weight(8, 8)))
    logits = b.op("MatMul", x, b.constant(np.ascontiguousarray(table.T), "head"))
    return b.model([("tokens", ["batch", "sequence"])], [logits], integer_inputs=["tokens"], opset=18)


@pytest.mark.usefixtures("shared")
def test_weights_that_a_quantised_source_holds_packed(source: Path, tmp_path: Path) -> None:
    bot_onnx.quantize(source, tmp_path / "packed.onnx", to="int8")
    both(tmp_path / "packed.onnx", tmp_path, SPEC)


def dies_once(path: str, digest: str, task: Sequence[Piece]) -> Any:
    """Ends its process, as a lack of memory would, with half a tensor written; the task is then another worker's."""
    told = spread.make(path, digest, task)
    try:
        os.close(os.open(Path(os.environ["MARK"]), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return told
    place = spread._read(path, digest).places[told[0][0]]
    with open(Path(path).parent / place.file, "r+b") as stream:
        stream.seek(place.offset)
        stream.write(bytes(place.nbytes // 2))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "make", dies_once)
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    (tmp_path / "here").mkdir()
    both(source, tmp_path / "here", SPEC)
    assert (tmp_path / "mark").exists()


def dies(path: str, digest: str, task: Sequence[Piece]) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def fails(path: str, digest: str, task: Sequence[Piece]) -> Any:
    """All but one stack, whose values do not come."""
    if any("q_proj" in member.targets[0] for piece in task for member in piece.members):
        work = spread._read(path, digest)
        object.__setattr__(work, "aligned", None)
    return spread.make(path, digest, task)


def lies(path: str, digest: str, task: Sequence[Piece]) -> Any:
    """Tells of bytes that nobody else sees, as a folder that is not shared would."""
    return [(name, bytes(32)) for name, _ in spread.make(path, digest, task)]


@pytest.mark.usefixtures("shared")
def test_what_goes_wrong_is_told_and_what_is_finished_is_kept(
    source: Path, tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    out = tmp_path / "two" / "out.onnx"
    monkeypatch.setattr(spread, "make", fails)
    with pytest.raises(BotError, match=r"a worker failed at tensor '.*': AttributeError"):
        resized(source, out, jobs=2)
    assert [entry.name for entry in out.parent.iterdir()] == ["out.onnx.resize"]
    monkeypatch.setattr(spread, "make", lies)
    with pytest.raises(OutputError, match="does not hold it here"):
        resized(source, out, jobs=2)
    monkeypatch.undo()
    cluster.run(spread._read.cache_clear)
    result = resized(source, out, resume=True)  # in one process, as well as in two
    assert result.resumed is not None and not result.resumed.anew
    resized(source, tmp_path / "one" / "out.onnx")
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.slow
def test_workers_that_die_again_and_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "make", dies)
    with pytest.raises(BotError, match="workers died again and again while they made '"):
        resized(source, tmp_path / "out.onnx", jobs=2)
    assert not (tmp_path / "out.onnx").exists()


KILLED = """
    import os, signal, sys
    from bot_onnx import api
    from bot_onnx._onnxfile.kept_work import KeptWork

    note, left = KeptWork.note, [7]

    def last(self, name, digest):
        note(self, name, digest)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    if __name__ == "__main__":
        KeptWork.note = last
        api.resize(sys.argv[1], eval(sys.argv[3]), sys.argv[2], external=True, against=False, jobs=2)
"""


@pytest.mark.usefixtures("shared")
def test_the_command_that_is_killed_goes_on(source: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    script, out = tmp_path / "killed.py", tmp_path / "two" / "out.onnx"
    script.write_text(textwrap.dedent(KILLED))
    done = subprocess.run([sys.executable, str(script), str(source), str(out), repr(SPEC)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [entry.name for entry in out.parent.iterdir()] == ["out.onnx.resize"]
    result = resized(source, out, jobs=2)
    assert result.resumed is not None and result.resumed.finished == 7 and not result.resumed.anew
    resized(source, tmp_path / "one" / "out.onnx")
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.usefixtures("shared")
def test_on_the_command_line(source: Path, tmp_path: Path) -> None:
    def run(*words: str) -> Any:
        sizes = [word for key, size in SPEC.items() for word in (f"--{key.replace('_', '-')}", str(size))]
        return CliRunner().invoke(cli, ["resize", str(source), *sizes, *words, "-o", str(tmp_path / "out.onnx")])

    for words in (["--quantize", "int8"], ["--scheduler", "tcp://127.0.0.1:9"]):
        refused = run("--jobs", "2", *words)
        assert refused.exit_code == 2 and "'--jobs'" in refused.output
    refused = run("--jobs", "2", "--device", "cuda")
    assert refused.exit_code == 1 and "device 'cuda'" in refused.output
    done = run("--jobs", "2", "--no-compare", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["report"]["passed"]


def test_what_cannot_be_shared_is_refused_by_name(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="drop jobs"):
        resized(source, Path("memory://bucket/out.onnx"), jobs=2)
    with pytest.raises(OutputError, match="trained or quantised as a whole; drop scheduler"):
        resized(source, tmp_path / "out.onnx", scheduler="tcp://127.0.0.1:9", requantize=True)
    with pytest.raises(BotError, match="one process at least"):
        resized(source, tmp_path / "out.onnx", jobs=0)
    assert not any(tmp_path.iterdir())


@pytest.mark.thorough
def test_workers_of_a_scheduler(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    resized(source, tmp_path / "one" / "out.onnx")
    with scheduler(tmp_path, 2) as address:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        with pytest.raises(BotError, match=r"threads is 2, not 1; give both the same OMP_NUM_THREADS"):
            resized(source, tmp_path / "two" / "out.onnx", scheduler=address)
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        resized(source, tmp_path / "two" / "out.onnx", scheduler=address)
    assert files(tmp_path / "one") == files(tmp_path / "two")
