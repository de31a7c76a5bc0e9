"""What the ``specs`` command prints: the published specs as a table, one of them in full, the JSON schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bot_onnx._target import library

if TYPE_CHECKING:
    from bot_onnx._target.schema import TargetSpec


@dataclass(frozen=True, slots=True)
class SpecSummary:
    """One row of ``specs list``: what the spec's file says; None where it leaves the key to the source model."""

    name: str
    layers: int | None
    hidden: int | None
    heads: int | None
    head_dim: int | None
    intermediate: int | None
    reference: dict[str, Any]


def list_specs() -> tuple[SpecSummary, ...]:
    """Return the published specs by family, then from small to large: as their files, which tests check, say."""
    return tuple(_summary(library.read(name)) for name in library.names())


def show_spec(name: str) -> TargetSpec:
    """Return a published spec.

    Raises:
        SpecError: no such name; the message lists those there are.
    """
    from bot_onnx._target.schema import TargetSpec

    return TargetSpec.parse(library.read(name), where=name)


def spec_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a spec file."""
    from bot_onnx._target.schema import TargetSpec

    return TargetSpec.json_schema()


def _summary(spec: dict[str, Any]) -> SpecSummary:
    sizes = {key: spec.get(key) for key in ("layers", "hidden", "heads", "head_dim", "intermediate")}
    return SpecSummary(name=spec.get("name", ""), reference=spec.get("reference", {}), **sizes)
