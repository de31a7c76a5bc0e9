"""Names of places that are not on this machine: ``s3://bucket/model.onnx``, and whatever else fsspec knows.

Only :class:`bot_onnx._origins.Origin` reads from them (:mod:`bot_onnx._onnxfile.mirror`), and only
:mod:`bot_onnx._onnxfile.uploads` writes there. Whatever else is given one refuses it by name.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bot_onnx._installing import needing
from bot_onnx.errors import GraphError, MissingRuntimeError

# A drive of Windows has one letter; the hub has a reader of its own, and files of this machine need none.
_ADDRESS: Final = re.compile(
    r"(?!(?:hf|file|local):)(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?P<rest>.*)", re.DOTALL
)

if TYPE_CHECKING:
    _Path = Path
else:
    _Path = type(Path())


class Address(_Path):
    """A path that keeps the two slashes behind its protocol. Nothing on this machine lies there."""

    __slots__ = ()

    def __str__(self) -> str:
        """As it is written."""
        found = _ADDRESS.fullmatch(super().__str__())
        return super().__str__() if found is None else f"{found['protocol']}://{found['rest']}"


def as_address(name: Any) -> Address | None:
    """An address, where a name is one; None for paths of this machine.

    A path object writes one slash where the name has two. It is an address all the same, unless there is such a folder.
    """
    if not isinstance(name, str | os.PathLike):
        return None
    text = os.fspath(name)
    found = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if found is None or "\0" in text:
        return None
    here = "://" not in text and os.path.lexists(f"{found['protocol']}:")
    return None if here else Address(text)


def check_here(path: Path) -> None:
    """Refuse a model that is not on this machine, for who reads no other.

    Raises:
        GraphError: it has an address.
    """
    if (address := as_address(path)) is not None:
        raise GraphError(
            f"{address} is not on this machine: inspect, resize and verify read from there, and nothing else does; "
            "copy it here first"
        )


def connected(address: Address) -> tuple[Any, str]:
    """The file system of fsspec that an address is on, and its path there.

    Raises:
        MissingRuntimeError: fsspec, or its package for this protocol, is not installed.
        GraphError: no such protocol, or it cannot be reached.
    """
    with needing(f"fsspec reads and writes {address}", "remote"):
        import fsspec
    try:
        system, path = fsspec.core.url_to_fs(str(address))
    except ImportError as error:
        raise MissingRuntimeError(
            f"{address}: {first_line(error)}; the packages for protocols (s3: s3fs, gs: gcsfs, abfs: adlfs, http: "
            "aiohttp) are installed beside fsspec by whoever needs them"
        ) from error
    except Exception as error:  # file systems raise errors of many libraries
        raise GraphError(f"{address} cannot be reached: {first_line(error)}; check the address") from error
    return system, str(path)


def state(system: Any, path: str) -> tuple[int, str]:
    """Length of a file, and what changes with its content.

    Raises:
        Exception: whatever the file system raises.
    """
    system.invalidate_cache()
    told = system.info(path)
    if told.get("type") == "directory" or told.get("size") is None:
        raise IsADirectoryError("it is no file, or does not say how long it is")
    return int(told["size"]), str(system.ukey(path))


def first_line(error: BaseException) -> str:
    """What an error of another library says, in a line."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".;")
