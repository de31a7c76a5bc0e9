"""Peak memory of ``bot-onnx recover``: a pair of networks whose weights are nearly all in one table.

    python -m benchmarks.recover_memory [--rows 100000] [--width 1024] [--type float32] [--folder DIR]

A table, a norm and a small body, made at random; the teacher has another seed. The command runs in a process of its
own, whose largest resident memory is told in multiples of the student's float32 weights.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper

from benchmarks.whole_command import Run, run_once
from bot_onnx._onnxfile.byte_layout import TensorSlot
from bot_onnx._onnxfile.writer import write_model

_INNER, _CLASSES, _TOKENS, _SAMPLES = 64, 8, 4, 40
_PIECE = 1 << 16  # elements of the table's piece that is repeated with other signs


def network(path: Path, rows: int, width: int, dtype: str = "float32", seed: int = 0) -> Path:
    """Write ``ids [batch, 4]`` to ``y [batch, 4, 8]``: a table, a norm, two products; the weights beside the model.

    Args:
        path: of the file. rows, width: of the table. dtype: of all numbers; bfloat16 only
            stores them. seed: of the weights.
    """
    kind = ir.DataType[{"float32": "FLOAT", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}[dtype]]
    shapes = {
        "table": (rows, width), "gain": (width,), "shift": (width,), "up": (width, _INNER), "up.bias": (_INNER,),
        "down": (_INNER, _CLASSES),
    }  # fmt: skip
    cast = dtype == "bfloat16"  # onnxruntime multiplies none on the CPU
    used = {name: f"{name}.wide" if cast else name for name in shapes}
    nodes = [
        *(helper.make_node("Cast", [name], [used[name]], to=onnx.TensorProto.FLOAT) for name in shapes if cast),
        helper.make_node("Gather", [used["table"], "ids"], ["rows"]),
        helper.make_node("LayerNormalization", ["rows", used["gain"], used["shift"]], ["normed"], axis=-1),
        helper.make_node("MatMul", ["normed", used["up"]], ["wide"]),
        helper.make_node("Add", ["wide", used["up.bias"]], ["biased"]),
        helper.make_node("Relu", ["biased"], ["bent"]),
        helper.make_node("MatMul", ["bent", used["down"]], ["scores"]),
        helper.make_node("Cast", ["scores"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "table",
        [helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["batch", _TOKENS])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", _TOKENS, _CLASSES])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    slots = [TensorSlot(name, kind, shape) for name, shape in shapes.items()]
    write_model(proto, slots, _values(shapes, kind, seed), path, external=True)
    return path


def _values(
    shapes: dict[str, tuple[int, ...]], kind: ir.DataType, seed: int
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    rng = np.random.default_rng(seed)
    for name, shape in shapes.items():
        if name != "table":
            spread = 1 / np.sqrt(shape[0]) if len(shape) > 1 else 0.1
            yield name, (float(name == "gain") + spread * rng.normal(size=shape)).astype(kind.numpy())
            continue
        rows = max(1, _PIECE // shape[1])
        for start in range(0, shape[0], rows):
            yield name, rng.standard_normal((min(rows, shape[0] - start), shape[1]), np.float32).astype(kind.numpy())


def pair(folder: Path, rows: int, width: int, dtype: str = "float32") -> tuple[Path, Path, Path]:
    """Paths of a student, a teacher, and samples of ids that reach all over the table."""
    ids = np.random.default_rng(2).integers(0, rows, (_SAMPLES, _TOKENS))
    np.savez(folder / "ids.npz", ids=ids)
    student = network(folder / "small.onnx", rows, width, dtype)
    return student, network(folder / "teacher.onnx", rows, width, dtype, seed=1), folder / "ids.npz"


def taught(student: Path, teacher: Path, data: Path, out: Path, *options: str) -> Run:
    """The command in a process of its own.

    Raises:
        CommandError: it failed.
    """
    asked = [str(student), "--teacher", str(teacher), "--data", str(data), "-o", str(out), "--steps", "3"]
    asked += ["--batch", "2", "--threads", "1", "--teacher-cache-size", "0", "--force", *options]
    return run_once([sys.executable, "-m", "bot_onnx", "recover", *asked])


def main() -> None:
    """Make the pair, train three steps, and tell the peak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--type", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--folder", help="where the files are made, and removed again")
    given: Any = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        folder = Path(made)
        student, teacher, data = pair(folder, given.rows, given.width, given.type)
        run = taught(student, teacher, data, folder / "out.onnx")
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.glob("out.onnx*"))))
    size = given.rows * given.width * 4
    peak = run.peak_bytes
    print(f"weights {size / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB: {peak / size:.1f} times; {run.seconds:.0f} s")
    print(f"{os.cpu_count()} CPUs; SHA-256 of what was written: {digest.hexdigest()}")


if __name__ == "__main__":
    main()
