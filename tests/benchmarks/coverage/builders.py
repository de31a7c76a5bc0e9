"""Builders for the tests: one network, and two ways in which an exporter takes its process along."""

from __future__ import annotations

import os
import time
from typing import Any


def linear(hidden: int) -> Any:
    """Two linear maps with ``hidden`` channels between them."""
    import torch

    from benchmarks.coverage.builders.vision import Single
    from benchmarks.coverage.case import Built

    module = torch.nn.Sequential(torch.nn.Linear(6, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 5))
    return Built(Single(module).eval(), (torch.ones(2, 6),), ("features",), {"features": {0: "batch"}})


def crash() -> Any:
    """End the process, as a fault in a compiled library would."""
    os._exit(7)


def hang() -> Any:
    """Never return, waiting."""
    while True:
        time.sleep(0.1)


def spin() -> Any:
    """Never return, working."""
    while True:
        pass
