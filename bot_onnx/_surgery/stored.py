"""A plan as a file: JSON with every field, the number of its format, and a checksum.

What is read is held against the types of :class:`bot_onnx._surgery.types.Plan` field by field: a file that says more,
less or something else than a plan does is refused by the name of the place.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from bot_onnx import __version__
from bot_onnx._surgery.types import FORMAT, Plan
from bot_onnx.errors import PlanError

CHECKSUM = "checksum"
_SAVING: Final = "--plan-out, or Plan.to_json in Python"


def plan_record(plan: Plan) -> dict[str, Any]:
    """A plan as JSON values, the same every time: without the time that the proof took."""
    told = asdict(plan)
    del told["proof"]["seconds"]
    record: dict[str, Any] = json.loads(json.dumps(told))
    return record


def write_plan(plan: Plan, indent: int | None = 2) -> str:
    """A plan as the text of a file."""
    record = plan_record(plan)
    return json.dumps({**record, CHECKSUM: checksum(record)}, indent=indent)


def checksum(record: Mapping[str, Any]) -> str:
    """SHA-256 of all that a record says but its checksum, however it is laid out."""
    content = {key: value for key, value in record.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load_plan(path: Path) -> Plan:
    """The plan in a file; see :func:`read_plan`.

    Raises:
        PlanError: there is no such file, or no plan in it.
    """
    try:
        if not path.is_file():
            raise PlanError(f"there is no file {path}: save a plan with {_SAVING}")
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is no whole plan ({error}): save one with {_SAVING}") from error
    return read_plan(text, str(path))


def read_plan(text: str, where: str) -> Plan:
    """The plan that :func:`write_plan` wrote.

    A plan without a checksum is one that somebody changed on purpose: it is read like any other.

    Args:
        text: of the file. where: its name, for messages.

    Raises:
        PlanError: it is no plan, one of another format or version, or one that is damaged.
    """
    try:
        record = json.loads(text, object_pairs_hook=_single, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{where} is no whole plan ({error}): save one with {_SAVING}") from error
    if not isinstance(record, dict) or "format" not in record:
        raise PlanError(f"{where} is no plan that can be run: save one with {_SAVING}")
    if record["format"] != FORMAT or isinstance(record["format"], bool):
        raise PlanError(
            f"{where} has the format {record['format']!r:.40}, and bot-onnx {__version__} reads {FORMAT}: plan anew"
        )
    if record.get("version") != __version__:
        raise PlanError(
            f"{where} was made by bot-onnx {record.get('version')!s:.40}, and this is {__version__}, which may plan "
            "otherwise: plan anew, or install that version"
        )
    said = record.pop(CHECKSUM, None)
    if said is not None and said != checksum(record):
        raise PlanError(
            f"{where} is damaged or was changed: its content has another checksum than it says; plan anew, or delete "
            "the line 'checksum' if it was changed on purpose"
        )
    try:
        plan = _value(record, Plan, "")
    except (_Misfit, RecursionError) as misfit:
        raise PlanError(f"{where} is no plan that can be run: {misfit or 'it is nested too deeply'}") from misfit
    assert isinstance(plan, Plan)
    return plan


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object says a key twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


class _Misfit(Exception):
    """A value that a type does not have; the message says where."""


def _value(told: Any, kind: Any, place: str) -> Any:
    """A JSON value as one of a type of the plan."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return told
    if origin in (Union, UnionType):
        return _one_of(told, arguments, place)
    if origin is Literal:
        if isinstance(told, str | bool | NoneType) and told in arguments:
            return told
        raise _Misfit(f"{place} is {told!r:.60}, none of {', '.join(map(repr, arguments))}")
    if origin is tuple:
        return _sequence(told, arguments, place)
    if origin in (dict, Mapping):
        if not isinstance(told, dict):
            raise _Misfit(f"{place} is no object")
        return {key: _value(entry, arguments[1], f"{place}.{key}") for key, entry in told.items()}
    if is_dataclass(kind) and isinstance(kind, type):
        return _record(told, kind, place)
    return _plain(told, kind, place)


def _plain(told: Any, kind: Any, place: str) -> Any:
    if kind is float and isinstance(told, int | float) and not isinstance(told, bool) and _is_finite(told):
        return told
    if kind in (str, int, bool, NoneType) and type(told) is kind:
        return told
    raise _Misfit(f"{place} is {told!r:.60}, no {getattr(kind, '__name__', kind)}")


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _one_of(told: Any, kinds: tuple[Any, ...], place: str) -> Any:
    """A value of one of several types; edits say which they are."""
    records = [kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)]
    if len(records) > 1 and isinstance(told, dict):
        named = [kind for kind in records if kind.__name__ == told.get("edit")]
        if not named:
            raise _Misfit(f"{place}.edit is {told.get('edit')!r:.60}, none of {', '.join(k.__name__ for k in records)}")
        return _record(told, named[0], place)
    misfits: list[_Misfit] = []
    for kind in kinds:
        try:
            return _value(told, kind, place)
        except _Misfit as misfit:
            misfits.append(misfit)
    # What a record misses says more than that the value is not None.
    raise misfits[0]


def _sequence(told: Any, kinds: tuple[Any, ...], place: str) -> tuple[Any, ...]:
    if not isinstance(told, list):
        raise _Misfit(f"{place} is no list")
    each = [kinds[0]] * len(told) if kinds[-1] is Ellipsis else list(kinds)
    if len(each) != len(told):
        raise _Misfit(f"{place} has {len(told)} entries, not {len(each)}")
    return tuple(_value(entry, kind, f"{place}[{n}]") for n, (entry, kind) in enumerate(zip(told, each, strict=True)))


def _record(told: Any, kind: type, place: str) -> Any:
    if not isinstance(told, dict):
        raise _Misfit(f"{place or 'it'} is no object")
    known = {field.name: field for field in fields(kind)}
    unknown = [key for key in told if key not in known]
    if unknown:
        raise _Misfit(f"'{_joined(place, unknown[0])}' is no part of one")
    missing = [name for name, field in known.items() if name not in told and not _may_miss(field)]
    if missing:
        raise _Misfit(f"'{_joined(place, missing[0])}' is missing")
    hints = _hints(kind)
    return kind(**{key: _value(entry, hints[key], _joined(place, key)) for key, entry in told.items()})


def _may_miss(field: Field[Any]) -> bool:
    """Only what a file leaves out: how long the proof took."""
    return field.name == "seconds" and field.default is not MISSING


def _joined(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


_HINTS: dict[type, dict[str, Any]] = {}


def _hints(kind: type) -> dict[str, Any]:
    if kind not in _HINTS:
        _HINTS[kind] = get_type_hints(kind)
    return _HINTS[kind]
