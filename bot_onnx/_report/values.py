"""Any result as JSON values: plain dicts, lists, texts, numbers, with the field names of the dataclasses."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from bot_onnx._reasons import Reason
from bot_onnx.errors import said


def plain(value: Any) -> Any:
    """Turn a result into JSON values; numbers that JSON does not have (NaN, infinities) become null.

    Fields whose metadata say ``json`` False are left out.

    Raises:
        TypeError: a value of a type that no result has.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Reason):
        return said(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = (field for field in dataclasses.fields(value) if field.metadata.get("json", True))
        return {field.name: plain(getattr(value, field.name)) for field in shown}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "item"):  # a NumPy scalar
        return plain(value.item())
    raise TypeError(f"a {type(value).__name__} has no form in JSON")
