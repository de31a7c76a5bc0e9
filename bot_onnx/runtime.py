"""The one door to onnxruntime: a missing runtime is explained once, sessions are made alike everywhere."""

from __future__ import annotations

from typing import Any

from bot_onnx.errors import MissingRuntimeError


def onnxruntime() -> Any:
    """Return the onnxruntime module.

    Raises:
        MissingRuntimeError: it is not installed; the message names the extra that brings it.
    """
    try:
        import onnxruntime as module
    except ImportError as error:
        raise MissingRuntimeError(
            "onnxruntime is needed to read shapes and to verify models, and is not installed. "
            "Install it with: pip install 'bot-onnx[cpu]'  (or 'bot-onnx[gpu]' for CUDA)"
        ) from error
    module.disable_telemetry_events()
    return module


def session(model: str | bytes, *, optimise: bool = False, threads: int = 0) -> Any:
    """Open an ``InferenceSession`` on the CPU, quiet, with graph optimisations off unless asked for."""
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    if not optimise:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
