"""Where the records stand: the families of this folder put them in, everything else asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from types import MappingProxyType
from typing import Any, Protocol

from bot_onnx._ops.record import ONNX, Op


class Node(Protocol):
    """A node of a graph, as a message or as an object."""

    @property
    def op_type(self) -> str:
        """Name of its op."""

    @property
    def domain(self) -> str:
        """Domain of its op."""


Traits = dict[str, Any]
_RECORDS: dict[tuple[str, str], Op] = {}


def register(names: str, *, domains: tuple[str, ...] = ("",), **traits: Any) -> None:
    """Put one record in for each of ``names`` (with blanks between them) in each domain, all with the same traits.

    Raises:
        ValueError: there is one already: what is known of an op stands in one place.
    """
    if "slots" in traits:
        traits["slots"] = MappingProxyType(dict(traits["slots"]))
    for name in names.split():
        for domain in domains:
            if (domain, name) in _RECORDS:
                raise ValueError(f"op {domain}::{name} has a record already")
            _RECORDS[domain, name] = Op(name=name, domain=domain, **traits)


def record(node: Node) -> Op:
    """What is known of a node's op; a record that says nothing where it is none of those that are known."""
    domain = "" if node.domain in ONNX else node.domain
    return _RECORDS.get((domain, node.op_type)) or _unknown(domain, node.op_type)


@cache
def _unknown(domain: str, name: str) -> Op:
    return Op(name=name, domain=domain)


def find(key: str) -> Op | None:
    """The record under ``Op``, or ``domain::Op``."""
    domain, _, name = key.rpartition("::")
    return _RECORDS.get(("" if domain in ONNX else domain, name))


def records() -> Iterator[Op]:
    """All of them, in the order in which they were put in."""
    return iter(_RECORDS.values())


def keys(wanted: Callable[[Op], bool]) -> tuple[str, ...]:
    """Keys of the ops that ``wanted`` holds for."""
    return tuple(op.key for op in records() if wanted(op))


def op_key(node: Node) -> str:
    """Name of a node's op: ``Op`` in ONNX's own domain, ``domain::Op`` elsewhere."""
    return node.op_type if node.domain in ONNX else f"{node.domain}::{node.op_type}"
