"""Where the weights of an output lie, as it is asked for: inside the model, in a file beside it, or in several."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from bot_onnx.errors import OutputError

_DECIMAL: Final = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS: Final = _DECIMAL | {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


@dataclass(frozen=True, slots=True)
class Shards:
    """Weights in several files beside the model.

    Attributes:
        limit: most bytes of a file. One that holds a single tensor is as long as that.
    """

    limit: int

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise OutputError(f"--shard-size {self.limit}: a file of weights has one byte at least; such as 2GB")

    @classmethod
    def of(cls, text: str) -> Shards:
        """Read ``2GB``, ``500MiB`` or a number of bytes.

        Raises:
            OutputError: it is none; the message gives an example.
        """
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*", text)
        unit = found[2].lower() if found else ""
        if found is None or unit not in _UNITS:
            known = ", ".join(filter(None, _UNITS))
            raise OutputError(f"--shard-size {text!s:.40}: give a number and a unit ({known}), such as 2GB")
        return cls(int(float(found[1]) * _UNITS[unit]))


External = bool | Shards  #: False: inside where that can be; True: in one file beside the model
ExternalLike = External | str  #: a text is the most bytes of each of several files, such as ``2GB``


def as_external(asked: ExternalLike | None) -> External | None:
    """What is asked for, read.

    Raises:
        OutputError: a text that is no size.
    """
    return Shards.of(asked) if isinstance(asked, str) else asked


def external_of(asked: ExternalLike | None, source: bool) -> External:
    """Where the weights go.

    Args:
        asked: what is asked for; None: as the source does. source: whether its weights lie outside the model file;
            however many files they are in, one holds those of the output.

    Raises:
        OutputError: a text that is no size.
    """
    read = as_external(asked)
    return source if read is None else read
