"""The one door to onnxruntime: a missing runtime is explained once, sessions are made alike everywhere."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final, Literal

from bot_onnx._installing import install
from bot_onnx._progress import LOGGER
from bot_onnx.errors import GraphError, MissingRuntimeError

#: Seconds that a network with loops may run on inputs of some numbers each: no trained one needs as many.
LOOP_SECONDS: Final = 30.0
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
#: Products in float32 as they are: TensorFloat-32 has ten bits, and a comparison would show it.
_EXACT: Final = {"use_tf32": "0"}


class EndlessError(GraphError):
    """A network's loops do not end."""


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
            f"Install it with: {install('cpu')}  (or, for CUDA: {install('gpu')})"
        ) from error
    module.disable_telemetry_events()
    return module


def session(
    model: str | bytes,
    *,
    optimise: bool = False,
    threads: int = 0,
    prepack: bool = True,
    shapes_first: bool = False,
    arena: bool = False,
    cuda: bool = False,
    number: int = 0,
    folder: str | None = None,
) -> Any:
    """Open an ``InferenceSession`` for a run or two: quick to open, small in memory, quiet.

    Args:
        model: path or serialised message.
        optimise: run onnxruntime's graph optimisations.
        threads: of one operator; 0: as many as there are processors. Where the system gives no thread, the one that
            calls does the work.
        prepack: keep copies of weights in the order that the kernels like best.
        arena: keep and plan buffers as onnxruntime does by default, for runs whose time counts.
        cuda: on a CUDA device, where this onnxruntime can use it and takes the model there; else on the CPU.
        number: of that device, where there are several.
        shapes_first: run each Shape node as soon as it can, so that a buffer which only waits for it is freed; and
            widen a float16 weight when it is wanted, not all of them before the first op.
        folder: where the data files of a message lie.
    """
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # The arena would keep the largest buffers and grow by powers of two, and planning which buffers to use again takes
    # time that grows with the square of the graph; a buffer is freed after its last use in any case.
    options.enable_cpu_mem_arena = arena
    options.enable_mem_pattern = arena
    options.enable_mem_reuse = arena
    if shapes_first:
        options.execution_order = runtime.ExecutionOrder.PRIORITY_BASED
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if not optimise:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if cuda and _CUDA in runtime.get_available_providers():
        exact = (_CUDA, {**_EXACT, **({"device_id": str(number)} if number else {})})
        try:  # a library that is missing, or an op: the CPU says what is wrong with the model
            return runtime.InferenceSession(model, options, providers=[exact, _CPU], enable_fallback=0)
        except Exception as error:
            tell_fallback(error)
    elif cuda:
        LOGGER.warning("this onnxruntime has no CUDA: the model runs on the CPU")
    try:
        return _open(runtime, model, options)
    except RuntimeError as error:
        if type(error) is not RuntimeError or threads == 1:  # what is wrong with a model has a type of its own
            raise
    options.intra_op_num_threads = 1
    return _open(runtime, model, options)


def tell_fallback(error: Exception) -> None:
    """Log that a model runs on the CPU, since a CUDA device did not take it."""
    LOGGER.warning("the model runs on the CPU, not on CUDA: %s", " ".join(str(error).split())[:200])


def device_of(opened: Any) -> Literal["cpu", "cuda"]:
    """The device that a session was opened for."""
    return "cuda" if _CUDA in opened.get_providers() else "cpu"


def _open(runtime: Any, model: str | bytes, options: Any) -> Any:
    # Falling back from one provider to itself would only print to stdout.
    return runtime.InferenceSession(model, options, providers=[_CPU], enable_fallback=0)


def run_within(runner: Any, feeds: Mapping[str, Any], seconds: float) -> list[Any]:
    """All outputs of a session; a run that lasts longer is ended between two of its ops.

    Raises:
        EndlessError: it lasted longer.
    """
    options = onnxruntime().RunOptions()
    options.log_severity_level = 4
    ended = threading.Event()

    def end() -> None:
        ended.set()
        options.terminate = True

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        found: list[Any] = runner.run(None, dict(feeds), options)
        return found
    except Exception as error:  # onnxruntime's errors have no public base class
        if not ended.is_set():
            raise
        raise EndlessError(
            f"the model's loops did not end within {seconds:.0f} seconds on small inputs: give inputs on which they do "
            "(--inputs FILE.npz), or export the model without them"
        ) from error
    finally:
        timer.cancel()
