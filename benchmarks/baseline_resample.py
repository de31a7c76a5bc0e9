"""What one would write without bot-onnx: shrink the weights of an exported BERT with PyWavelets, leave the graph.

Far less than ``bot-onnx resize`` does: the layers are read off the node names, every weight stack goes through
``pywt.wavedecn`` as a whole (q, k, v heads mixed, all three axes filtered), and the nodes are not touched, so the
written file holds the right bytes but cannot be run. ``whole_command`` measures it::

    python benchmarks/baseline_resample.py bert-base.onnx out.onnx
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict

import numpy as np
import onnx
import pywt
from numpy.typing import NDArray
from onnx import numpy_helper

WAVELET = "haar"
MODE = "periodization"
LAYER = re.compile(r"layer\.(\d+)")


def stacks(graph: onnx.GraphProto) -> tuple[dict[str, list[str]], list[str]]:
    """Groups the float initializers: per role in a layer the names in layer order, and those outside the layers."""
    consumers = {name: node.name for node in graph.node for name in node.input}
    layered: dict[str, dict[int, str]] = defaultdict(dict)
    single = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        place = consumers[tensor.name]
        match = LAYER.search(place)
        if match is None:
            single.append(tensor.name)
            continue
        # A node has at most two weights (a norm's scale and bias), told apart by the end of their names.
        suffix = tensor.name.rsplit(".", 1)[-1] if "." in tensor.name else "matrix"
        layered[f"{LAYER.sub('layer.*', place)}:{suffix}"][int(match[1])] = tensor.name
    return {role: [names[layer] for layer in sorted(names)] for role, names in layered.items()}, single


def low_band(values: NDArray[np.float32], axes: tuple[int, ...]) -> NDArray[np.float32]:
    """The approximation of a one-level transform along ``axes``: each of them at half its size."""
    approximation: NDArray[np.float32] = pywt.wavedecn(values, WAVELET, mode=MODE, level=1, axes=axes)[0]
    return np.ascontiguousarray(approximation, dtype=np.float32)


def resample(model: onnx.ModelProto) -> None:
    """Replaces the float initializers in place by those of a model of half the depth and half the width."""
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    layered, single = stacks(graph)
    dropped = set()
    for names in layered.values():
        stack = np.stack([numpy_helper.to_array(tensors[name]) for name in names])
        shrunk = low_band(stack, tuple(range(stack.ndim)))
        for index, name in enumerate(names):
            if index < len(shrunk):
                tensors[name].CopyFrom(numpy_helper.from_array(shrunk[index], name))
            else:
                dropped.add(name)
    for name in single:
        values = numpy_helper.to_array(tensors[name])
        axes = (1,) if "embeddings" in name and values.ndim == 2 else tuple(range(values.ndim))
        tensors[name].CopyFrom(numpy_helper.from_array(low_band(values, axes), name))
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name in dropped:
            del graph.initializer[index]


def main() -> None:
    """Reads the first path, writes the second."""
    if len(sys.argv) != 3:
        sys.exit("usage: baseline_resample.py SOURCE TARGET")
    model = onnx.load(sys.argv[1])
    resample(model)
    onnx.save(model, sys.argv[2])


if __name__ == "__main__":
    main()
