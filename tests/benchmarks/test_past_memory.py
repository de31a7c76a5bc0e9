"""Models past the memory: what the benchmark writes, measures and refuses, on small ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import past_memory
from benchmarks.limited import Limit, strictest
from benchmarks.memory import Sizes
from benchmarks.whole_command import ROOT
from bot_onnx._onnxfile.reader import open_model

SMALL = Sizes(48, 6, 6, 8, 64, 97)


@pytest.mark.parametrize("many", [False, True])
def test_weights_are_pieces_in_one_file_or_many(tmp_path: Path, many: bool) -> None:
    path = tmp_path / "llama.onnx"
    past_memory.write(path, 2, SMALL, many=many)
    with open_model(path) as source:
        weights = [stored for stored in source.tensors.values() if len(stored.shape) == 2]
        assert len(weights) == 1 + 2 * 7 and len(past_memory.beside(path)) == (21 if many else 2)
        source.check()
        first, second = (source.tensor(f"model.layers.{index}.q_proj.weight") for index in range(2))
        assert first.dtype == "float16" and 0.01 < float(first.std()) < 0.03 and (first != second).any()
    assert past_memory.needed(SMALL, 2) > sum(entry.stat().st_size for entry in past_memory.beside(path)[1:])


def test_the_plain_loop_reads_and_writes_just_these_bytes(tmp_path: Path) -> None:
    source, written = tmp_path / "source", []
    source.write_bytes(b"x" * 5_000_000)
    unlink = Path.unlink

    def seen(path: Path, missing_ok: bool = False) -> None:
        written.append(path.stat().st_size)
        unlink(path, missing_ok)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "unlink", seen)
        for nbytes in (1_000_000, 5_000_000, 14_000_000):
            assert past_memory.plain([source], nbytes, tmp_path) > 0
    assert written == [1_000_000, 5_000_000, 14_000_000] and list(tmp_path.iterdir()) == [source]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_limit_holds() -> None:
    limit = strictest(500_000_000)
    assert limit.kind in ("cgroup", "RLIMIT_DATA")
    code = "held = bytearray(int(float(__import__('sys').argv[1])))"
    fine, much = ([*limit.around([sys.executable, "-c", code]), size] for size in ("1e8", "9e8"))
    assert subprocess.run(fine, check=False).returncode == 0
    assert subprocess.run(much, capture_output=True, check=False).returncode != 0
    assert Limit("none", 1).around(["a", "b"]) == ["a", "b"]
    assert "MemoryMax=7" in " ".join(Limit("cgroup", 7).around(["a"]))


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="needs os.wait4")
def test_the_whole_benchmark_on_a_small_model(tmp_path: Path) -> None:
    sizes = (
        "--layers 2 --hidden 64 --heads 4 --head-dim 16 --intermediate 96 --vocab 99 --files many --directions larger"
    )
    told = [
        "--folder",
        str(tmp_path),
        "--json",
        str(tmp_path / "told.json"),
        "--keep-free",
        "0",
        "--option=--no-compare",
    ]
    command = [sys.executable, "-m", "benchmarks.past_memory", *sizes.split(), *told]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["told.json"]
    report = json.loads((tmp_path / "told.json").read_text())
    (row,) = report["rows"]
    assert row["output_bytes"] > row["source_bytes"] and 0 < row["run"]["peak_bytes"] < report["limit"]["nbytes"]
    refused = subprocess.run([*command, "--keep-free", "1e18"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "more of disk are needed" in refused.stderr
