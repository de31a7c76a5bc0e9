"""What a plan says of a training of its operators, and what such a training refuses before any work."""

from __future__ import annotations

import hashlib
from os import PathLike
from pathlib import Path
from typing import Any

from bot_onnx._analysis.passes import Analysis
from bot_onnx._recover.ranks import check_alone
from bot_onnx._request import Learning, ResizeRequest
from bot_onnx.errors import RecoverError

_OTHERS = frozenset({"FLOAT16", "BFLOAT16", "DOUBLE"})


def record(asked: Learning) -> dict[str, Any]:
    """The training as a plan and the file's metadata have it: numbers, settings, and hashes of what is read.

    Raises:
        RecoverError: there are no data.
    """
    data = Path(asked.data)
    if not data.exists():
        raise RecoverError(f"there is no data at {data}: give --data a folder of images, a text file or an .npz file")
    reading = {key: _plain(value) for key, value in sorted(dict(asked.reading or {}).items()) if value is not None}
    return {
        "steps": asked.steps,
        "rate": asked.rate,
        "batch": asked.batch,
        "mix": asked.mix,
        "held_out": asked.held_out,
        "data_sha256": _sha256(data),
        "reading": reading,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, str | PathLike):
        return {"sha256": _sha256(Path(value))} if Path(value).exists() else str(value)
    return list(value) if isinstance(value, tuple) else value


def _sha256(path: Path) -> str:
    """Of a file; of a folder, of the names and contents of all files in it."""
    made = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                made.update(block)
        return made.hexdigest()
    for inner in sorted(each for each in path.rglob("*") if each.is_file()):
        made.update(f"{inner.relative_to(path).as_posix()} {_sha256(inner)}\n".encode())
    return made.hexdigest()


def check_learnable(request: ResizeRequest, analysis: Analysis, label: str) -> None:
    """Refuse sources whose operators are not trained.

    Raises:
        RecoverError: the source is quantised or has weights of another type than float32, the result is to be
            quantised again, or several processes were started.
    """
    check_alone("--learn")
    scheme = analysis.form.scheme
    if scheme is not None:
        raise RecoverError(
            f"--learn trains float32 networks, and the weights of {label} are quantised ({scheme.kind}): resize the "
            "floating-point model that it was made from, or leave --learn out"
        )
    if request.requantize:
        raise RecoverError("--requantize is for quantised sources, which --learn does not train: leave one out")
    for stack in analysis.structure.stacks:
        if stack.closed_form is None and stack.dtype in _OTHERS:
            raise RecoverError(
                f"--learn trains float32 networks, and weight {stack.tensors[0]!r} of {label} is {stack.dtype}: "
                "convert the model to float32, or leave --learn out"
            )
