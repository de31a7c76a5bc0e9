"""Vision networks: ``width`` gives what a native export of that width computes, growing keeps the function.

Convolutions (grouped, depthwise, transposed), normalisation over batches and groups, squeeze-and-excite, skip
connections, channel concatenation, shifted windows, position tables: one network of each kind.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import bot_onnx
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.system.oracle.vision.catalog import EXPORTERS, NETWORKS, exported

TOLERANCE = 1e-3

#: Cheap to export, and unlike each other; the others run with ``-m slow``.
QUICK = ("resnet_groupnorm", "regnet_y", "mobilenet_v3", "unet", "diffusion_unet", "swin_hf")

pytestmark = pytest.mark.exporter


def cases(factors: bool) -> list[object]:
    """(network, exporter[, factor]); one of each quick network runs by default."""
    found: list[object] = []
    for name, network in NETWORKS.items():
        for exporter in EXPORTERS:
            if factors and exporter in network.stuck:
                continue
            for factor in network.factors if factors else (None,):
                quick = name in QUICK and exporter == EXPORTERS[0] and factor in (None, 0.5)
                values = (name, exporter, factor)[: 3 if factors else 2]
                found.append(pytest.param(*values, marks=[] if quick else pytest.mark.slow))
    return found


@pytest.mark.parametrize(("name", "exporter", "factor"), cases(factors=True))
def test_width_equals_native(name: str, exporter: str, factor: float, tmp_path: Path) -> None:
    out = tmp_path / "resized.onnx"
    result = bot_onnx.resize(exported(name, exporter), {"width": factor}, out)
    assert result.report.passed
    native = transplant(analysis_of(out), analysis_of(exported(name, exporter, factor)))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= TOLERANCE


@pytest.mark.parametrize(("name", "exporter"), cases(factors=False))
def test_twice_the_width_keeps_the_function(name: str, exporter: str, tmp_path: Path) -> None:
    source, out = exported(name, exporter), tmp_path / "wide.onnx"
    if not NETWORKS[name].preserving:
        pytest.skip("nothing keeps the function of this network")
    result = bot_onnx.resize(source, {"width": 2.0}, out, method=NETWORKS[name].method)
    stuck = exporter in NETWORKS[name].stuck
    assert result.plan.parameters[1] > (1.2 if stuck else 2.5) * result.plan.parameters[0]
    assert distance(run_at_two_sizes(out), run_at_two_sizes(source)) <= TOLERANCE


@pytest.mark.parametrize(("name", "exporter"), cases(factors=False))
def test_stages_change_depth(name: str, exporter: str, tmp_path: Path) -> None:
    """Every stage that is a chain can lose a layer, and gains one that does nothing yet."""
    source, out = exported(name, exporter), tmp_path / "deep.onnx"
    chains = bot_onnx.inspect(source).structure.chains
    deeper = [chain.count + (chain.resizable is None) for chain in chains]
    if deeper == [chain.count for chain in chains]:
        pytest.skip("no stage of this network is a chain of equal layers")
    result = bot_onnx.resize(source, {"layers": deeper}, out)
    assert [change.target for change in result.plan.layers] == deeper
    if NETWORKS[name].preserving:
        assert distance(run_at_two_sizes(out), run_at_two_sizes(source)) <= TOLERANCE
    shallower = {chain.name: chain.count - 1 for chain in chains if chain.resizable is None}
    result = bot_onnx.resize(source, {"layers": shallower}, out, force=True)
    assert result.report.passed
