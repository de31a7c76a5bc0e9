"""The student by onnx2pytorch, where an op is not carried here: its module, called with tensors made of the weights.

The converter copies initializers into buffers and into its modules' own weights, turned and reordered as PyTorch wants
them. Where each number went is found by converting the model once more with numbers that say which they are: that
tells for every tensor of the module which elements of which initializers it is made of, whatever the op. The module is
then called with tensors computed from the parameters, so that tied weights stay tied and gradients reach all uses.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._recover.extras import converter, torch
from bot_onnx._recover.network import Network
from bot_onnx._recover.plain_form import PlainForm, plain_form
from bot_onnx._recover.trainable import Trainable, initial
from bot_onnx._recover.types import Array
from bot_onnx.errors import RecoverError

_MARK = float(1 << 40)  # beyond every weight; doubles hold all whole numbers up to 2**53
_MOST_PERMUTED = 5  # axes up to which a transposition is looked for

Make = Callable[[Mapping[str, Any]], Any]


class Converted:
    """A network that computes its outputs from inputs and weights.

    Args:
        network: the student.
        trainable: its weights.
        outputs: names of the values that the module gives.
        uncarried: what keeps it from being carried without the converter.

    Raises:
        RecoverError: the converter cannot carry it, or it is too large for that.

    Attributes:
        inputs: names of the inputs that it reads.
    """

    def __init__(self, network: Network, trainable: Trainable, outputs: Sequence[str], uncarried: str = "") -> None:
        told = f"{network.path} has {uncarried or 'ops'}, which onnx2pytorch carries to PyTorch, from a message"
        form = plain_form(network.wide(outputs).whole(told))
        ports = [form.names[name] for name in outputs]
        shown = {port.name: port for port in form.proto.graph.output}
        del form.proto.graph.output[:]
        form.proto.graph.output.extend(shown[port] for port in ports)
        self._module = _convert(form.proto, network)
        self._tensors = _origins(form, self._module, trainable, network)
        self._names = {new: old for old, new in form.names.items()}
        self.inputs = tuple(self._names[port] for port in self._module.input_names)

    def __call__(self, feeds: Mapping[str, Any], weights: Mapping[str, Any]) -> list[Any]:
        """Values of the outputs, in order, torch tensors."""
        state = {entry: make(weights) for entry, make in self._tensors.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of indexing by lists and the like, on every call
            given = tuple(feeds[name] for name in self.inputs)
            result = torch().func.functional_call(self._module, state, given)
        return list(result) if isinstance(result, list | tuple) else [result]

    def to(self, device: str) -> None:
        """Compute on another device from now on; inputs and weights come from there."""
        self._module.to(device)

    def failing(self, feeds: Mapping[str, Any], weights: Mapping[str, Any]) -> str:
        """Op and first output of the node at which the module fails; empty if it does not."""
        started: list[str] = []

        def starting(name: str) -> Callable[..., None]:
            return lambda *_: started.append(name)

        hooks = [module.register_forward_pre_hook(starting(name)) for name, module in self._module.named_children()]
        try:
            self(feeds, weights)
        except Exception:
            operator, _, value = started[-1].partition("_") if started else ("", "", "")
            return f"{operator} {self._names.get(value, value)!r}"
        finally:
            for hook in hooks:
                hook.remove()
        return ""


def _convert(proto: onnx.ModelProto, network: Network) -> Any:
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)  # the converter changes what it is given
    convert = converter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", RuntimeWarning)  # "guessing", "might differ": not here
            module = convert(copied, experimental=True)
    except Exception as error:  # whatever an op's converter raises
        raise RecoverError(
            f"onnx2pytorch cannot carry {network.path} to PyTorch: {one_line(error)}; export its weights with "
            "`bot-onnx export` and train in the framework"
        ) from error
    module.eval()
    module.requires_grad_(False)
    return module


def _origins(form: PlainForm, module: Any, trainable: Trainable, network: Network) -> dict[str, Make]:
    """How every tensor of the module that holds trained numbers is made of the parameters.

    Raises:
        RecoverError: a tensor mixes trained and other numbers, or an initializer did not arrive anywhere.
    """
    marks, starts = _marks(trainable)
    probed = onnx.ModelProto()
    probed.CopyFrom(form.proto)
    for tensor in probed.graph.initializer:
        if tensor.name in (by_name := {form.names[name]: name for name in marks}):
            tensor.CopyFrom(numpy_helper.from_array(marks[by_name[tensor.name]], tensor.name))
    probe = dict(_tensors(_convert(probed, network)))
    known = np.concatenate([initial(trainable.values[name]).reshape(-1) for name in starts])
    made: dict[str, Make] = {}
    arrived: set[str] = set()
    for entry, tensor in _tensors(module):
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        indices = probe[entry].double().numpy() - _MARK
        marked = indices > -_MARK / 2
        if not marked.any():
            continue
        whole = np.rint(indices).astype(np.int64)
        sound = marked.all() and (whole == indices).all() and whole.max() < len(known)
        if not sound or not np.array_equal(known[whole], tensor.numpy()):
            raise RecoverError(
                f"onnx2pytorch computes with the weights of {network.path} while it converts them (tensor {entry!r}), "
                "so that they could not be put back: train in the framework (`bot-onnx export`)"
            )
        make, sources = _maker(whole, starts, trainable)
        made[entry] = make
        arrived |= sources
    lost = [name for name in trainable.values if name not in arrived]
    if lost:
        raise RecoverError(
            f"onnx2pytorch does not carry weight {lost[0]!r} of {network.path} to PyTorch"
            + (f" (nor {len(lost) - 1} others)" if lost[1:] else "")
            + "; train in the framework (`bot-onnx export`)"
        )
    return made


def _tensors(module: Any) -> list[tuple[str, Any]]:
    """All parameters and buffers of a module, aliases included."""
    return [
        *((name, tensor.detach()) for name, tensor in module.named_parameters(remove_duplicate=False)),
        *((name, tensor.detach()) for name, tensor in module.named_buffers(remove_duplicate=False)),
    ]


def _marks(trainable: Trainable) -> tuple[dict[str, Array], dict[str, int]]:
    """Numbers that say which element they are, by initializer, and the first one of each that has its own."""
    marks: dict[str, Array] = {}
    starts: dict[str, int] = {}
    total = 0
    for name, shape in trainable.shapes.items():
        count = math.prod(shape)
        marks[name] = (np.arange(count, dtype=np.float64) + (_MARK + total)).reshape(shape)
        starts[name] = total
        total += count
    for twin, source in trainable.twins.items():
        marks[twin] = np.ascontiguousarray(marks[source].T)
    return marks, starts


def _maker(indices: Array, starts: Mapping[str, int], trainable: Trainable) -> tuple[Make, set[str]]:
    """How to make a tensor from numbered elements, and the initializers that it takes."""
    order = list(starts)
    bounds = np.array([starts[name] for name in order])
    places = np.searchsorted(bounds, indices, side="right") - 1
    sources = [order[place] for place in np.unique(places)]
    if len(sources) == 1:
        name = sources[0]
        shape = trainable.shapes[name]
        own = indices - starts[name]
        numbered = np.arange(trainable.values[name].size).reshape(shape)
        for axes in itertools.permutations(range(len(shape))) if len(shape) <= _MOST_PERMUTED else ():
            turned = numbered.transpose(axes)
            if turned.size == own.size and np.array_equal(turned.reshape(-1), own.reshape(-1)):
                return _turned(name, axes, own.shape), {name}
    library = torch()
    shift, total = np.zeros(len(order), np.int64), 0
    for name in sources:
        shift[order.index(name)] = total - starts[name]
        total += trainable.values[name].size
    picked = library.from_numpy(indices + shift[places])
    return lambda given: library.cat([given[name].reshape(-1) for name in sources])[picked], set(sources)


def _turned(name: str, axes: tuple[int, ...], shape: tuple[int, ...]) -> Make:
    if axes == tuple(range(len(axes))):
        return lambda given: given[name].reshape(shape)
    return lambda given: given[name].permute(axes).reshape(shape)
