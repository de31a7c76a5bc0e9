"""The parts of the API's results that reports read, as protocols: ``api`` lies after this folder, not before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from bot_onnx._costs import Costs
from bot_onnx._learn.types import Learned
from bot_onnx._structure import Structure
from bot_onnx._surgery.types import Plan
from bot_onnx._verify.types import Check, VerifyReport

#: Name, ONNX data type and shape (symbolic sizes as texts) of a graph input or output.
Value = tuple[str, str, tuple[int | str, ...]]


class InspectionView(Protocol):
    """What ``inspect`` returns."""

    @property
    def path(self) -> str:
        """The model file."""

    @property
    def structure(self) -> Structure:
        """The analysis."""

    @property
    def opset(self) -> int:
        """Version of the default operator set."""

    @property
    def producer(self) -> str:
        """Name and version of the exporter, as the file gives them."""

    @property
    def size_bytes(self) -> int:
        """Size of the file, external weights included."""

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Graph inputs without the initializers."""

    @property
    def outputs(self) -> tuple[Value, ...]:
        """Graph outputs."""

    @property
    def costs(self) -> Costs:
        """Parameters, bytes of weights and multiply-accumulates, chain by chain."""


class ResultView(Protocol):
    """What ``resize`` returns."""

    @property
    def plan(self) -> Plan:
        """What was done."""

    @property
    def report(self) -> VerifyReport:
        """The checks of the written file."""

    @property
    def output(self) -> Path:
        """The written file."""

    @property
    def seconds(self) -> float:
        """Wall time of the whole resize."""

    @property
    def learned(self) -> Learned | None:
        """How the operators were trained, where they were."""


class TogetherView(Protocol):
    """What a resize of several files returns."""

    @property
    def plans(self) -> Mapping[str, Plan]:
        """By name of the file."""

    @property
    def results(self) -> Mapping[str, ResultView]:
        """By name of the file; empty where nothing was written."""

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Output and input, each with the file's name."""

    @property
    def checks(self) -> tuple[Check, ...]:
        """Of the files with one another."""

    @property
    def output(self) -> Path | None:
        """The folder that was written."""

    @property
    def seconds(self) -> float:
        """Wall time of it all."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the folder cannot say."""
