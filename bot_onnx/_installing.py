"""How an optional dependency is installed: the command that works for how bot-onnx itself was installed."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

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


def _pip(what: str, *, editable: bool = False) -> str:
    return f"pip install {'-e ' if editable else ''}{shlex.quote(what)}"
