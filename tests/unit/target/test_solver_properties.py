"""What the solver and the spec promise, on random compositions and random input."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from bot_onnx._reasons import Reason, Why
from bot_onnx._structure import SPEC_ROLES, Dim, DimKind, Direction, Stack, Structure
from bot_onnx._target import TargetSpec, evaluate, solve
from bot_onnx._target.schema import MAX_SIZE
from bot_onnx.errors import SpecError

LEAF_ROLES = (*SPEC_ROLES, "v_head_dim", "group", "half_head_dim", "count", "io", "spatial", "out", "free")
SIZES = st.integers(1, 12)
KEYS = ("name", "layers", "hidden", "heads", "width", "dims", "constants", "soft", "reference")
HUGGINGFACE_KEYS = ("model_type", "n_embd", "n_head", "n_layer", "depths", "mlp_ratio", "multi_query", "text_config")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def combine(dim: Dim, sizes: dict[str, int]) -> int:
    parts = [sizes[part] for part in dim.parts]
    return math.prod(parts) if dim.kind == "product" else sum(parts)


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    """Random leaves, composites over whatever came before, and matrices over random pairs of them."""
    dims: dict[str, Dim] = {}
    for number in range(draw(st.integers(1, 6))):
        ident = f"d{number}"
        frozen = draw(st.sampled_from([None, None, None, Reason(Why.EQUAL_PARTS)]))
        dims[ident] = Dim(ident, f"n{number}", draw(SIZES), "leaf", (), draw(st.sampled_from(LEAF_ROLES)), frozen, ())
    for number in range(len(dims), len(dims) + draw(st.integers(0, 4))):
        kind: DimKind = draw(st.sampled_from(["product", "concat"]))
        parts = tuple(draw(st.lists(st.sampled_from(sorted(dims)), min_size=1, max_size=3)))
        role = draw(st.sampled_from(["free", "free", "heads", "head_dim", "hidden", "positions"]))
        made = Dim(f"d{number}", f"n{number}", 1, kind, parts, role, None, ((f"w{number}", 0),))
        made = replace(made, size=combine(made, {ident: dim.size for ident, dim in dims.items()}))
        assume(made.size < 10**6)
        dims[made.id] = made
    stacks = []
    for number in range(draw(st.integers(0, 4))):
        axes = tuple(draw(st.lists(st.sampled_from(sorted(dims)), min_size=1, max_size=3)))
        shape = tuple(dims[axis].size for axis in axes)
        directions: tuple[Direction, ...] = tuple("none" for _ in axes)
        chain = draw(st.sampled_from([None, "layers"]))
        stacks.append(Stack(f"s{number}", "w", chain, ("w",), "FLOAT", axes, shape, "matrix", directions))
    return Structure(dims, (), tuple(stacks))


@st.composite
def specs(draw: st.DrawFn, structure: Structure) -> TargetSpec:
    keys = draw(st.dictionaries(st.sampled_from(SPEC_ROLES), st.integers(1, 40), max_size=3))
    dims = draw(st.dictionaries(st.sampled_from(sorted(structure.dims)), st.integers(1, 40), max_size=2))
    width = draw(st.none() | st.floats(0.05, 4))
    round_to = draw(st.none() | st.integers(1, 9))
    soft = tuple(draw(st.sets(st.sampled_from(SPEC_ROLES))))
    return TargetSpec.parse({**keys, "dims": dims, "width": width, "round_to": round_to, "soft": soft})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.data())
def test_a_solution_is_consistent_or_refused(data: st.DataObject) -> None:
    structure = data.draw(structures())
    spec = data.draw(specs(structure))
    try:
        solution = solve(structure, spec)
    except SpecError as error:
        assert str(error)
        return
    assert list(solution.sizes) == list(structure.dims)
    for ident, dim in structure.dims.items():
        assert solution.sizes[ident] >= 1
        assert not dim.parts or solution.sizes[ident] == combine(dim, solution.sizes)
        assert dim.frozen is None or solution.sizes[ident] == dim.size
        assert dim.role != "count" or dim.parts or solution.sizes[ident] == dim.size
    assert all(solution.sizes[ident] == size for ident, size in spec.dims.items())
    assert solution == solve(structure, spec)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.data())
def test_asking_for_every_leaf_gives_every_composite(data: st.DataObject) -> None:
    structure = data.draw(structures())
    # Query heads must be a multiple of kv heads, which random sizes need not be.
    assume(all(dim.role != "kv_heads" for dim in structure.dims.values()))
    free = [dim for dim in structure.dims.values() if not dim.parts and dim.frozen is None and dim.role != "count"]
    wanted = {dim.name: data.draw(st.integers(1, 30)) for dim in free}
    sizes = {dim.id: wanted.get(dim.name, dim.size) for dim in structure.dims.values() if not dim.parts}
    for dim in (dim for dim in structure.dims.values() if dim.parts):  # parts stand before what is made of them
        sizes[dim.id] = combine(dim, sizes)
    assume(max(sizes.values()) <= MAX_SIZE)  # products of products of products
    solution = solve(structure, TargetSpec(dims=wanted))
    assert {dim.name: solution.sizes[dim.id] for dim in free} == wanted


@settings(max_examples=200, deadline=None)
@given(structures())
def test_source_sizes_and_an_empty_spec_change_nothing(structure: Structure) -> None:
    source = {ident: dim.size for ident, dim in structure.dims.items()}
    assert solve(structure, TargetSpec()).sizes == source
    assert solve(structure, TargetSpec(dims=source)).sizes == source


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_composite_alone_determines_its_only_open_part(data: st.DataObject) -> None:
    """Rotary grouped queries: any reachable attention width is reached, by the kv heads alone."""
    kv, group, half, new_kv = (data.draw(st.integers(2, 9)) for _ in range(4))
    dims = {
        "d0": Dim("d0", "kv_heads", kv, "leaf", (), "kv_heads", None, ()),
        "d1": Dim("d1", "group", group, "leaf", (), "group", None, ()),
        "d2": Dim("d2", "half", half, "leaf", (), "half_head_dim", None, ()),
        "d3": Dim("d3", "head_dim", 2 * half, "concat", ("d2", "d2"), "head_dim", None, ()),
        "d4": Dim("d4", "queries", kv * group * 2 * half, "product", ("d0", "d1", "d3"), "free", None, ()),
    }
    unit = group * 2 * half
    found = solve(Structure(dims, (), ()), TargetSpec(dims={"queries": new_kv * unit})).sizes
    assert (found["d0"], found["d1"], found["d2"]) == (new_kv, group, half)
    off = new_kv * unit + data.draw(st.integers(1, unit - 1))
    try:
        solve(Structure(dims, (), ()), TargetSpec(dims={"queries": off}))
    except SpecError as error:
        assert f"{new_kv * unit} or {(new_kv + 1) * unit}" in str(error)
    else:
        raise AssertionError(f"{off} is no multiple of {unit}")


@settings(max_examples=300, deadline=None)
@example({"<": None})
@example({"<size>": 1})
@example({"hidden": {"<by chain>": 0}})
@given(st.dictionaries(st.sampled_from(KEYS + HUGGINGFACE_KEYS) | st.text(max_size=6), json_values, max_size=5))
def test_any_input_is_a_spec_or_a_spec_error(data: dict[str, object]) -> None:
    try:
        spec = TargetSpec.parse(data)
    except SpecError:
        return
    assert TargetSpec.model_validate_json(spec.model_dump_json()) == spec


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789.+-*/() sqrthead_dim%,'[]", max_size=30))
def test_any_formula_is_a_finite_number_or_a_spec_error(text: str) -> None:
    try:
        value = evaluate(text, {"head_dim": 64.0})
    except SpecError:
        return
    assert math.isfinite(value)
