"""What is looked at of each of several files: its structure, its ports by dims, the tensors that it holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx_ir as ir

from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._axes.dims import MaybeDim
from bot_onnx._inspecting import opened
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._origins import Origin
from bot_onnx._progress import stage
from bot_onnx._structure import Structure

_FEWEST = 2  #: axes of a tensor that may be told to be another file's as well: vectors are alike by chance


@dataclass(frozen=True, slots=True)
class Member:
    """One of the files.

    Attributes:
        name: how it is called in links, specs and messages: the file's name without its ending.
        path: of the file. file: its place in the output.
    """

    name: str
    path: Path
    file: str

    @property
    def origin(self) -> Origin:
        """For the engine."""
        return Origin.of(self.path)


class Ports(Protocol):
    """What links are found by: names of inputs and outputs."""

    @property
    def member(self) -> Member:
        """The file."""

    @property
    def inputs(self) -> Mapping[str, object]:
        """By name."""

    @property
    def outputs(self) -> Mapping[str, object]:
        """By name."""


@dataclass(frozen=True, slots=True)
class Named:
    """The names of a file's ports, before it is analysed: see :class:`Ports`."""

    member: Member
    inputs: Mapping[str, object]
    outputs: Mapping[str, object]


def named(member: Member, path: Path | None = None) -> Named:
    """Read the names of a file's ports.

    Args:
        member: the file. path: of another one in its stead.

    Raises:
        GraphError: it cannot be read.
    """
    with open_model(member.path if path is None else path) as source:
        graph = source.proto.graph
        weights = {tensor.name for tensor in graph.initializer}
        return Named(
            member,
            {value.name: None for value in graph.input if value.name not in weights},
            {value.name: None for value in graph.output},
        )


@dataclass(frozen=True, slots=True)
class PortAxis:
    """An axis of a port: its size, its dim, and the leaves of that in order; no dim where it is set at run time."""

    size: int
    dim: str | None
    leaves: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """What a file shows to the others.

    Attributes:
        member: the file. structure: of it.
        inputs, outputs: axes by name.
        kinds: data type by name of a port.
        tensors: digest of the values by name of an initializer, of matrices that are not one number throughout.
    """

    member: Member
    structure: Structure
    inputs: Mapping[str, tuple[PortAxis, ...]]
    outputs: Mapping[str, tuple[PortAxis, ...]]
    kinds: Mapping[str, str]
    tensors: Mapping[str, str]

    @property
    def name(self) -> str:
        """How it is called."""
        return self.member.name


def view(member: Member, given: Given | None = None) -> View:
    """Analyse a file.

    Args:
        member: the file. given: what it is run on, and which of its ports are linked.

    Raises:
        GraphError: it cannot be read or run.
    """
    stage(f"analysing {member.path}")
    with opened(member.origin, given) as source:
        source.check_resizable()
        analysis = analyse(source.model())
        graph = analysis.model.graph
        ports: Sequence[ir.Value] = [*graph.inputs, *graph.outputs]
        return View(
            member,
            analysis.structure,
            {value.name or "": _axes(analysis, value) for value in graph.inputs},
            {value.name or "": _axes(analysis, value) for value in graph.outputs},
            {value.name or "": value.dtype.name if value.dtype else "?" for value in ports},
            _digests(analysis.tensors(), (name for stack in analysis.structure.stacks for name in stack.tensors)),
        )


def _axes(analysis: Analysis, value: ir.Value) -> tuple[PortAxis, ...]:
    return tuple(_axis(analysis, dim) for dim in analysis.context.axes_of(value))


def _axis(analysis: Analysis, dim: MaybeDim) -> PortAxis:
    if dim is None:
        return PortAxis(1, None)
    table, ids = analysis.context.table, analysis.ids
    root = table.find(dim)
    size = analysis.size(root)[0]
    leaves = tuple(ids.get(leaf, "") for leaf in table.leaves(root))
    if not table.is_static(root):
        return PortAxis(0, None)
    return PortAxis(size, ids.get(root), leaves if all(leaves) else ())


def _digests(tensors: Mapping[str, ir.TensorProtocol], names: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        tensor = tensors[name]
        if len([size for size in tensor.shape.numpy() if size != 1]) < _FEWEST:
            continue
        array = np.ascontiguousarray(tensor.numpy())
        values = array.reshape(-1)
        if bool((values[:1] == values).all()):
            continue
        digest = hashlib.sha256(f"{tensor.dtype} {array.shape}".encode())
        digest.update(values.view(np.uint8).data)
        found[name] = digest.hexdigest()
    return found
