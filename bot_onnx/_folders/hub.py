"""``hf://organisation/name``: a folder of the Hugging Face hub, fetched by its own client (the extra ``hub``)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from bot_onnx._installing import install
from bot_onnx.errors import GraphError, MissingRuntimeError

#: A path object writes one slash where the name has two.
_NAME: Final = re.compile(r"hf:/{1,2}(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
#: Weights of frameworks, which no resize of an ONNX file reads.
_UNREAD: Final = ("*.safetensors", "pytorch_model*", "*.bin", "*.h5", "*.msgpack", "*.ot", "*.gguf", "*.pt", "*.pth")


def is_hub_name(name: str | bytes) -> bool:
    """Whether a name means a folder of the hub."""
    return isinstance(name, str) and name.startswith("hf:/")


def fetched(name: str) -> tuple[str, Path]:
    """Fetch a folder, or find it among those that the client keeps.

    Args:
        name: ``hf://organisation/name``, with ``@revision`` where it is not the main one.

    Returns:
        The name as it is written, and the path of the folder.

    Raises:
        MissingRuntimeError: the client is not installed.
        GraphError: no such name, or it cannot be fetched.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise GraphError(f"'{name}' is no folder of the hub: write hf://organisation/name, or …/name@revision")
    label = "hf://" + name.partition("/")[2].lstrip("/")
    try:
        import huggingface_hub
    except ImportError:
        raise MissingRuntimeError(
            f"{label}: fetching needs huggingface_hub; install it with {install('hub')}"
        ) from None
    try:
        path = huggingface_hub.snapshot_download(
            found["repository"], revision=found["revision"], ignore_patterns=list(_UNREAD)
        )
    except Exception as error:  # the client and what it fetches with raise errors of many libraries
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise GraphError(f"{label} cannot be fetched: {lines[0]}") from error
    return label, Path(path)
