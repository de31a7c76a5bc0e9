"""What is seen of a model without asking what may become of it: a file, opened for a while, and its inspection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bot_onnx._analysis.overview import overview_of
from bot_onnx._analysis.passes import analyse
from bot_onnx._costs import sizing_of
from bot_onnx._onnxfile.header import port_of, producer_of
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.reader import Source
from bot_onnx._origins import Origin
from bot_onnx._progress import stage
from bot_onnx._results import Inspection


@contextmanager
def opened(origin: Origin, given: Given | None = None) -> Iterator[Source]:
    """A model, open for as long as the block runs."""
    with origin.source(given) as source:
        yield source


def inspect_model(origin: Origin, given: Given | None) -> Inspection:
    """Analyse a model; see :meth:`bot_onnx._model.Model.inspect`."""
    stage(f"analysing {origin.label}")
    with opened(origin, given) as source:
        loaded = source.model()
        analysis = analyse(loaded)
        source.check_unchanged()
        return Inspection(
            path=origin.label,
            structure=replace(analysis.structure, overview=overview_of(analysis)),
            opset=loaded.opset_imports.get("", 0),
            producer=producer_of(loaded),
            size_bytes=source.size_bytes,
            inputs=tuple(map(port_of, loaded.graph.inputs)),
            outputs=tuple(map(port_of, loaded.graph.outputs)),
            costs=sizing_of(analysis).costs(),
        )
