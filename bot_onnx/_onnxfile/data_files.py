"""Data files that are named after what they hold, so that a model never meets the weights of another.

The weights of ``small.onnx`` lie in ``small.onnx.<12 digits>.data``, the digits being the start of the SHA-256 of the
weights. A new pair of files gets other names than the old one, so that whichever of the two model files stands, the
weights that it names are its own. The file ends with the whole digest: opening a model compares the two, which costs
one read of some bytes. Several files are ``small.onnx.<12 digits>-00001-of-00003.data`` and so on, each named after the
weights in itself.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError

from bot_onnx._onnxfile import skeleton_scan
from bot_onnx._onnxfile.tensor_protos import all_tensors
from bot_onnx._onnxfile.weight_files import WeightFile
from bot_onnx.errors import GraphError

_DIGITS: Final = 12
_NAME: Final = re.compile(
    rf"(?P<model>.+)\.(?P<digits>[0-9a-f]{{{_DIGITS}}})(-(?P<number>[0-9]{{5,}})-of-[0-9]{{5,}})?\.data", re.DOTALL
)
_MARK: Final = b"bot_onnx weights"

#: Length of what follows the weights: the mark and their SHA-256.
SEAL_BYTES: Final = len(_MARK) + 32

#: Stands for a digest that is not known yet: all names have the same length.
UNKNOWN: Final = "0" * 64


#: Name of a model's only data file among its :class:`bot_onnx._onnxfile.byte_layout.Placement`.
DATA: Final = "data"


def data_name(model: str, digest: str, number: int = 1, count: int = 1) -> str:
    """Name of a data file.

    Args:
        model: name of the model file. digest: hex SHA-256 of the weights in it.
        number, count: which it is, from 1 on, of how many.
    """
    place = "" if count == 1 else f"-{number:05d}-of-{count:05d}"
    return f"{model}.{digest[:_DIGITS]}{place}.data"


def data_key(number: int, count: int) -> str:
    """What a data file is called before its name is known: ``data``, or ``data-00002`` of several."""
    return DATA if count == 1 else f"{DATA}-{number:05d}"


def key_of(name: str) -> str | None:
    """The :func:`data_key` of the file that has a name; None: it is no data file's."""
    named = _NAME.fullmatch(name)
    if named is None:
        return None
    return DATA if named["number"] is None else f"{DATA}-{named['number']}"


def seal(digest: str) -> bytes:
    """What stands behind the weights."""
    return _MARK + bytes.fromhex(digest)


def check_seal(location: str, file: WeightFile, place: str) -> None:
    """Refuse a data file whose name promises other weights than its end tells of.

    Files of other programs, which end otherwise or have other names, pass.

    Args:
        location: what the model calls the file. file: the file. place: of the tensor, for the message.

    Raises:
        GraphError: they are two files of two models.
    """
    named = _NAME.fullmatch(location.replace("\\", "/").rsplit("/", 1)[-1])
    if named is None or file.size < SEAL_BYTES:
        return
    end = file.read(file.size - SEAL_BYTES, SEAL_BYTES).tobytes()
    if end.startswith(_MARK) and not end[len(_MARK) :].hex().startswith(named["digits"]):
        raise GraphError(
            f"{place} keeps its values in {location!r}, but that file holds the weights of another model (SHA-256 "
            f"{end[len(_MARK) :].hex()[:_DIGITS]}…): the two do not belong together; copy the data file of this model, "
            "or write the pair again"
        )


def is_named_after(name: str, model: str) -> bool:
    """Whether a data file's name says whose it is, and that this is a model of a certain name."""
    found = _NAME.fullmatch(name)
    return found is not None and found["model"] == model


def own_data(model: Path) -> frozenset[str]:
    """Names of the data files that are named after a model, lie beside it, and that it reads.

    Args:
        model: path of the model, which may be missing or no model at all.
    """
    try:
        entries = [entry.name for entry in model.parent.iterdir()]
    except OSError:
        return frozenset()
    named = {name for name in entries if is_named_after(name, model.name)}
    return frozenset(named & locations(model)) if named else frozenset()


def is_read(data: Path, also: Path) -> bool:
    """Whether a model in the same folder reads its values from a data file.

    Args:
        data: the file.
        also: a model that counts whatever its name ends in; others are those with the same ending, and ``.onnx``.
    """
    endings = {".onnx", also.suffix}
    return any(
        data.name in locations(entry)
        for entry in data.parent.iterdir()
        if entry == also or (entry.suffix in endings and not entry.name.startswith("."))
    )


def locations(model: Path) -> frozenset[str]:
    """Data files that a model names; none where it cannot be read."""
    proto = _skeleton(model)
    return frozenset() if proto is None else _locations(proto)


def named_in(file: WeightFile) -> frozenset[str] | None:
    """Data files that an open model names; None where it is no model."""
    proto = _parsed(file)
    return None if proto is None else _locations(proto)


def _locations(proto: onnx.ModelProto) -> frozenset[str]:
    entries = (entry for _, tensor in all_tensors(proto) for entry in tensor.external_data)
    named = (entry.value for entry in entries if entry.key == "location")
    return frozenset(name for name in named if isinstance(name, str) and name and "\0" not in name)


def metadata_of(model: Path) -> dict[str, str]:
    """The metadata of a model; empty where it cannot be read."""
    proto = _skeleton(model)
    return {} if proto is None else {entry.key: entry.value for entry in proto.metadata_props}


def _skeleton(model: Path) -> onnx.ModelProto | None:
    """A model without its weights; None where it cannot be read."""
    try:
        if not model.is_file():
            return None
        file = WeightFile(model)
    except (GraphError, OSError):
        return None
    try:
        return _parsed(file)
    finally:
        file.close()


def _parsed(file: WeightFile) -> onnx.ModelProto | None:
    proto = onnx.ModelProto()
    try:
        # A tensor's values in the file itself are told apart from those elsewhere by a name that no file has.
        proto.ParseFromString(skeleton_scan.scan(file.scanned(), "\0").data)
    except (GraphError, DecodeError, OSError):
        return None
    return proto


def named_files(model: Path) -> list[Path]:
    """Paths of the data files that a model names, wherever they lie; some may be missing."""
    return [model.parent / name for name in sorted(locations(model))]
