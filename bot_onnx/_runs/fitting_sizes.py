"""Sizes of an input's open axes at which a graph fits its own weights: found by shape inference, nothing is run.

A network that flattens what its convolutions leave, ``Reshape(x, [-1, 2520])`` before a matrix of 2520 rows, works at
one size of its input alone, and the file need not say which. Worse, it runs at others: wherever the elements happen to
be a multiple of 2520, the rows of the matrix are read across samples, and channels and places of the image trade
roles. So the sizes at which every such Reshape keeps the samples apart go before all guesses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from math import prod

import onnx

Pair = tuple[int, int]
Sizes = dict[str, Pair]

_LARGEST = 512  #: sizes of an open axis that are tried one by one
_BUDGET = 60_000  #: nodes whose shapes are inferred in one search
_SMALL = 64  #: elements up to which a constant may say a shape
#: Sizes of the first axis in both runs: samples of a batch, else steps in time that convolutions take together.
_FIRST = ((2, 3), (64, 96))

#: Sizes of the other axes in both runs where they are free.
_OPEN = ((64, 96), (224, 256))

Shape = tuple[int, ...]


class Fitting:
    """Finds sizes for one graph, given what it is fed.

    Args:
        graph: the graph; weights may be initializers or inputs. opsets: it is written in.
        inputs: shape of what is fed by name, a symbol where an axis is open.
        floats: names of those that are floating-point.
    """

    def __init__(
        self,
        graph: onnx.GraphProto,
        opsets: Iterable[onnx.OperatorSetIdProto],
        inputs: Mapping[str, tuple[int | str, ...]],
        floats: Iterable[str],
    ) -> None:
        self._graph, self._opsets, self._inputs = graph, list(opsets), inputs
        open_ = [name for name in floats if any(isinstance(dim, str) for dim in inputs[name])]
        shape = inputs[open_[0]] if len(open_) == 1 else ()
        self._firsts = {dim for dim in shape[:1] if isinstance(dim, str)}
        self._others = {dim for dim in shape[1:] if isinstance(dim, str)} - self._firsts
        self._flattening = _flattening(graph) if self._others else {}
        self._bare: onnx.ModelProto | None = None
        self._found: list[Sizes] | None = None

    def flattened(self) -> Iterator[Sizes]:
        """Sizes at which every Reshape to ``[-1, n]`` keeps its first axis; none where there is no such Reshape."""
        if self._flattening:
            yield from self._fitting()

    def any(self) -> Iterator[Sizes]:
        """Sizes at which inference finds no fault."""
        if self._others:
            yield from self._fitting()

    def _fitting(self) -> list[Sizes]:
        if self._found is None:
            found = self._search()
            self._found = [found] if found is not None else []
        return self._found

    def _search(self) -> Sizes | None:
        """Two sizes where any will do, else the smallest that fits."""
        steps = max(min(_LARGEST, _BUDGET // max(len(self._graph.node), 1)), 1)
        for first in _FIRST if self._firsts else _FIRST[:1]:
            for pair in (*_OPEN, *((size, size) for size in range(1, steps + 1))):
                sizes = {**dict.fromkeys(self._firsts, first), **dict.fromkeys(self._others, pair)}
                runs = ({symbol: size[run] for symbol, size in sizes.items()} for run in (0, 1))
                fits = next((told for run in runs if not (told := self._fits(run))), True)
                if fits:
                    return sizes
                if fits is None:
                    return None
        return None

    def _fits(self, sizes: dict[str, int]) -> bool | None:
        """Whether inference finds no fault, no axis that is used up, and no row across samples.

        None: it does not know what is reshaped (another input's length, a number of hits), at these sizes as at others.
        """
        shapes = self._shapes(sizes)
        if shapes is None or any(size < 1 for shape in shapes.values() for size in shape):
            return False
        for source, (target, tail) in self._flattening.items():
            given, made = shapes.get(source), shapes.get(target)
            if given is None or made is None:
                return None
            lined_up = given[-len(tail) :] == tail  # whole rows of more than one axis, put in one line
            if not lined_up and (given[0] != made[0] or prod(given[1:]) != prod(tail)):
                return False
        return True

    def _shapes(self, sizes: dict[str, int]) -> dict[str, Shape] | None:
        model = self._model()
        for value in model.graph.input:
            dims = self._inputs.get(value.name)
            if dims is None:
                continue
            for dim, size in zip(value.type.tensor_type.shape.dim, dims, strict=True):
                known = sizes.get(size) if isinstance(size, str) else size
                if known is None:
                    dim.Clear()
                else:
                    dim.dim_value = known
        try:
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        except Exception:  # what the inference of onnx raises has no public base class
            return None
        return {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in chain(inferred.graph.value_info, inferred.graph.output)
            if all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
        }

    def _model(self) -> onnx.ModelProto:
        """The graph without weights: their shapes say enough."""
        if self._bare is None:
            self._bare = onnx.ModelProto(ir_version=8, opset_import=self._opsets)
            bare = self._bare.graph
            bare.name = "fitting"
            bare.node.extend(self._graph.node)
            listed = {tensor.name for tensor in self._graph.initializer}
            bare.input.extend(value for value in self._graph.input if value.name not in listed)
            for tensor in self._graph.initializer:
                if prod(tensor.dims) <= _SMALL and tensor.data_location != onnx.TensorProto.EXTERNAL:
                    bare.initializer.append(tensor)
                else:
                    bare.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
            made = {name for node in bare.node for name in node.output}
            bare.output.extend(onnx.ValueInfoProto(name=value.name) for value in self._graph.output
                               if value.name in made)  # fmt: skip
        return self._bare


def _flattening(graph: onnx.GraphProto) -> dict[str, tuple[str, Shape]]:
    """What Reshapes to ``[-1, n, …]`` take, and per one its result and the n of a row."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    found: dict[str, tuple[str, Shape]] = {}
    for node in graph.node:
        tensor = constants.get(node.input[1]) if node.op_type == "Reshape" and len(node.input) > 1 else None
        if tensor is None or tensor.data_type != onnx.TensorProto.INT64 or prod(tensor.dims) > _SMALL:
            continue
        if tensor.data_location == onnx.TensorProto.EXTERNAL or node.input[0] in constants:
            continue
        wanted = [int(size) for size in onnx.numpy_helper.to_array(tensor).reshape(-1)]
        if len(wanted) > 1 and wanted[0] == -1 and min(wanted[1:]) > 0 and prod(wanted[1:]) > 1:  # rows of several
            found[node.input[0]] = node.output[0], tuple(wanted[1:])
    return found
