"""The zoo's networks as tests take them: each by each exporter, at the second opset a few in CI and all when asked."""

from __future__ import annotations

from typing import Any

import pytest

from tests.zoo.architectures import ARCHITECTURES
from tests.zoo.export import EXPORTERS

AGAIN = "dynamo20"  #: the same exporter at another opset
_IN_CI = frozenset({"bert", "vit"})  #: networks that CI sees at both opsets


def marks(arch: str, exporter: str) -> list[pytest.MarkDecorator]:
    """``slow`` where the exporter stands in CI at another opset already."""
    return [pytest.mark.slow] if exporter == AGAIN and arch not in _IN_CI else []


def networks() -> list[Any]:
    """Parameters ``arch, exporter``."""
    return [
        pytest.param(arch, exporter, marks=marks(arch, exporter)) for arch in ARCHITECTURES for exporter in EXPORTERS
    ]
