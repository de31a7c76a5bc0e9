"""The passes of the analysis: their order holds by what they declare, and they change what they declare."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from bot_onnx._analysis.facts import Normalised
from bot_onnx._analysis.passes import PASSES, analyse
from bot_onnx._analysis.pipeline import Effect, Facts, OrderError, Pass, analysis_pass, in_order, run_passes
from bot_onnx._axes.dims import DimTable
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._canonical.normalise import normalise
from bot_onnx._reasons import Reason
from bot_onnx._structure import Structure
from tests.attention_graphs import Sizes, cached_decoder
from tests.graphs import tied_attention_model
from tests.system.fuzz.seeds import SEEDS


@dataclass(frozen=True, slots=True)
class One:
    number: int


@dataclass(frozen=True, slots=True)
class Two:
    number: int


@dataclass(frozen=True, slots=True)
class Three:
    number: int


@analysis_pass()
def double(one: One) -> Two:
    return Two(2 * one.number)


@analysis_pass("merges")
def add(one: One, two: Two) -> Three:
    return Three(one.number + two.number)


@analysis_pass(after=(Two,))
def alone(one: One) -> Three:
    return Three(one.number)


@analysis_pass()
def again(three: Three) -> Two:
    return Two(three.number)


def test_a_pass_is_declared_by_its_signature() -> None:
    assert (add.name, add.requires, add.provides) == ("add", (One, Two), Three)
    assert add.effects == {"merges"} and not double.effects


def test_passes_in_order_run() -> None:
    facts = run_passes(in_order((One,), double, add), One(3))
    assert facts[Three] == Three(9)
    with pytest.raises(KeyError):
        Facts(One(3))[Two]


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        ((add,), "add needs Two, which no pass provides"),
        ((add, double), "add needs Two, which double provides only later"),
        ((alone,), "alone needs Two, which no pass provides"),
        ((alone, double), "alone needs Two, which double provides only later"),
        ((double, add, again), "again provides Two, which there is already"),
        ((double, double), "double provides Two, which there is already"),
    ],
)
def test_what_does_not_fit_is_an_error_when_the_tuple_is_built(passes: tuple[Pass, ...], message: str) -> None:
    with pytest.raises(OrderError, match=message):
        in_order((One,), *passes)


def test_what_is_given_is_not_provided() -> None:
    with pytest.raises(OrderError, match="double provides Two, which there is already"):
        in_order((One, Two), double)


def test_an_effect_that_there_is_not() -> None:
    effect: Effect = "merge"  # type: ignore[assignment]
    with pytest.raises(OrderError, match="merge: no such effect; there are graph, merges"):
        analysis_pass(effect)


def test_every_pass_finds_what_it_needs() -> None:
    known: set[type] = {Normalised}
    for one in PASSES:
        assert known.issuperset((*one.requires, *one.after)), one.name
        assert one.provides not in known
        known.add(one.provides)
    assert in_order((Normalised,), *PASSES) == PASSES


def test_no_pass_may_stand_before_what_it_needs() -> None:
    """The declarations hold the whole order: moved before the pass that it needs, every one is an error."""
    for index, one in enumerate(PASSES[1:], start=1):
        others = [other for other in PASSES if other is not one]
        needed = max(others.index(p) for p in PASSES[:index] if p.provides in (*one.requires, *one.after))
        with pytest.raises(OrderError):
            in_order((Normalised,), *others[:needed], one, *others[needed:])


def row(one: Pass) -> str:
    """The pass as the page about the engine has it."""
    needs = ", ".join(kind.__name__ for kind in one.requires)
    needs += "; after " + ", ".join(kind.__name__ for kind in one.after) if one.after else ""
    return f"| `{one.name}` | {needs} | {one.provides.__name__} | {', '.join(sorted(one.effects))} |"


def test_the_page_shows_the_passes() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "engine.md").read_text()
    head = "| pass | requires | provides | changes |\n|---|---|---|---|\n"
    assert head + "\n".join(map(row, PASSES)) + "\n\n" in page


#: Graphs of all kinds: tied weights, caches that may follow, and the seeds.
BUILDERS: dict[str, Callable[[], onnx.ModelProto]] = {
    "tied": tied_attention_model,
    "cached": lambda: cached_decoder(Sizes(hidden=64, kv_heads=2, head_dim=16, layers=2)),
    **{name: seed.build for name, seed in SEEDS.items()},
}
NAMES = tuple(BUILDERS)


@cache
def model_of(name: str) -> ir.Model:
    return ir.from_proto(BUILDERS[name]())


def normalised(name: str) -> Normalised:
    model = model_of(name).clone()
    return Normalised(model, normalise(model))


def other_order(seed: int) -> tuple[Pass, ...]:
    """The passes in an order drawn among all that the declarations admit."""
    rng, known, left = random.Random(seed), {Normalised}, list(PASSES)
    found: list[Pass] = []
    while left:
        ready = [one for one in left if known.issuperset((*one.requires, *one.after))]
        chosen = rng.choice(ready)
        left.remove(chosen)
        found.append(chosen)
        known.add(chosen.provides)
    return in_order((Normalised,), *found)


@pytest.mark.parametrize("name", NAMES)
def test_every_order_that_the_declarations_admit_finds_the_same(name: str) -> None:
    """Otherwise a pass looks at what another one changes, and does not say so."""
    expected = analyse(model_of(name).clone()).structure
    for seed in range(4):
        assert run_passes(other_order(seed), normalised(name))[Structure] == expected


#: The class of every dim, and why it is frozen.
Dims = tuple[list[int], dict[int, Reason | None]]


def dims_of(facts: Facts) -> Dims:
    """The classes of all dims so far, and what is frozen."""
    try:
        table = facts[AxisFacts].table
    except KeyError:
        return [], {}
    dims = range(count(table))
    return [table.find(dim) for dim in dims], {dim: table.frozen(dim) for dim in dims}


def count(table: DimTable) -> int:
    return len(table._parent)


def changes(before: Dims, after: Dims) -> set[str]:
    """What happened to the dims that there were before."""
    found: set[str] = set()
    if any(old != new for old, new in zip(before[0], after[0], strict=False)):
        found.add("merges")
    for dim, reason in before[1].items():
        if reason != after[1][dim]:
            found.add("releases" if after[1][dim] is None else "freezes")
    return found


def text(model: ir.Model) -> str:
    return "\n".join(str(node) for node in model.graph) + str(model.graph.outputs)


@pytest.mark.parametrize("name", NAMES)
def test_passes_change_what_they_declare(name: str) -> None:
    facts = Facts(normalised(name))
    model = facts[Normalised].model
    for one in PASSES:
        before, graph = dims_of(facts), text(model)
        facts = facts.then(one)
        assert changes(before, dims_of(facts)) <= one.effects, one.name
        assert graph == text(model) or "graph" in one.effects, one.name


def test_merging_is_monotone() -> None:
    """What is one dim stays one, whatever passes follow."""
    for name in NAMES:
        facts = Facts(normalised(name))
        groups: Iterable[tuple[int, int]] = ()
        for one in PASSES:
            facts = facts.then(one)
            classes = dims_of(facts)[0]
            assert all(classes[a] == classes[b] for a, b in groups)
            groups = [(dim, root) for dim, root in enumerate(classes) if dim != root]
