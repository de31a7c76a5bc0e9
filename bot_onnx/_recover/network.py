"""A model as both sides of a distillation need it: its graph and its weights, its inputs, its hidden states."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._onnxfile.reader import Source
from bot_onnx._onnxfile.scratch import Scratch
from bot_onnx._recover.float_form import halves_of, widen
from bot_onnx._recover.form import Form, announced, apart
from bot_onnx._recover.types import Array, Feeds
from bot_onnx._runs.inputs import input_specs
from bot_onnx._runs.runtime import device_of, session
from bot_onnx._structure import Role
from bot_onnx._surgery.emit import skeleton
from bot_onnx._verify.outputs import output_axes
from bot_onnx.errors import RecoverError

_FED = {"tensor(float16)": np.dtype(np.float16)}  # what onnxruntime asks for, where samples are float32


@dataclass(frozen=True, slots=True)
class Network:
    """An analysed model.

    Attributes:
        path: of its file. digest: SHA-256 of its files.
        analysis: of its graph.
        inputs: that have to be fed; those of half precision as float32.
        outputs: names of those that are floats.
        logits: names of outputs whose last axis holds logits.
        chances: names of outputs whose last axis holds probabilities of classes.
        words: those of ``logits`` whose last axis is a vocabulary.
        hidden: by chain of layers, the values between them: what enters the first layer, what leaves each.
        proto: the normalised model; of initializers in ``tensors`` without their values.
        tensors: large initializers by name, read when they are asked for.
        halves: types of half precision that are in it: ``FLOAT16``, ``BFLOAT16``.
    """

    path: Path
    digest: str
    analysis: Analysis
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    logits: frozenset[str]
    chances: frozenset[str]
    words: frozenset[str]
    hidden: Mapping[str, tuple[str, ...]]
    proto: onnx.ModelProto
    tensors: Mapping[str, ir.TensorProtocol]
    halves: frozenset[str] = frozenset()

    def form(self, extra: Sequence[str] = ()) -> Form:
        """Graph and weights, with the values named in ``extra`` as further outputs."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        ports = {port.name for port in proto.graph.output}
        for name in extra:
            if name not in ports:
                proto.graph.output.append(onnx.ValueInfoProto(name=name))  # of the type that it has
        return Form(proto, self.tensors)

    def wide(self, extra: Sequence[str] = ()) -> Form:
        """The same in float32 wherever the file is in half precision: what PyTorch trains."""
        form = self.form(extra)
        if self.halves:
            widen(form.graph)
        return form


def read_network(source: Source) -> Network:
    """Analyse an opened model.

    Raises:
        GraphError: it does not run.
        RecoverError: none of its outputs are floats.
    """
    analysis = analyse(source.model())
    inputs = tuple(map(_widened, input_specs(source.proto.graph)))
    outputs = tuple(
        port.name or "" for port in analysis.model.graph.outputs if port.dtype is not None and _is_float(port)
    )
    if not outputs:
        raise RecoverError(f"{source.path} has no output of floating-point numbers that a student could learn from")
    described = output_axes(analysis)
    logits = frozenset(name for name in outputs if name in described and described[name].logits)
    chances = frozenset(name for name in outputs if name in described and described[name].chances)
    words = frozenset(name for name in logits if described[name].roles[-1] == Role.VOCAB)
    tensors = apart(analysis.model.graph)
    proto = skeleton(analysis, {}, set(tensors), {})
    proto.graph.initializer.extend(announced(tensors))
    hidden = _hidden(analysis, {name for node in proto.graph.node for name in node.output})
    return Network(
        source.path, source.sha256(), analysis, inputs, outputs, logits, chances, words, hidden, proto,
        tensors, halves_of(proto),
    )  # fmt: skip


