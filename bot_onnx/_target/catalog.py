"""What the ``specs`` command prints: the published specs as a table, one of them in full, the JSON schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bot_onnx._target import library
from bot_onnx._target.keep import KeptLayers
from bot_onnx._target.schema import TargetSpec


@dataclass(frozen=True, slots=True)
class SpecSummary:
    """One row of ``specs list``; None where the spec leaves the key to the source model."""

    name: str
    layers: int | list[int] | KeptLayers | dict[str, int | KeptLayers] | None
    hidden: int | dict[str, int] | None
    heads: int | dict[str, int] | None
    head_dim: int | dict[str, int] | None
    intermediate: int | dict[str, int] | None
    reference: dict[str, Any]


def list_specs() -> tuple[SpecSummary, ...]:
    """Return the published specs by family, then from small to large."""
    return tuple(_summary(show_spec(name)) for name in library.names())


def show_spec(name: str) -> TargetSpec:
    """Return a published spec.

    Raises:
        SpecError: no such name; the message lists those there are.
    """
    return TargetSpec.parse(library.read(name), where=name)


def spec_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a spec file."""
    return TargetSpec.json_schema()


def _summary(spec: TargetSpec) -> SpecSummary:
    return SpecSummary(
        name=spec.name or "",
        layers=spec.layers,
        hidden=spec.hidden,
        heads=spec.heads,
        head_dim=spec.head_dim,
        intermediate=spec.intermediate,
        reference=spec.reference.model_dump(exclude_none=True) if spec.reference else {},
    )
