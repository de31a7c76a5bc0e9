"""``bot_onnx.quantize``: the same as the command, for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bot_onnx._progress import Progress, told
from bot_onnx._quantise.jobs import PathOrName
from bot_onnx._quantise.jobs import quantise as run
from bot_onnx._quantise.types import Kind, Quantised, QuantiseRequest
from bot_onnx._request import InputsLike
from bot_onnx._runs.read_overrides import as_given
from bot_onnx._shards import ExternalLike, as_external


def quantize(
    model: PathOrName,
    output: PathOrName,
    *,
    to: Kind,
    calibration: PathOrName | None = None,
    inputs: InputsLike | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    external: ExternalLike | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Quantised:
    """Quantise a model in floating point, and measure what that costs and gains.

    The output appears under its name only when it is whole, loads and runs; ``model`` is only read.

    Args:
        model: path of the model. output: path of the new one.
        to: what the weights become: ``int8``, ``int4`` or ``fp16``.
        calibration: an ``.npz`` file of samples, an array per input: both files are compared on them, and ``int8``
            finds its scales of activations there.
        inputs: what the files are compared on where there is no calibration: arrays by input, or an ``.npz`` file of
            them. input_shapes: shapes by input, for inputs that are made up.
        external: store the weights beside the model; None: as the source does; a text such as ``2GB``: in several
            files, of at most that size.
        force: replace an existing output.
        progress: called with (what, done, in all) as it goes on; 0 of 0 where nothing is counted.

    Returns:
        What was quantised and what was left, how far every output is from the floats', sizes and times.

    Raises:
        GraphError: the model is quantised already, there is nothing to quantise, or the quantiser fails.
        VerifyError: what came out is no right file; nothing is kept.
        BotError: the files or the samples are not what they should be.
    """
    samples = None if calibration is None else Path(calibration)
    request = QuantiseRequest(to, samples, as_given(inputs, input_shapes), as_external(external), force)
    read = (Path(inputs),) if isinstance(inputs, str | Path) else ()
    with told(progress):
        return run(model, output, request, read_only=read)
