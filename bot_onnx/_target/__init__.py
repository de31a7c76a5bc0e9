"""The target spec: its schema, its readers (our JSON, HuggingFace configs, the published ones), and the solver.

Import from here: :class:`TargetSpec`, :func:`solve` with :class:`Solution`, the catalogue functions that the ``specs``
command prints, and the formula and flag helpers. The other modules are this folder's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot_onnx._deferred import deferred

if TYPE_CHECKING:
    from bot_onnx._target.catalog import SpecSummary, list_specs, show_spec, spec_schema
    from bot_onnx._target.flags import parse_assignments, parse_layers
    from bot_onnx._target.formula import evaluate, size_names
    from bot_onnx._target.keep import Criterion, KeptLayers, LayersBy, Refit
    from bot_onnx._target.kept_layers import Picks
    from bot_onnx._target.schema import Reference, TargetSpec
    from bot_onnx._target.solver import Solution, solve

__all__ = [
    "Criterion",
    "KeptLayers",
    "LayersBy",
    "Picks",
    "Reference",
    "Refit",
    "Solution",
    "SpecSummary",
    "TargetSpec",
    "evaluate",
    "list_specs",
    "parse_assignments",
    "parse_layers",
    "show_spec",
    "size_names",
    "solve",
    "spec_schema",
]

__getattr__ = deferred(
    __name__,
    {
        "bot_onnx._target.catalog": "SpecSummary list_specs show_spec spec_schema",
        "bot_onnx._target.flags": "parse_assignments parse_layers",
        "bot_onnx._target.formula": "evaluate size_names",
        "bot_onnx._target.keep": "Criterion KeptLayers LayersBy Refit",
        "bot_onnx._target.kept_layers": "Picks",
        "bot_onnx._target.schema": "Reference TargetSpec",
        "bot_onnx._target.solver": "Solution solve",
    },
)
