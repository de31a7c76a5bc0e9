"""Growing keeps the function, architecture by architecture: width, heads, head_dim, depth, with the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bot_onnx
from tests.exports import networks
from tests.system.oracle.compare import run_at_two_sizes
from tests.zoo.architectures import ARCHITECTURES, base_size
from tests.zoo.export import cached_export

pytestmark = pytest.mark.exporter


def specs(arch: str) -> list[dict[str, Any]]:
    """Targets that a function-preserving growth must reach exactly."""
    size = base_size(arch)
    wide: dict[str, Any] = {"hidden": 2 * size.hidden, "layers": size.layers + 2}
    if ARCHITECTURES[arch].grouped:  # rotary frequencies follow head_dim, so it stays
        return [wide]
    return [wide, {"head_dim": 2 * size.head_dim}]


@pytest.mark.parametrize(("arch", "exporter"), networks())
def test_growing_keeps_the_function(arch: str, exporter: str, tmp_path: Path) -> None:
    source = cached_export(arch, base_size(arch), exporter)
    for number, spec in enumerate(specs(arch)):
        out = tmp_path / f"{number}.onnx"
        bot_onnx.resize(source, spec, out)
        for before, after in zip(run_at_two_sizes(source), run_at_two_sizes(out), strict=True):
            for a, b in zip(before, after, strict=True):
                wanted = np.repeat(a, b.shape[-1] // a.shape[-1], axis=-1)
                assert np.abs(wanted - b).max() <= 1e-4 * np.abs(a).max()
