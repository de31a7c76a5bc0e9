"""The one door to Optuna: where it is missing, the message says what to install."""

from __future__ import annotations

import importlib
from typing import Any

from bot_onnx._installing import needing


def optuna() -> Any:
    """Return the optuna module, which logs nothing but errors from then on.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    with needing("Optuna keeps the results of a sweep", "cpu", "sweep"):
        module = importlib.import_module("optuna")
    module.logging.set_verbosity(module.logging.ERROR)
    return module
