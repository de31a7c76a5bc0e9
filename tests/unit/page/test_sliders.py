"""Sliders step where the solver and the proof do; what no polynomial says is not said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import bot_onnx
from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._costs import sizing_of
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._page import settled
from bot_onnx._page.formulas import formulas_of, total
from bot_onnx._page.settled import proven_sliders
from bot_onnx._page.sliders import sliders_of
from bot_onnx._proof.settle import settle
from bot_onnx._surgery.proven import Fault
from bot_onnx._target import TargetSpec, solve
from bot_onnx.errors import ProofError
from tests import pages
from tests.graphs import save, tied_attention_model


@pytest.fixture
def bert(tmp_path: Path) -> Iterator[Analysis]:
    with open_model(save(pages.bert(), tmp_path)) as source:
        yield analyse(source.model())


def test_every_step_is_one_that_the_solver_takes(bert: Analysis) -> None:
    structure = bert.structure
    made = sliders_of(structure)
    assert [one.key.split(" ")[0] for one in made.sliders] == ["layers", "hidden", "heads", "intermediate"]
    for slider in made.sliders:
        assert slider.steps[slider.start].sizes == {} and slider.steps[slider.start].layers == {}
        for step in slider.steps:
            found = solve(structure, TargetSpec.parse(made.spec({slider.key: step})))
            assert all(found.sizes[ident] == size for ident, size in step.sizes.items())
            assert all(found.layers[name] == depth for name, depth in step.layers.items())


def test_heads_that_are_the_stream_have_no_slider_of_their_own(tmp_path: Path) -> None:
    with open_model(save(tied_attention_model(), tmp_path)) as source:
        made = sliders_of(analyse(source.model()).structure)
    assert [one.kind for one in made.sliders] == ["layers", "width"]


def test_what_the_proof_keeps_stays_in_every_step_and_in_the_command(
    bert: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooler = next(dim for dim in bert.structure.dims.values() if dim.role == "free" and not dim.parts)

    def keeping(analysis: Analysis, spec: TargetSpec, way: object) -> object:
        found = settle(analysis, spec, way)  # type: ignore[arg-type]
        sizes = {**found.solution.sizes, pooler.id: pooler.size}
        return replace(found, solution=replace(found.solution, sizes=sizes))

    assert any(pooler.id in step.sizes for one in proven_sliders(bert).sliders for step in one.steps)
    monkeypatch.setattr(settled, "settle", keeping)
    made = proven_sliders(bert)
    assert made.sliders and pooler.id not in made.free and made.held == {pooler.name: pooler.size}


def test_what_cannot_be_proven_has_no_slider(bert: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(analysis: Analysis, spec: TargetSpec, way: object) -> object:
        if solve(analysis.structure, spec).sizes[inner.id] != inner.size:
            raise ProofError("it fails", Fault("", "", "", (inner.name,), ""))
        return settle(analysis, spec, way)  # type: ignore[arg-type]

    inner = next(dim for dim in bert.structure.dims.values() if dim.role == "intermediate")
    monkeypatch.setattr(settled, "settle", failing)
    made = proven_sliders(bert)
    assert made.notes == ("it fails",) and inner.id not in made.free and made.held == {inner.name: inner.size}
    assert "hidden" in {one.key for one in made.sliders}


def test_a_number_that_no_polynomial_says_is_none(bert: Analysis, tmp_path: Path) -> None:
    sizing, made = sizing_of(bert), sliders_of(bert.structure)
    packed = tuple(replace(one, dtype="INT4") if one.kind == "bias" else one for one in sizing.structure.stacks)
    odd = replace(sizing, structure=replace(sizing.structure, stacks=packed))
    parts = formulas_of(odd, made.free)
    sizes = {ident: bert.structure.dims[ident].size for ident in made.free}
    layers = {one.name: one.count for one in bert.structure.chains}
    parameters, stored, macs = total(parts, sizes, layers)
    costs = odd.costs()
    assert (parameters, stored, macs) == (costs.parameters, None, costs.macs)


def test_the_page_says_which_number_it_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bot_onnx._page import job

    pytest.importorskip("jinja2", reason="the extra report is not installed")
    whole = job.formulas_of

    def lacking(*arguments: object) -> object:
        return tuple(replace(part, macs=None) for part in whole(*arguments))  # type: ignore[arg-type]

    monkeypatch.setattr(job, "formulas_of", lacking)
    html = bot_onnx.report(save(pages.bert(), tmp_path)).html
    assert 'id="why-macs"' in html and 'id="exact-macs"' not in html and 'id="exact-parameters"' in html
    (told,) = pages.scripted(html, [{}])
    assert told["macs"] is None and told["parameters"] == pages.computed(pages.data_of(html), {})["parameters"]
