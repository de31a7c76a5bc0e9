"""``resize --resume``: after a kill finished tensors are not made again, and the output has the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.memory import Sizes, write_llama
from bot_onnx import _engine, api
from bot_onnx._cli import cli
from bot_onnx._onnxfile import kept_work, writer
from bot_onnx._resample.sources import SourceLayers
from bot_onnx.errors import OutputError, VerifyError

SPEC = {"hidden": 32, "heads": 4, "kv_heads": 2, "intermediate": 48, "layers": 3}
#: Ends the process, as a kill would, when a number of tensors are written: inside a stack, with half of the next one.
KILLED = """
    import os, signal, sys
    from bot_onnx import api
    from bot_onnx._onnxfile.kept_work import KeptWork

    note, left = KeptWork.note, [int(sys.argv[4])]

    def last(self, name, digest):
        note(self, name, digest)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    KeptWork.note = last
    method, external = sys.argv[5], sys.argv[6] == "external"
    spec = eval(sys.argv[3])
    api.resize(sys.argv[1], spec, sys.argv[2], method=method, external=external, against=False, resume=True)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resuming") / "llama.onnx"
    write_llama(path, 5, sizes=Sizes(48, 6, 2, 8, 64, 97))
    return path


def killed(source: Path, out: Path, after: int, method: str = "bot", external: bool = True) -> None:
    told = [str(source), str(out), repr(SPEC), str(after), method, "external" if external else "inside"]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), *told], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}


def resized(source: Path, out: Path, **given: Any) -> api.Result:
    return api.resize(source, SPEC, out, against=False, external=given.pop("external", True), **given)


def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tensors that are produced from now on."""
    names: list[str] = []
    fill = writer._fill

    def seen(plan: Any, produce: Any, *rest: Any) -> Any:
        def noted() -> Any:
            for name, values in produce:
                names.append(name)
                yield name, values

        return fill(plan, noted(), *rest)

    monkeypatch.setattr(writer, "_fill", seen)
    return names


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize(("method", "external", "after"), [("bot", True, 9), ("bot", False, 14), ("ws", True, 20)])
def test_after_a_kill_only_the_rest_is_made(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, external: bool, after: int
) -> None:
    (tmp_path / "undisturbed").mkdir()
    (tmp_path / "killed").mkdir()
    resized(source, tmp_path / "undisturbed" / "out.onnx", method=method, external=external)
    out = tmp_path / "killed" / "out.onnx"
    killed(source, out, after, method, external)
    assert [entry.name for entry in out.parent.iterdir()] == ["out.onnx.resize"]
    names, mixed = made(monkeypatch), list[int]()
    read = SourceLayers.mixed
    monkeypatch.setattr(SourceLayers, "mixed", lambda self, k: mixed.append(k) or read(self, k))
    result = resized(source, out, method=method, external=external, resume=True)
    assert result.resumed is not None and result.resumed.finished == after and not result.resumed.anew
    assert len(names) == len(set(names)) == result.resumed.tensors - after
    assert 0 < len(mixed) <= len(names)  # what is not produced is not worked out either
    assert files(out.parent) == files(tmp_path / "undisturbed")
    assert not (out.parent / "out.onnx.resize").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_other_work_is_begun_anew_and_damaged_tensors_are_made_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    out = tmp_path / "out.onnx"
    killed(source, out, 12)
    work = tmp_path / "out.onnx.resize"
    with open(work / "data", "r+b") as stream:
        stream.seek(40)
        stream.write(b"damaged")
    with open(work / "journal", "ab") as stream:
        stream.write(b'["model.norm.weight", "00')  # cut off
    names = made(monkeypatch)
    result = resized(source, out, resume=True)
    assert result.resumed is not None and result.resumed.finished == 11
    undamaged = files(tmp_path)
    resized(source, tmp_path / "other" / "out.onnx")
    assert undamaged == files(tmp_path / "other")

    killed(source, tmp_path / "seed.onnx", 12)
    names.clear()
    result = resized(source, tmp_path / "seed.onnx", resume=True, method="scratch", seed=3)
    assert result.resumed == _engine.Resumed(0, len(names), anew=True)


def test_what_fails_is_kept_and_what_is_refused_is_not(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, work = tmp_path / "out.onnx", tmp_path / "out.onnx.resize"
    note = kept_work.KeptWork.note

    def full(self: kept_work.KeptWork, name: str, digest: bytes) -> None:
        note(self, name, digest)
        if len(self.finished) == 5:
            raise OutputError("no room left")

    monkeypatch.setattr(kept_work.KeptWork, "note", full)
    with pytest.raises(OutputError, match="no room"):
        resized(source, out, resume=True)
    monkeypatch.setattr(kept_work.KeptWork, "note", note)
    assert sorted(entry.name for entry in work.iterdir()) == ["data", "journal", "lock", "model"]
    refuse = monkeypatch.context()
    with refuse as patched:
        patched.setattr(_engine, "raise_unless_passed", lambda report: (_ for _ in ()).throw(VerifyError("no")))
        with pytest.raises(VerifyError):
            resized(source, out, resume=True)
    assert list(tmp_path.iterdir()) == []


def test_verification_that_is_interrupted_is_gone_on_with(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.onnx"

    def interrupted(report: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_engine, "raise_unless_passed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            resized(source, out, resume=True)
    names = made(monkeypatch)
    result = resized(source, out, resume=True)
    assert result.resumed is not None and result.resumed.finished == result.resumed.tensors
    assert names == [] and sorted(entry.suffix for entry in tmp_path.iterdir()) == [".data", ".onnx"]


@pytest.mark.skipif(os.name != "posix", reason="locks by flock")
def test_two_runs_and_folders_of_others(source: Path, tmp_path: Path) -> None:
    work = tmp_path / "out.onnx.resize"
    work.mkdir()
    (work / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds no work of this tool"):
        resized(source, tmp_path / "out.onnx", resume=True)
    assert (work / "notes.txt").read_text() == "mine"
    (work / "notes.txt").unlink()
    holder = os.open(work / "lock", os.O_RDWR | os.O_CREAT)
    kept_work.try_lock(holder)
    with pytest.raises(OutputError, match="another run"):
        resized(source, tmp_path / "out.onnx", resume=True)
    os.close(holder)


def test_on_the_command_line(source: Path, tmp_path: Path) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(cli, ["resize", str(source), *words, "-o", str(tmp_path / "out.onnx")])

    sizes = [word for key, size in SPEC.items() for word in (f"--{key.replace('_', '-')}", str(size))]
    refused: Sequence[str] = [*sizes, "--resume", "--quantize", "int8"]
    assert run(*refused).exit_code == 2 and "'--resume' keeps" in run(*refused).output
    note = kept_work.KeptWork.note
    with pytest.MonkeyPatch.context() as patched:

        def ended(self: kept_work.KeptWork, name: str, digest: bytes) -> None:
            note(self, name, digest)
            raise OutputError("no room left")

        patched.setattr(kept_work.KeptWork, "note", ended)
        assert run(*sizes, "--resume", "--no-compare").exit_code == 1
    done = run(*sizes, "--resume", "--no-compare", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["report"]["passed"]
