"""The oracle of the tests is the one of ``python -m benchmarks.coverage``."""

from __future__ import annotations

from benchmarks.coverage.oracle import (
    analysis_of,
    distance,
    run_at_two_sizes,
    transplant,
    weights_in_order,
)

__all__ = ["analysis_of", "distance", "run_at_two_sizes", "transplant", "weights_in_order"]
