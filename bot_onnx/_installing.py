"""Optional dependencies: what to say where one is missing, in the form that works for how bot-onnx was installed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from bot_onnx.errors import MissingRuntimeError

_NAME = "bot-onnx"


def install(*extras: str) -> str:
    """The command that brings the extras.

    Where the package came from a folder or an address, pip wrote that down (PEP 610, ``direct_url.json``): an index may
    not have it. Of a source tree that is not installed the tree itself is named.

    Returns:
        ``pip install 'bot-onnx[cpu]'``, with the origin in place of the name or behind it.
    """
    wanted = ",".join(extras)
    try:
        text = distribution(_NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        return _pip(f"{Path(__file__).resolve().parents[1]}[{wanted}]")
    origin = json.loads(text) if text else {}
    if "dir_info" in origin:
        folder = url2pathname(urlsplit(origin["url"]).path)  # which undoes its percent signs
        return _pip(f"{folder}[{wanted}]", editable=bool(origin["dir_info"].get("editable")))
    if "url" in origin:
        kind = origin.get("vcs_info", {}).get("vcs")
        return _pip(f"{_NAME}[{wanted}] @ {kind + '+' if kind else ''}{origin['url']}")
    return _pip(f"{_NAME}[{wanted}]")


@contextmanager
def needing(need: str, *extras: str) -> Iterator[None]:
    """Say what to install where an import inside the block fails.

    Args:
        need: what it is needed for, as the beginning of a sentence. extras: that bring it.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        command = install(*extras)
        raise MissingRuntimeError(f"{need}, and is not installed. Install it with: {command}") from error


def _pip(what: str, *, editable: bool = False) -> str:
    return f"pip install {'-e ' if editable else ''}{shlex.quote(what)}"
