"""One source for many resizes: opened and analysed once in a process, as long as it and what it is run on stay."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from bot_onnx import _engine
from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._inspecting import opened
from bot_onnx._onnxfile.reader import Source
from bot_onnx._origins import Origin
from bot_onnx._request import ResizeRequest
from bot_onnx._results import Result
from bot_onnx._runs.read_overrides import as_given
from bot_onnx.errors import GraphError


@dataclass(frozen=True, slots=True)
class _Opened:
    path: str
    inputs: Any
    shapes: Any
    source: Source
    analysis: Analysis
    stack: ExitStack

    def serves(self, path: str, request: ResizeRequest) -> bool:
        """Whether it is what a request would open: arrays in memory are known by the object."""
        given = self.inputs is request.inputs or (
            isinstance(self.inputs, str | PathLike) and self.inputs == request.inputs
        )
        if not given or (self.path, self.shapes) != (path, request.input_shapes):
            return False
        try:
            self.source.check_unchanged()
        except GraphError:
            return False  # whether it is still the same model is for others to say
        return True


class HeldSource:
    """The source of the last resize, kept for the next one."""

    def __init__(self) -> None:
        self._opened: _Opened | None = None

    def resize(self, path: str, request: ResizeRequest, output: Path) -> Result:
        """Resize a file as :meth:`bot_onnx._model.Model.resize` does.

        Raises:
            BotError: something was refused or failed; no output was left behind.
        """
        given = as_given(request.inputs, request.input_shapes)
        if self._opened is None or not self._opened.serves(path, request):
            self.close()
            with ExitStack() as stack:
                source = stack.enter_context(opened(Origin.of(path), given))
                source.check_resizable()
                analysis = analyse(source.model())
                self._opened = _Opened(
                    path, request.inputs, request.input_shapes, source, analysis, stack.pop_all()
                )  # fmt: skip
        held = self._opened
        try:
            return _engine.carry_out(
                Origin.of(path), request, request.target(), given, output, held=(held.source, held.analysis)
            )
        finally:
            if held.analysis.structure.single_kv_head:  # further heads change the graph for good
                self.close()

    def close(self) -> None:
        """Let the file go."""
        if self._opened is not None:
            self._opened.stack.close()
            self._opened = None
