"""Networks to make pages of, and what a page's own numbers say: read from its HTML, computed here and by its script."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from bot_onnx.demo import model_bytes
from tests.graphs import GraphBuilder
from tests.system.cli.test_fit import decoder
from tests.system.oracle.sequence.graphs import two_towers
from tests.unit.fit.test_fit import convolutions

Position = Mapping[str, int]  #: step by key of a slider
NUMBERS = ("parameters", "weight_bytes", "macs")


def bert(layers: int = 3, heads: int = 4, head_dim: int = 8, inner: int = 96) -> onnx.ModelProto:
    """BERT by hand: two tables, norms behind the sums, biases, a pooler whose dim follows the stream, classes."""
    b = GraphBuilder()
    hidden = heads * head_dim
    x = b.op("Add", b.op("Gather", b.weight(120, hidden), "ids"), b.weight(1, hidden))

    def norm(value: str) -> str:
        return b.op("LayerNormalization", value, b.constant(np.ones(hidden, np.float32)), b.weight(hidden))

    def linear(value: str, before: int, behind: int) -> str:
        return b.op("Add", b.op("MatMul", value, b.weight(before, behind)), b.weight(behind))

    def split(value: str) -> str:
        shaped = b.op("Reshape", linear(value, hidden, hidden), b.ints(0, 0, heads, head_dim))
        return b.op("Transpose", shaped, perm=[0, 2, 1, 3])

    x = norm(x)
    for _ in range(layers):
        q, k, v = split(x), split(x), split(x)
        scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = b.op("Mul", scores, b.constant(np.float32(head_dim**-0.5)))
        mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        mixed = linear(b.op("Reshape", mixed, b.ints(0, 0, hidden)), hidden, hidden)
        x = norm(b.op("Add", x, mixed))
        x = norm(b.op("Add", x, linear(b.op("Relu", linear(x, hidden, inner)), inner, hidden)))
    first = b.op("Gather", x, b.constant(np.array(0, np.int64)), axis=1)
    b.op("Gemm", b.op("Tanh", b.op("Gemm", first, b.weight(hidden, hidden), b.weight(hidden))), b.weight(hidden, 5))
    return b.model([("ids", ["batch", "sequence"])], [b.nodes[-1].output[0]], integer_inputs=["ids"])


def tied_decoder() -> onnx.ModelProto:
    """The decoder with its embedding as its head."""
    model = decoder()
    head, embedding = model.graph.node[-1], model.graph.node[0].input[0]
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == head.input[1])
    model.graph.initializer.remove(weight)
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Transpose", [embedding], ["turned"], name="turn", perm=[1, 0])
    )
    head.input[1] = "turned"
    return model


NETWORKS = {
    "vit": lambda: onnx.load_from_string(model_bytes()),
    "bert": bert,
    "cnn": convolutions,
    "decoder": decoder,
    "tied decoder": tied_decoder,
    "towers": two_towers,
}


def data_of(html: str) -> dict[str, Any]:
    """What the script of a page computes with."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def script_of(html: str) -> str:
    """The script of a page."""
    found = re.search(r"<script>\n(.*?)</script>", html, re.S)
    assert found is not None
    return found[1]


def ends(data: Mapping[str, Any]) -> list[dict[str, int]]:
    """Positions of the sliders: as the model, all low, all high, some between, one end alone."""
    sliders = data["sliders"]
    at = [
        {one["key"]: one["start"] for one in sliders},
        {one["key"]: 0 for one in sliders},
        {one["key"]: len(one["steps"]) - 1 for one in sliders},
        {one["key"]: (7 * n + 3) % len(one["steps"]) for n, one in enumerate(sliders)},
        {one["key"]: one["start"] // 2 for one in sliders},
    ]
    return [*at, {sliders[-1]["key"]: 0}]


def computed(data: Mapping[str, Any], at: Position) -> dict[str, int | None]:
    """The numbers of a position, from the JSON alone."""
    values: dict[str, int] = {ident: dim["size"] for ident, dim in data["dims"].items()}
    layers = dict(data["chains"])
    for slider in data["sliders"]:
        step = slider["steps"][at.get(slider["key"], slider["start"])]
        values |= step["sizes"]
        layers |= step["layers"]

    def value(terms: list[list[Any]], depth: int) -> int:
        named = {**values, data["layers_variable"]: depth}
        return sum(int(factor) * prod(named[name] for name in names) for factor, *names in terms)

    found: dict[str, int | None] = dict.fromkeys(NUMBERS, 0)
    for part in data["parts"]:
        depth = layers.get(part["chain"], 0)
        macs = part["macs"]
        numbers = {key: None if part[key] is None else value(part[key], depth) for key in NUMBERS[:2]}
        numbers["macs"] = None
        if macs is not None:
            stacked, known = depth - part["leading"], len(macs["layers"])
            places = [n if n < known else known - macs["turns"] + (n - known) % macs["turns"] for n in range(stacked)]
            each = [value(macs["kinds"][macs["layers"][place]], depth) for place in places]
            numbers["macs"] = value(macs["leading"], depth) + sum(each)
        for key, number in numbers.items():
            so_far = found[key]
            found[key] = None if so_far is None or number is None else so_far + number
    return found


def scripted(html: str, at: list[dict[str, int]]) -> list[dict[str, Any]]:
    """The numbers and commands of some positions, by the page's own script in node or QuickJS."""
    code = (
        f"{script_of(html)}\nconst data = {json.dumps(data_of(html))};\n"
        f"const told = {json.dumps(at)}.map((at) => ({{...botOnnx.costs(data, at), "
        "command: botOnnx.command(data, at)}));\n"
        "const text = JSON.stringify(told, (key, value) => typeof value === 'bigint' ? String(value) : value);\n"
    )
    node = shutil.which("node")
    if node is not None:
        told = subprocess.run([node, "-e", f"{code}console.log(text)"], capture_output=True, text=True, check=True)
        printed = told.stdout
    else:
        quickjs = pytest.importorskip("quickjs", reason="neither node nor quickjs is there to run the page's script")
        printed = quickjs.Context().eval(f"{code}text")
    found: list[dict[str, Any]] = json.loads(printed)
    return [
        {key: int(one[key]) if key in NUMBERS and one[key] is not None else one[key] for key in one} for one in found
    ]


def resize_arguments(command: str) -> list[str]:
    """The arguments of a page's command, without the output."""
    program, *arguments = shlex.split(command)
    assert program == "bot-onnx" and arguments[-2:] == ["-o", "resized.onnx"]
    return arguments[:-2]
