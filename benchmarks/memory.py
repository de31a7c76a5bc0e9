"""Peak memory of `bot-onnx resize` against the depth of the model, weights in a file beside it.

A Llama-like network of SmolLM2-135M's width (576, 9 heads of 64 with 3 key / value heads, intermediate 1536, vocabulary
49,152, head tied to the embedding) is written with random weights at two depths, 30 and 120 layers, and each is halved
in depth and cut to two thirds of its width, with and without the comparison of outputs. A source of one's own, such as
SmolLM2 itself, joins them as the first row::

    python -m benchmarks.memory --source smollm2.onnx --json memory.json

The deep model takes 1.8 GB of disk; what is generated is removed at the end. Needs a Unix: the memory comes from
``os.wait4``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.environment import environment
from benchmarks.whole_command import CommandError, Run, run_once


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths of a Llama; those of SmolLM2-135M where nothing else is said."""

    hidden: int = 576
    heads: int = 9
    kv_heads: int = 3
    head_dim: int = 64
    intermediate: int = 1536
    vocab: int = 49152


SMALL: Final = Sizes()
TARGET: Final = ("--hidden", "384", "--heads", "6", "--kv-heads", "2")
STD: Final = 0.02
INT64, FLOAT, FLOAT16 = 7, 1, 10

#: Models are built in a process of their own, which gives its memory back.
BUILD: Final = """
import sys
from pathlib import Path
from benchmarks.memory import write_llama
write_llama(Path(sys.argv[1]), int(sys.argv[2]))
"""