def _widened(spec: InputSpec) -> InputSpec:
    return replace(spec, dtype=np.dtype(np.float32)) if is_half(spec.dtype) else spec


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether numbers are of half precision: float16, or bfloat16, which NumPy knows as a type of others."""
    return dtype == np.float16 or dtype.name == "bfloat16"


def _is_float(port: Any) -> bool:
    return str(port.dtype.name) in ("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16")


def _hidden(analysis: Analysis, visible: set[str]) -> dict[str, tuple[str, ...]]:
    """The joints of every chain, by its name; those in the body of a loop cannot be seen from outside."""
    found: dict[str, tuple[str, ...]] = {}
    for chain, described in zip(analysis.chains, analysis.structure.chains, strict=True):
        nodes = [chain.layers[0].start, *(layer.end for layer in chain.layers)]
        names = [node.outputs[0].name or "" for node in nodes]
        if described.follows is None and all(name in visible for name in names):
            found[described.name] = tuple(names)
    return found


class Frozen:
    """A model in onnxruntime that only answers.

    Args:
        model: the path of its file, or the model itself: it lies in the temporary folder while it is opened, so that
            onnxruntime maps its large weights instead of holding them.
        outputs: names of the values that it is asked for.
        threads: of one operator; 0: as many as there are processors.
        chunk: samples that it takes at a time; None: any number.
        cuda: run on a CUDA device where onnxruntime can. number: of the device.

    Attributes:
        device: that it runs on, ``cpu`` or ``cuda``.
    """

    def __init__(
        self,
        model: Form | str,
        outputs: Sequence[str],
        *,
        threads: int = 0,
        chunk: int | None = None,
        cuda: bool = False,
        number: int = 0,
    ) -> None:
        self.outputs = tuple(outputs)
        self._chunk, self._threads = chunk, threads
        if isinstance(model, str):
            self._session = session(model, optimise=True, threads=threads, cuda=cuda, number=number)
        else:
            with Scratch(Path(tempfile.gettempdir()), "bot-onnx-recover") as folder:
                model.write(folder / "model.onnx")
                self._session = session(
                    str(folder / "model.onnx"), optimise=True, threads=threads, cuda=cuda, number=number
                )
        self.device = device_of(self._session)
        halves = {port.name: _FED.get(port.type) for port in self._session.get_inputs()}
        self._halved = {name: dtype for name, dtype in halves.items() if dtype is not None}

    def of(self, model: Form) -> Frozen:
        """Another form of the model, asked for the same on the CPU."""
        return Frozen(model, self.outputs, threads=self._threads, chunk=self._chunk)

    def run(
        self, feeds: Feeds, constant: frozenset[str] = frozenset(), outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Values by name, those of half precision as float32; a batch goes in chunks where the model's is fixed.

        Args:
            feeds: inputs, the samples along axis 0; float32 for those of half precision.
            constant: names of inputs that are the same for all samples.
            outputs: names of the values; None: all.
        """
        names = list(self.outputs if outputs is None else outputs)
        given = {name: array.astype(self._halved.get(name, array.dtype), copy=False) for name, array in feeds.items()}
        parts = [self._session.run(names, part) for part in chunks(given, self._chunk, constant)]
        found = {name: np.concatenate([part[place] for part in parts]) for place, name in enumerate(names)}
        return {name: array.astype(np.float32) if is_half(array.dtype) else array for name, array in found.items()}


def chunks(feeds: Feeds, size: int | None, constant: frozenset[str]) -> list[Feeds]:
    """A batch cut along axis 0 into pieces of ``size`` samples; whole where ``size`` is None."""
    if size is None:
        return [feeds]
    count = next(len(array) for name, array in feeds.items() if name not in constant)
    return [
        {name: array if name in constant else array[start : start + size] for name, array in feeds.items()}
        for start in range(0, count, size)
    ]


def fixed_batch(networks: Sequence[Network], batched: Sequence[str]) -> int | None:
    """Number of samples that the models take at a time, or None for any.

    Args:
        networks: the models.
        batched: names of the inputs that hold samples along axis 0.

    Raises:
        RecoverError: the models, or inputs of one, disagree.
    """
    sizes: dict[int, str] = {}
    for network in networks:
        for spec in network.inputs:
            if spec.name in batched and spec.shape and isinstance(spec.shape[0], int):
                sizes.setdefault(spec.shape[0], f"input {spec.name!r} of {network.path}")
    if len(sizes) > 1:
        told = ", ".join(f"{place} takes {size}" for size, place in sizes.items())
        raise RecoverError(f"the models do not take the same number of samples at a time: {told}; export them alike")
    return next(iter(sizes), None)
