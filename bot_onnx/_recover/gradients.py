"""Gradients of a network's outputs with respect to what it computes inside, in PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bot_onnx._analysis.passes import Analysis
from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._recover.agreement import apart
from bot_onnx._recover.extras import converter, torch
from bot_onnx._recover.plain_form import OWN_DOMAINS, plain_form
from bot_onnx._runs.runtime import session
from bot_onnx._verify.outputs import output_axes
from bot_onnx.errors import ResampleError

Arrays = Mapping[str, NDArray[Any]]
_NEED = "to take gradients ('keep': 'taylor')"
_WAY_OUT = "choose by 'activation' (--keep activation)"
_FLOATS = ("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16")


class TorchGradients:
    """Takes gradients through the conversion that training goes through; see :class:`bot_onnx._align.taylor.Gradients`.

    Attributes:
        outputs: names of the outputs of floating-point numbers. logits: those whose last axis holds logits.
    """

    def __init__(self, analysis: Analysis) -> None:
        """Look at the outputs of a source, before a resize changes its graph."""
        described = output_axes(analysis)
        ports = analysis.model.graph.outputs
        self.outputs = tuple(p.name or "" for p in ports if p.dtype is not None and p.dtype.name in _FLOATS)
        self.logits = frozenset(name for name in self.outputs if name in described and described[name].logits)
        foreign = (node for node in analysis.model.graph if node.domain not in OWN_DOMAINS)
        self._foreign = next((f"node '{node.name}' is a {node.domain}::{node.op_type}" for node in foreign), "")

    def check(self) -> None:
        """See whether gradients can be taken here.

        Raises:
            MissingRuntimeError: PyTorch or the converter is not installed.
            ResampleError: no output is of floating-point numbers, or an op belongs to a runtime.
        """
        converter(_NEED)
        if self._foreign:
            raise ResampleError(
                f"{self._foreign}, which onnx2pytorch cannot carry to PyTorch {_NEED}: take a file that no runtime has "
                f"optimised, or {_WAY_OUT}"
            )
        if not self.outputs:
            raise ResampleError(
                f"no output of the source is of floating-point numbers, to take gradients of; {_WAY_OUT}"
            )

    def network(self, message: onnx.ModelProto, inner: Sequence[str]) -> TorchNetwork:
        """The network in PyTorch.

        Args:
            message: of the source, with all weights. inner: names of the values that gradients are with respect to.

        Raises:
            ResampleError: the converter cannot carry it.
        """
        shown = list(dict.fromkeys((*self.outputs, *inner)))
        del message.graph.output[:]
        message.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shown)
        try:
            form = plain_form(message)
            copied = onnx.ModelProto()
            copied.CopyFrom(form.proto)  # the converter changes what it is given
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", RuntimeWarning)  # "guessing", "might differ": not here
                module = converter(_NEED)(copied, experimental=True)
        except Exception as error:  # whatever an op's converter raises
            raise _uncarried(error) from error
        module.eval()
        state = {name: tensor.detach() for name, tensor in (*module.named_parameters(), *module.named_buffers())}
        for tensor in state.values():
            if tensor.is_floating_point():
                tensor.requires_grad_(True)  # else nothing is followed back
        old = {new: name for name, new in form.names.items()}
        inputs = tuple(old[port] for port in module.input_names)
        return TorchNetwork(module, state, inputs, tuple(shown), tuple(inner), session(message.SerializeToString()))


@dataclass(slots=True)
class TorchNetwork:
    """A network in PyTorch, held against onnxruntime at its first run."""

    module: Any
    state: Mapping[str, Any]
    inputs: tuple[str, ...]
    shown: tuple[str, ...]
    inner: tuple[str, ...]
    reference: Any
    checked: bool = field(default=False, init=False)

    def run(self, feeds: Arrays) -> TorchPass:
        """Its values for inputs by name.

        Raises:
            ResampleError: it cannot be run, or computes something else than in onnxruntime.
        """
        library = torch(_NEED)
        tensors = tuple(library.from_numpy(np.array(feeds[name])) for name in self.inputs)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of indexing by lists and the like, on every call
                result = library.func.functional_call(self.module, dict(self.state), tensors)
            results = result if isinstance(result, list | tuple) else [result]
            found = TorchPass(dict(zip(self.shown, results, strict=True)), self.inner)
        except Exception as error:  # whatever an op raises
            raise _uncarried(error) from error
        if not self.checked:
            self._check(found, feeds)
            self.checked = True
        return found

    def _check(self, found: TorchPass, feeds: Arrays) -> None:
        for name, wanted in zip(self.shown, self.reference.run(list(self.shown), dict(feeds)), strict=True):
            told = apart(found.values[name], wanted)
            if told:
                raise ResampleError(f"onnx2pytorch carries the source to something else: {name!r} {told}; {_WAY_OUT}")


class TorchPass:
    """A run that can be followed back.

    Attributes:
        values: outputs and inner values by name.
    """

    def __init__(self, made: Mapping[str, Any], inner: tuple[str, ...]) -> None:
        self._made, self._inner = made, inner
        self.values = {name: tensor.detach().numpy() for name, tensor in made.items()}

    def back(self, directions: Arrays) -> dict[str, NDArray[Any]]:
        """Gradients of Σ direction · output with respect to the inner values; 0 where nothing depends on one.

        Args:
            directions: by name of an output, in its shape.
        """
        library = torch(_NEED)
        heads = {name: self._made[name] for name in directions if self._made[name].requires_grad}
        given = [library.from_numpy(directions[name]).to(head.dtype) for name, head in heads.items()]
        wanted = {name: self._made[name] for name in self._inner if self._made[name].requires_grad}
        found = library.autograd.grad(
            list(heads.values()), list(wanted.values()), given, retain_graph=True, allow_unused=True
        )
        gradients = dict(zip(wanted, found, strict=True))
        return {
            name: np.zeros_like(self.values[name]) if (one := gradients.get(name)) is None else one.numpy()
            for name in self._inner
        }


def _uncarried(error: Exception) -> ResampleError:
    return ResampleError(f"onnx2pytorch cannot carry the source to PyTorch: {one_line(error)}; {_WAY_OUT}")
