"""Sizes for a budget: how limits are read, what families of specs there are, what the search finds within them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

import bot_onnx
from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._costs import sizing_of
from bot_onnx._fit.budget import Budget, quantity
from bot_onnx._fit.families import Roles, Width, family_of, largest
from bot_onnx._fit.kept import kept_energy
from bot_onnx._fit.search import Search, depths_of
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._target import TargetSpec, solve
from bot_onnx.errors import SpecError
from tests.graphs import GraphBuilder, residual_mlp_model, save
from tests.spec_structures import structure as structure_of

DIGITS = Path(bot_onnx.__file__).parent / "demo" / "digits_vit.onnx"


def analysed(path: Path) -> Analysis:
    with open_model(path) as source:
        return analyse(source.model())


def convolutions(channels: tuple[int, ...] = (16, 24, 48, 64)) -> onnx.ModelProto:
    """Convolutions of growing width, and a classifier: nothing in it is a stream."""
    b = GraphBuilder()
    x, before = "x", 3
    for wide in channels:
        x = b.op("Relu", b.op("Conv", x, b.weight(wide, before, 3, 3), b.weight(wide), pads=[1, 1, 1, 1]))
        before = wide
    b.op("Gemm", b.op("Flatten", b.op("GlobalAveragePool", x)), b.weight(before, 10), b.weight(10))
    return b.model([("x", ["batch", 3, 16, 16])], [b.nodes[-1].output[0]])


@pytest.fixture(scope="module")
def digits() -> Iterator[Analysis]:
    with open_model(DIGITS) as source:  # its weights are read from the file
        yield analyse(source.model())


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("size", "20MB", 20e6), ("size", "1.5 GiB", 1.5 * 2**30), ("size", "300", 300), ("size", "2kb", 2000),
        ("params", "10M", 1e7), ("params", "1.5B", 1.5e9), ("macs", "1G", 1e9), ("macs", ".5k", 500),
        ("latency", "5ms", 5e-3), ("latency", "250us", 250e-6), ("latency", "2 s", 2),
    ],
)  # fmt: skip
def test_limits_are_read_with_their_units(name: str, text: str, wanted: float) -> None:
    assert quantity(name, text) == pytest.approx(wanted)


@pytest.mark.parametrize(("name", "text"), [("size", "MB"), ("latency", "5"), ("macs", "1 GHz"), ("params", "-3M")])
def test_what_is_no_limit_is_refused_with_an_example(name: str, text: str) -> None:
    with pytest.raises(SpecError, match=f"--max-{name}.*such as"):
        quantity(name, text)


def test_a_budget_needs_a_limit_above_zero() -> None:
    with pytest.raises(SpecError, match="--max-size 20MB"):
        Budget()
    with pytest.raises(SpecError, match="above 0"):
        Budget(macs=0)
    assert Budget(size=100, macs=10).used({"size": 50, "params": 7, "macs": 9, "latency": None}) == 0.9


def test_the_largest_number_that_fits() -> None:
    assert [largest(1, 40, lambda n, most=most: n <= most) for most in (1, 17, 40, 99)] == [1, 17, 40, 40]


def test_a_transformer_has_whole_heads_and_multiples_of_eight(digits: Analysis) -> None:
    family = family_of(digits.structure, ())
    assert isinstance(family, Roles) and family.levels == (16, 32, 48, 64)
    assert family.spec(1) == {"hidden": 64, "intermediate": 256}
    assert family.spec(0.7) == {"hidden": 32, "intermediate": 176}
    assert family.spec(0) == {"hidden": 16, "intermediate": 8}


def test_what_is_kept_stays_in_every_spec(digits: Analysis) -> None:
    kept = family_of(digits.structure, ("hidden",))
    assert kept.spec(0.5) == {"hidden": 64, "heads": 2, "intermediate": 128}
    assert family_of(digits.structure, ("intermediate",)).spec(0.5) == {"intermediate": 256, "hidden": 32}
    assert depths_of(digits.structure, ("layers",)) == [{}]
    assert depths_of(digits.structure, ()) == [{"layers": n} for n in (6, 5, 4, 3, 2, 1)]
    with pytest.raises(SpecError, match=r"--keep nosuch.*hidden"):
        family_of(digits.structure, ("nosuch",))


@pytest.mark.parametrize("role", ["hidden", "heads", "head_dim", "intermediate"])
def test_an_id_or_a_name_holds_what_the_role_holds(digits: Analysis, role: str) -> None:
    structure = digits.structure
    (dim,) = (dim for dim in structure.dims.values() if dim.role == role)
    renamed = replace(structure, dims={**structure.dims, dim.id: replace(dim, name="own")})
    wanted = [family_of(structure, (role,)).spec(scale) for scale in (0, 0.3, 0.7, 1)]
    for source, name in ((structure, dim.id), (structure, dim.name), (renamed, "own")):
        family = family_of(source, (name,))
        assert [family.spec(scale) for scale in (0, 0.3, 0.7, 1)] == wanted


def test_an_id_among_several_of_its_role_holds_itself_alone() -> None:
    twins = structure_of(
        [("hidden", "hidden", 64), ("hidden_2", "hidden", 64), ("heads", "heads", 4), ("head_dim", "head_dim", 16)]
    )
    for name in ("hidden_2", "d1"):
        assert family_of(twins, (name,)).spec(0.5) == {"dims": {"hidden_2": 64}, "hidden": 32}
    assert "dims" not in family_of(twins, ("d0", "hidden_2")).spec(0.5)


def test_a_convolutional_network_has_a_factor(tmp_path: Path) -> None:
    family = family_of(analysed(save(convolutions(), tmp_path)).structure, ())
    assert isinstance(family, Width) and family.spec(0.5) == {"width": 0.5, "round_to": 8}


def searched(analysis: Analysis, budget: Budget, size_bytes: int = 0) -> Search:
    return Search(sizing_of(analysis), family_of(analysis.structure, ()), budget, size_bytes)


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.8])
@pytest.mark.parametrize("limit", ["params", "macs"])
def test_the_budget_is_used_and_never_exceeded(digits: Analysis, limit: str, share: float) -> None:
    whole = sizing_of(digits).costs()
    most = share * {"params": whole.parameters, "macs": whole.macs}[limit]
    search = searched(digits, Budget(**{limit: most}))
    used = []
    for depth in depths_of(digits.structure, ()):
        found = search.best(depth)
        if found is not None:
            spent = {"params": found.costs.parameters, "macs": found.costs.macs}[limit]
            assert spent <= most
            assert found.solution.layers == depth
            used.append(spent / most)
    assert 0.95 <= max(used) <= 1


@pytest.mark.parametrize("share", [0.15, 0.4, 0.75])
def test_channels_take_up_what_a_common_factor_leaves(share: float, tmp_path: Path) -> None:
    analysis = analysed(save(convolutions(), tmp_path))
    most = share * sizing_of(analysis).costs().macs
    found = searched(analysis, Budget(macs=most)).best({})
    assert found is not None and 0.9 * most <= found.costs.macs <= most
    assert all(size % 8 == 0 for size in found.spec["dims"].values())
    assert found.solution.sizes == solve(analysis.structure, TargetSpec.parse(found.spec)).sizes


def test_no_depth_is_offered_that_cannot_meet_the_budget(digits: Analysis) -> None:
    assert searched(digits, Budget(params=100)).best({"layers": 1}) is None
    smallest = searched(digits, Budget(params=100)).smallest(depths_of(digits.structure, ()))
    assert smallest.spec == {"layers": {"layers": 1}, "hidden": 16, "intermediate": 8}


def test_int8_counts_a_byte_a_weight_of_matrices(tmp_path: Path) -> None:
    analysis = analysed(save(residual_mlp_model(2, 16, 32), tmp_path))
    plain, packed = searched(analysis, Budget(size=1e9)), searched(analysis, Budget(size=1e9, quantize="int8"))
    solution = solve(analysis.structure, TargetSpec())
    matrices = 4 * 16 + 2 * 2 * 16 * 32 + 16 * 3
    assert plain.costs(solution).weight_bytes - packed.costs(solution).weight_bytes == 3 * matrices
    assert plain.costs(solution).macs == packed.costs(solution).macs


def test_energy_is_kept_by_depth_and_by_widths(digits: Analysis) -> None:
    def kept(**spec: object):
        return kept_energy(digits, solve(digits.structure, TargetSpec.parse(spec)))

    whole, flat, narrow = kept(), kept(layers=3), kept(hidden=32)
    assert (whole.overall, whole.layers, whole.widths, whole.balance) == pytest.approx((1, 1, 1, 1))
    assert (flat.layers, flat.widths) == pytest.approx((0.5, 1)) and 0.5 < flat.overall < 0.52
    assert narrow.layers == 1 and 0.1 < narrow.widths == narrow.overall == narrow.balance < 0.6
