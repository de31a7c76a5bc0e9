"""The one door to Optuna and Dask: where they are missing, the message says what to install."""

from __future__ import annotations

import importlib
from typing import Any

from bot_onnx._installing import needing


def optuna() -> Any:
    """Return the optuna module, which logs nothing but errors from then on.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    module = _imported("optuna", "Optuna keeps the results of a sweep")
    module.logging.set_verbosity(module.logging.ERROR)
    return module


def distributed() -> Any:
    """Return the ``distributed`` module of Dask.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    return _imported("distributed", "Dask runs trials side by side (one after the other: --jobs 1)")


def _imported(name: str, need: str) -> Any:
    with needing(need, "cpu", "sweep"):
        return importlib.import_module(name)