class _Writer:
    """Collects nodes, and writes random weights to the data file as they are asked for."""

    def __init__(self, path: Path, seed: int, sizes: Sizes, *, half: bool, sparse: bool) -> None:
        import numpy as np

        self.sizes, self.type, self._sparse = sizes, FLOAT16 if half else FLOAT, sparse
        self._float = np.float16 if half else np.float32

        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._location = f"{path.name}.data"
        self._data = open(path.with_name(self._location), "wb")  # noqa: SIM115 - closed by close()
        self._random = np.random.default_rng(seed)

    def op(self, name: str, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node and returns the name of its value."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [f"{name}_output"], name=name, **attributes))
        return f"{name}_output"

    def constant(self, name: str, value: Any) -> str:
        """Adds a small initializer: the weights' type for floats, int64 for whole numbers."""
        import numpy as np
        from onnx import numpy_helper

        array = np.array(value)
        array = array.astype(self._float if array.dtype.kind == "f" else np.int64)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        """Adds a random weight, Normal(0, STD) or for a vector Normal(1, STD), in the data file."""
        import numpy as np
        from onnx import TensorProto

        nbytes = math.prod(shape) * np.dtype(self._float).itemsize
        tensor = TensorProto(name=name, data_type=self.type, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, entry in (("location", self._location), ("offset", self._data.tell()), ("length", nbytes)):
            tensor.external_data.add(key=key, value=str(entry))
        if self._sparse:
            self._data.truncate(self._data.tell() + nbytes)
            self._data.seek(nbytes, 1)
        else:
            values = self._random.standard_normal(shape, dtype=np.float32) * np.float32(STD)
            if len(shape) == 1:
                values += 1
            self._data.write(values.astype(self._float, copy=False).data)
        self.initializers.append(tensor)
        return name

    def close(self) -> None:
        """Closes the data file."""
        self._data.close()


def write_llama(
    path: Path, layers: int, seed: int = 0, *, sizes: Sizes = SMALL, half: bool = False, sparse: bool = False
) -> None:
    """Writes the model to ``path`` and its weights to ``<path>.data``.

    Inputs ``input_ids`` and ``attention_mask``: int64 (batch, sequence); output ``logits``: floats
    (batch, sequence, vocab). With ``half`` all floats are float16; with ``sparse`` weights are zeros that take no disk.
    """
    import onnx
    from onnx import helper

    writer = _Writer(path, seed, sizes, half=half, sparse=sparse)
    embedding = writer.weight("model.embed_tokens.weight", sizes.vocab, sizes.hidden)
    x = writer.op("/embed", "Gather", embedding, "input_ids")
    cos, sin, mask = _rotary_and_mask(writer)
    for index in range(layers):
        x = _layer(writer, x, cos, sin, mask, index)
    x = _norm(writer, "/norm", x, "model.norm.weight")
    head = writer.op("/lm_head/Transpose", "Transpose", embedding, perm=[1, 0])
    writer.nodes.append(helper.make_node("MatMul", [x, head], ["logits"], name="/lm_head/MatMul"))
    writer.close()
    graph = helper.make_graph(
        writer.nodes,
        "llama",
        [helper.make_tensor_value_info(n, INT64, ["batch", "sequence"]) for n in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("logits", writer.type, ["batch", "sequence", sizes.vocab])],
        writer.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(path)


def _rotary_and_mask(w: _Writer) -> tuple[str, str, str]:
    """Cosines and sines (sequence, head_dim) of the positions, and the additive causal mask over padding."""
    length = w.op("/length", "Gather", w.op("/shape", "Shape", "input_ids"), w.constant("axis_1", 1))
    positions = w.op("/positions", "Range", w.constant("zero", 0), length, w.constant("one", 1))
    column = w.op("/column", "Unsqueeze", positions, w.constant("last_axis", [1]))
    inverse = w.constant("inv_freq", [1e5 ** (-2 * i / w.sizes.head_dim) for i in range(w.sizes.head_dim // 2)])
    angles = w.op("/angles", "Mul", w.op("/column/Cast", "Cast", column, to=w.type), inverse)
    both = w.op("/both", "Concat", angles, angles, axis=-1)
    row = w.op("/row", "Unsqueeze", positions, w.constant("first_axis", [0]))
    causal = w.op("/causal", "LessOrEqual", row, column)
    padding = w.op("/padding", "Unsqueeze", "attention_mask", w.constant("middle_axes", [1, 2]))
    seen = w.op("/seen", "And", causal, w.op("/padding/Cast", "Cast", padding, to=9))
    mask = w.op(
        "/mask", "Where", seen, w.constant("nothing", 0.0), w.constant("lowest", -1e9 if w.type == FLOAT else -6e4)
    )
    return w.op("/cos", "Cos", both), w.op("/sin", "Sin", both), mask


def _layer(w: _Writer, x: str, cos: str, sin: str, mask: str, index: int) -> str:
    scope, name = f"/layers.{index}", f"model.layers.{index}"
    normed = _norm(w, f"{scope}/input_norm", x, f"{name}.input_layernorm.weight")
    q = _heads(w, f"{scope}/q", normed, f"{name}.q_proj.weight", w.sizes.heads)
    k = _heads(w, f"{scope}/k", normed, f"{name}.k_proj.weight", w.sizes.kv_heads)
    v = _heads(w, f"{scope}/v", normed, f"{name}.v_proj.weight", w.sizes.kv_heads)
    k = _repeated(w, f"{scope}/k", _rotated(w, f"{scope}/k", k, cos, sin))
    v = _repeated(w, f"{scope}/v", v)
    keys = w.op(f"{scope}/keys", "Transpose", k, perm=[0, 1, 3, 2])
    scores = w.op(f"{scope}/scores", "MatMul", _rotated(w, f"{scope}/q", q, cos, sin), keys)
    scaled = w.op(f"{scope}/scaled", "Mul", scores, w.constant(f"{scope}/scale", w.sizes.head_dim**-0.5))
    weights = w.op(f"{scope}/weights", "Softmax", w.op(f"{scope}/masked", "Add", scaled, mask), axis=-1)
    mixed = w.op(f"{scope}/mixed", "Transpose", w.op(f"{scope}/values", "MatMul", weights, v), perm=[0, 2, 1, 3])
    flat = w.op(
        f"{scope}/flat", "Reshape", mixed, w.constant(f"{scope}/flat_shape", [0, 0, w.sizes.heads * w.sizes.head_dim])
    )
    out = w.op(
        f"{scope}/o",
        "MatMul",
        flat,
        w.weight(f"{name}.o_proj.weight", w.sizes.heads * w.sizes.head_dim, w.sizes.hidden),
    )
    x = w.op(f"{scope}/attended", "Add", x, out)
    normed = _norm(w, f"{scope}/post_norm", x, f"{name}.post_attention_layernorm.weight")
    gate = w.op(
        f"{scope}/gate", "MatMul", normed, w.weight(f"{name}.gate_proj.weight", w.sizes.hidden, w.sizes.intermediate)
    )
    up = w.op(f"{scope}/up", "MatMul", normed, w.weight(f"{name}.up_proj.weight", w.sizes.hidden, w.sizes.intermediate))
    silu = w.op(f"{scope}/silu", "Mul", gate, w.op(f"{scope}/sigmoid", "Sigmoid", gate))
    inner = w.op(f"{scope}/inner", "Mul", silu, up)
    down = w.op(
        f"{scope}/down", "MatMul", inner, w.weight(f"{name}.down_proj.weight", w.sizes.intermediate, w.sizes.hidden)
    )
    return w.op(f"{scope}/added", "Add", x, down)


def _norm(w: _Writer, scope: str, x: str, name: str) -> str:
    """RMSNorm: x / √(mean x² + ε) · weight."""
    square = w.op(f"{scope}/square", "Mul", x, x)
    mean = w.op(f"{scope}/mean", "ReduceMean", square, axes=[-1], keepdims=1)
    root = w.op(f"{scope}/root", "Sqrt", w.op(f"{scope}/stable", "Add", mean, w.constant(f"{scope}/eps", 1e-5)))
    return w.op(f"{scope}/scaled", "Mul", w.op(f"{scope}/unit", "Div", x, root), w.weight(name, w.sizes.hidden))


def _heads(w: _Writer, scope: str, x: str, name: str, heads: int) -> str:
    """Projects and splits: (batch, heads, sequence, head_dim)."""
    flat = w.op(f"{scope}/project", "MatMul", x, w.weight(name, w.sizes.hidden, heads * w.sizes.head_dim))
    split = w.op(f"{scope}/split", "Reshape", flat, w.constant(f"{scope}/split_shape", [0, 0, heads, w.sizes.head_dim]))
    return w.op(f"{scope}/heads", "Transpose", split, perm=[0, 2, 1, 3])


def _rotated(w: _Writer, scope: str, x: str, cos: str, sin: str) -> str:
    """Rotary position embedding: x·cos + (-x₂, x₁)·sin."""
    first, second = (
        w.op(f"{scope}/half_{i}", "Slice", x, *(w.constant(f"{scope}/half_{i}_{n}", [e]) for n, e in enumerate(ends)))
        for i, ends in enumerate([(0, w.sizes.head_dim // 2, 3), (w.sizes.head_dim // 2, w.sizes.head_dim, 3)])
    )
    turned = w.op(f"{scope}/turned", "Concat", w.op(f"{scope}/negated", "Neg", second), first, axis=-1)
    along, across = w.op(f"{scope}/along", "Mul", x, cos), w.op(f"{scope}/across", "Mul", turned, sin)
    return w.op(f"{scope}/rotated", "Add", along, across)


def _repeated(w: _Writer, scope: str, x: str) -> str:
    """Every key / value head once for each query head of its group."""
    row = w.op(f"{scope}/group", "Unsqueeze", x, w.constant(f"{scope}/group_axis", [2]))
    copies = w.op(
        f"{scope}/copies",
        "Expand",
        row,
        w.constant(f"{scope}/copies_shape", [1, 1, w.sizes.heads // w.sizes.kv_heads, 1, 1]),
    )
    return w.op(
        f"{scope}/repeated", "Reshape", copies, w.constant(f"{scope}/shape", [0, w.sizes.heads, -1, w.sizes.head_dim])
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One measured command: the model, its weights in bytes, whether outputs were compared, and the run."""

    model: str
    source_bytes: int
    compared: bool
    run: Run


def measure(label: str, source: Path, layers: int, folder: Path) -> list[Row]:
    """Resizes ``source`` to ``layers`` layers of the target width, with and without comparison.

    Raises:
        CommandError: the command fails.
    """
    size = sum(path.stat().st_size for path in (source, source.with_name(f"{source.name}.data")) if path.exists())
    out = folder / "out.onnx"
    command = [sys.executable, "-m", "bot_onnx", "resize", str(source), "--layers", str(layers), *TARGET]
    rows = []
    for compared in (False, True):
        run = run_once([*command, "-o", str(out), "--force", *([] if compared else ["--no-compare"])])
        rows.append(Row(label, size, compared, run))
    return rows


def generated(layers: int, folder: Path) -> list[Row]:
    """Measures the random model of a depth; its files are removed again."""
    source = folder / f"llama-{layers}.onnx"
    try:
        run_once([sys.executable, "-c", BUILD, str(source), str(layers)])
        return measure(f"random, {layers} layers", source, layers // 2, folder)
    finally:
        for path in (source, source.with_name(f"{source.name}.data")):
            path.unlink(missing_ok=True)


def table(rows: Sequence[Row]) -> Table:
    """One row a command."""
    result = Table(title="bot-onnx resize, half the layers of two thirds of the width", box=SIMPLE, padding=0)
    for heading in ("model", "comparison", "MB in", "MB peak", "seconds", "CPU s"):
        result.add_column(heading, justify="left" if heading in ("model", "comparison") else "right", no_wrap=True)
    for row in rows:
        result.add_row(
            row.model,
            "yes" if row.compared else "no",
            f"{row.source_bytes / 1e6:,.0f}",
            f"{row.run.peak_bytes / 1e6:,.0f}",
            f"{row.run.seconds:.1f}",
            f"{row.run.cpu_seconds:.1f}",
        )
    return result


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description="Peak memory of `bot-onnx resize` against the depth of the model.")
    parser.add_argument("--source", type=Path, help="a Llama of 30 layers and the same width, such as SmolLM2-135M")
    parser.add_argument("--depths", type=int, nargs="+", default=[30, 120], help="of the random models")
    parser.add_argument("--folder", type=Path, help="where models are written and removed (default: a temporary one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every run here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="memory-", dir=options.folder) as name:
        folder = Path(name).resolve()
        try:
            rows = measure(options.source.stem, options.source.resolve(), 15, folder) if options.source else []
            for layers in options.depths:
                rows += generated(layers, folder)
        except CommandError as error:
            sys.exit(f"memory: {error}")
    Console().print(table(rows))
    if options.json is not None:
        report = {"benchmark": "memory", "environment": environment(), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
