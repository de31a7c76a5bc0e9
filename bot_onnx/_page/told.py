"""What a written file says of how it was made, and what it does not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bot_onnx._report.plan_report import promise_text
from bot_onnx._surgery.provenance import Lineage, read_lineage, read_provenance

NOT_KNOWN: Final = "not known"
_SAID: Final = "not known: the file does not say"


def told_of(metadata: Mapping[str, str], source_sha256: str | None) -> dict[str, str]:
    """Facts by label, each of them or that it is not known.

    Args:
        metadata: of the file.
        source_sha256: of the model that it is held against; None: there is none.
    """
    raw, lineage = read_provenance(metadata), read_lineage(metadata)
    proof = raw.get("proof")
    return {
        "made from": _origin(raw, source_sha256),
        "asked for": _spec(raw.get("spec")),
        "method": NOT_KNOWN if lineage is None else _method(lineage),
        "proof": proof if isinstance(proof, str) else _SAID,
        "outputs": _SAID if lineage is None else promise_text(lineage.promise),
        "checks": f"{NOT_KNOWN}: no file holds those that it passed; 'bot-onnx verify' makes them again",
    }


def is_from(metadata: Mapping[str, str], source_sha256: str) -> Lineage | None:
    """What the file says of its source, if that is the one with this hash."""
    lineage = read_lineage(metadata)
    return lineage if lineage is not None and lineage.source_sha256 == source_sha256 else None


def _origin(raw: Mapping[str, Any], source_sha256: str | None) -> str:
    sha = raw.get("source_sha256")
    if not isinstance(sha, str):
        return "not known: the file does not say that it was resized"
    told = f"a model with SHA-256 {sha}"
    if source_sha256 is None:
        return told
    return f"{told}: the one it is held against" if sha == source_sha256 else f"{told}: NOT the one it is held against"


def _spec(spec: object) -> str:
    if not isinstance(spec, dict):
        return _SAID
    return ", ".join(f"{key} {value}" for key, value in spec.items() if value not in ({}, [], None)) or "nothing"


def _method(lineage: Lineage) -> str:
    options = ", ".join(f"{key}={value}" for key, value in lineage.options.items() if value is not None)
    aligned = "" if lineage.align == "none" else f", aligned: {lineage.align}"
    return f"{lineage.method}{f' ({options})' if options else ''}{aligned}, seed {lineage.seed}"
