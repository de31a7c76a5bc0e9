"""A case: a network, how it is built at its source size, and the sizes it is resized to.

Cases are plain data: nothing here imports PyTorch, and a case can be compared, hashed and sent to another process.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import torch

EXPORTERS = ("torchscript17", "dynamo18")
"""Exporter and opset: PyTorch's older TorchScript exporter at 17, its ``dynamo=True`` one at 18."""

PUBLISHED = "published"
"""Stands in an exporter's place where a file is taken as its publisher wrote it."""

TARGETS = ("smaller", "larger", "other")
SUITES = ("listed", "transformers", "timm", "forms", "real")

Status = Literal["equal", "frozen", "refused", "wrong", "failed", "not exportable", "timeout"]


class NotBuildable(Exception):
    """A network that the library has, but that cannot be built small, or not at all here; the message says why."""


class Built(NamedTuple):
    """A network ready to export.

    Attributes:
        module: in eval mode; takes the inputs in order, returns a tensor or a tuple of tensors.
        inputs: example inputs.
        input_names: in the order of ``inputs``.
        open_axes: input name -> {axis: symbol of its size at run time}.
        output_names: of the first outputs; the exporter names the rest.
    """

    module: torch.nn.Module
    inputs: tuple[torch.Tensor, ...]
    input_names: tuple[str, ...]
    open_axes: dict[str, dict[int, str]]
    output_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to build a network: ``"module:function"`` and its options, which are JSON data.

    Under the exporter :data:`PUBLISHED` the options are ``package`` and ``file``: the end of an installed file's path.

    ``form``: what becomes of the exported file, a name in :data:`benchmarks.coverage.forms.FORMS`; empty: nothing.
    """

    builder: str
    options: Mapping[str, Any]
    form: str = ""

    def key(self) -> str:
        """What an export depends on, besides the exporter: the options, and the source of the builder's module."""
        source = _source_hash(self.builder.partition(":")[0])
        form = [self.form, _source_hash("benchmarks.coverage.forms")] if self.form else []
        return json.dumps([self.builder, source, self.options, *form], sort_keys=True, default=str)


def _source_hash(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Target:
    """A size to resize to.

    Attributes:
        spec: what is asked of bot-onnx.
        native: the same network built at that size; None where its library cannot: a weaker proof stands in.
    """

    spec: Mapping[str, Any]
    native: Recipe | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A network and what is done to it.

    Attributes:
        name: of the architecture or family.
        suite: one of :data:`SUITES`.
        source: how it is built.
        targets: by name, see :data:`TARGETS`.
        exporters: those that can export it.
    """

    name: str
    suite: str
    source: Recipe
    targets: Mapping[str, Target]
    exporters: tuple[str, ...] = EXPORTERS


@dataclass(frozen=True, slots=True)
class Row:
    """The outcome of one cell: a case, an exporter, a target.

    Attributes:
        status: ``equal``: right. ``frozen``: refused because dims cannot be resized. ``refused``: for another reason,
            by name. ``wrong``: a file was written that computes something else. ``failed``: an error that is not one
            of bot-onnx's own, or that its own verification caught. ``not exportable``: the exporter or onnxruntime
            cannot do it. ``timeout``: given up.
        detail: which dims, why, or where.
        proof: ``native``: the outputs of a native export with the same weights; ``growth``: the file passes its
            checks, and grown by exact duplication the network computes what it did.
        distance: largest relative difference of outputs, where there is one.
        proven: what the plan's own proof says: ``proven``, ``failed``, ``nothing to prove``; empty where there was no
            plan. kept: whether the plan promises to keep the function; None: nothing is known.
        seconds: processor time of resize and comparison. export_seconds: that of exports that were not cached.
        engine: hash of bot_onnx's source.
    """

    suite: str
    case: str
    exporter: str
    target: str
    status: Status
    detail: str = ""
    proof: str = ""
    distance: float | None = None
    proven: str = ""
    kept: bool | None = None
    seconds: float = 0.0
    export_seconds: float = 0.0
    engine: str = ""
    key: str = field(default="", compare=False)

    @property
    def cell(self) -> tuple[str, str, str, str]:
        """What the row is about."""
        return self.suite, self.case, self.exporter, self.target

    def as_json(self) -> dict[str, Any]:
        """All fields, as JSON data."""
        return asdict(self)
