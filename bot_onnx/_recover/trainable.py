"""Which initializers are trained: all floats that the analysis knows as weights, tied ones once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bot_onnx._onnxfile.weight_files import MappedTensor
from bot_onnx._ops.nodes import FLOATS
from bot_onnx._recover.network import Network
from bot_onnx._recover.types import Array
from bot_onnx._structure import Stack
from bot_onnx.errors import RecoverError

_MASKED = 1e4  # no trained weight is as large as what keeps a place out of a softmax
_TRAINED = FLOATS - {ir.DataType.DOUBLE}
_PIECE = 1 << 20  # elements that are looked at at a time
_STATISTICS = (3, 4)  # inputs of a BatchNormalization


@dataclass(frozen=True, slots=True)
class Trainable:
    """The weights of a network.

    Attributes:
        values: the trained initializers as they lie in the file, by name, in graph order; see :func:`initial`.
        twins: initializers that are the transpose of a trained one, by name.
        fixed: float initializers of more than one element that stay as they are, and why.
    """

    values: dict[str, ir.TensorProtocol]
    twins: dict[str, str]
    fixed: dict[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the trained initializers."""
        return {name: tuple(map(int, tensor.shape.numpy())) for name, tensor in self.values.items()}


def find_trainable(network: Network) -> Trainable:
    """Sort a network's float initializers.

    Raises:
        RecoverError: a weight is of double precision, or there is none.
    """
    graph = network.analysis.model.graph
    stacks = {stack.id: stack for stack in network.analysis.structure.stacks}
    homes = {name: stack for stack in stacks.values() for name in stack.tensors}
    found = Trainable({}, {}, {})
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in FLOATS or tensor.size < 2 or not any(True for _ in value.uses()):
            continue
        stack = homes.get(name)
        array = tensor.numpy()
        reason = _reason(value, stack, array)
        if reason is not None:
            found.fixed[name] = reason
        elif tensor.dtype not in _TRAINED:
            raise RecoverError(
                f"weight {name!r} of {network.path} is {tensor.dtype.name}; float32, float16 and bfloat16 are trained: "
                "convert the model to float32 (of the teacher, before it is resized), train, and convert it back"
            )
        elif stack is not None and stack.twin_of is not None:
            found.twins[name] = stacks[stack.twin_of].tensors[0]
        else:
            found.values[name] = tensor
    orphans = [name for name, source in found.twins.items() if source not in found.values]
    for name in orphans:
        found.fixed[name] = f"the transpose of {found.twins.pop(name)}, which is not trained"
    if not found.values:
        raise RecoverError(f"{network.path} has no weights of floating-point numbers to train")
    return found


def initial(tensor: ir.TensorProtocol) -> Array:
    """Values to train on from: float32, in memory of their own, each read once."""
    array = tensor.numpy()
    if array.dtype != np.float32 or not isinstance(tensor, MappedTensor):
        return np.array(array, dtype=np.float32)
    array.flags.writeable = True  # read from the file for this call
    return array


def _reason(value: ir.Value, stack: Stack | None, array: Array) -> str | None:
    """Why an initializer is no weight, or None."""
    if stack is None:
        return "no layer computes with it as a weight"
    if stack.closed_form is not None:
        return "a table that follows from the sizes"
    if any(usage.node.op_type == "BatchNormalization" and usage.idx in _STATISTICS for usage in value.uses()):
        return "statistics of a batch normalisation"
    different: set[float] = set()
    flat = array.reshape(-1)
    for start in range(0, flat.size, _PIECE):  # a copy of the largest weight would be as large again, and twice that
        numbers = flat[start : start + _PIECE].astype(np.float64)
        if not np.isfinite(numbers).all() or np.abs(numbers).max() >= _MASKED:
            return "a mask"
        if len(different) < 3:
            different.update(np.unique(numbers).tolist())
    if sum(size > 1 for size in array.shape) > 1 and len(different) == 2:
        return "a table of two values: a mask"
    return None
