"""Where the published specs lie: inside the installed package, or at the top of a source checkout."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from bot_onnx._target.messages import suggestion
from bot_onnx._target.reader import parse_object
from bot_onnx.errors import SpecError


def folder() -> Traversable:
    """Return the folder of the published specs.

    Raises:
        SpecError: neither the package nor a checkout around it holds one.
    """
    packaged = resources.files("bot_onnx").joinpath("specs")
    if packaged.is_dir():
        return packaged
    root = Path(__file__).resolve().parents[2]
    # Beside an installed package a folder called "specs" would be somebody else's.
    if (root / "pyproject.toml").is_file() and (root / "specs").is_dir():
        return root / "specs"
    raise SpecError("the published specs are missing from this installation; reinstall bot-onnx or give a JSON file.")


def names() -> tuple[str, ...]:
    """Return the names of the published specs: by family, then from small to large."""
    order = {"ti": 0, "s": 1, "b": 2, "l": 3}
    found = [entry.name.removesuffix(".json") for entry in folder().iterdir() if entry.name.endswith(".json")]

    def key(name: str) -> tuple[str, int, str]:
        family, _, size = name.rpartition("-")
        return family, order.get(size, len(order)), name

    return tuple(sorted(found, key=key))


def read(name: str) -> dict[str, Any]:
    """Read a published spec as plain JSON data.

    Raises:
        SpecError: no such name; the message lists those there are.
    """
    known = names()
    if name not in known:
        raise SpecError(
            f"no published spec is called '{name}'{suggestion(name, known) or '.'} Published: {', '.join(known)}"
        )
    return parse_object(folder().joinpath(f"{name}.json").read_text(encoding="utf-8"), name)
