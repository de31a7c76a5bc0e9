"""``report``: from a model, and what is known of it, to a page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from bot_onnx._align import align, find_facts, plan_alignment
from bot_onnx._align.energy import energy
from bot_onnx._analysis.overview import overview_of
from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._costs import sizing_of
from bot_onnx._fit.latency import median_seconds
from bot_onnx._folders import find_folder
from bot_onnx._onnxfile.data_files import named_files
from bot_onnx._onnxfile.header import Port, port_of, producer_of
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.lost_files import surviving
from bot_onnx._onnxfile.reader import Source, open_model
from bot_onnx._onnxfile.scratch import sweep_beside
from bot_onnx._onnxfile.writer import check_output, write_text
from bot_onnx._page.fitted import read_fit
from bot_onnx._page.formulas import PartFormulas, formulas_of
from bot_onnx._page.render import check_installed, page_data, rendered
from bot_onnx._page.settled import proven_sliders
from bot_onnx._page.sliders import Sliders
from bot_onnx._page.told import is_from, told_of
from bot_onnx._page.types import Content, Facts, Report
from bot_onnx._progress import Progress, stage, told
from bot_onnx._resample import shrinking_operators
from bot_onnx._runs.read_overrides import as_given
from bot_onnx._surgery.planner import refuse_quantised
from bot_onnx._surgery.provenance import Lineage
from bot_onnx._target.composition import Composition, combine
from bot_onnx.errors import BotError

StrPath = str | PathLike[str]


@surviving()
def report(
    model: StrPath,
    output: StrPath | None = None,
    *,
    against: StrPath | None = None,
    fit: StrPath | None = None,
    latency: bool = False,
    threads: int = 1,
    force: bool = False,
    inputs: Mapping[str, Any] | StrPath | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Make one HTML page of a model: its architecture, its costs, sliders for its sizes; it needs no network.

    Args:
        model: path of the ONNX file, or of a folder with one.
        output: path of the page; None: it is given alone.
        against: the model that it was resized from, to show sizes before and after, and the energy that is kept.
        fit: file with what ``bot-onnx fit --json`` printed.
        latency: time a run in onnxruntime, as :func:`bot_onnx.fit` does. threads: of one operator, in timed runs.
        force: replace an existing page.
        inputs, input_shapes: what to run and count the models on, see :func:`bot_onnx.inspect`.
        progress: called with (what, done, in all); 0 of 0 where nothing is counted.

    Raises:
        MissingRuntimeError: the extra ``report`` is not installed.
        OutputError: the page cannot be written, or would replace what it is about.
        SpecError: ``fit`` is no such file.
        GraphError: a model cannot be read or run.
    """
    check_installed()
    path, shown = _file(model)
    source = None if against is None else _file(against)
    if output is not None:
        named = [path, *([] if source is None else [source[0]]), *([] if fit is None else [Path(fit)])]
        named += [Path(inputs)] if isinstance(inputs, str | PathLike) else []
        there = [one for one in named if one.exists()]
        read = [*there, *(data for one in there for data in named_files(one))]
        check_output(output, force=force, sources=read)
    with told(progress):
        given, fitted = as_given(inputs, input_shapes), None if fit is None else read_fit(Path(fit))
        timed = threads if latency else None
        facts, sliders, formulas = _looked_at(path, shown, given, timed)
        before, kept = (None, {}) if source is None else _source(*source, given, timed, facts)
        lines = told_of(facts.metadata, None if before is None else before.sha256)
        content = Content(facts, before, lines, kept, sliders, formulas, fitted, threads)
        html = rendered(content)
        if output is not None:
            write_text(output, html, force=force, sources=read)
    return Report(html, None if output is None else Path(output), page_data(content))


def _file(model: StrPath) -> tuple[Path, str]:
    """The file, and how it is called."""
    folder = find_folder(os.fspath(model), None)
    return (Path(model), os.fspath(model)) if folder is None else (Path(folder.model), folder.shown)


def _looked_at(
    path: Path, shown: str, given: Given | None, timed: int | None
) -> tuple[Facts, Sliders, tuple[PartFormulas, ...]]:
    """The model that the page is of, and what can be turned."""
    stage(f"analysing {shown}")
    sweep_beside(path)
    with open_model(path, given=given) as source:
        analysis = analyse(source.model())
        facts = _facts(source, analysis, shown, timed)
        stage("proving the sizes")
        try:
            source.check_resizable()
            refuse_quantised(analysis, shown)
            sliders = proven_sliders(analysis)
        except BotError as error:
            sliders = Sliders((), notes=(str(error),))
        formulas = formulas_of(sizing_of(analysis), sliders.free)
        source.check_unchanged()
    return facts, sliders, formulas


def _source(
    path: Path, shown: str, given: Given | None, timed: int | None, made: Facts
) -> tuple[Facts, dict[str, float]]:
    """What the model is held against, and what of its energy is kept, by stack."""
    stage(f"analysing {shown}")
    sweep_beside(path)
    with open_model(path, given=given) as source:
        analysis = analyse(source.model())
        facts = _facts(source, analysis, shown, timed)
        lineage = is_from(made.metadata, facts.sha256)
        kept = {} if lineage is None else _kept(analysis, lineage)
        source.check_unchanged()
    return facts, kept


def _facts(source: Source, analysis: Analysis, shown: str, timed: int | None) -> Facts:
    loaded = analysis.model
    costs = sizing_of(analysis).costs()
    sides = ("input", loaded.graph.inputs), ("output", loaded.graph.outputs)
    ports = tuple((side, *_shown(port_of(value))) for side, values in sides for value in values)
    seconds = None
    if timed is not None:
        stage(f"timing {shown}")
        seconds = median_seconds(source.files[0], costs.inputs, timed)
    return Facts(
        path=shown,
        size_bytes=source.size_bytes,
        opset=loaded.opset_imports.get("", 0),
        producer=producer_of(loaded),
        ports=ports,
        sha256=source.sha256(),
        structure=replace(analysis.structure, overview=overview_of(analysis)),
        costs=costs,
        metadata=dict(loaded.metadata_props),
        quantised=analysis.form.scheme is not None,
        seconds=seconds,
    )


def _shown(port: Port) -> tuple[str, str]:
    name, kind, shape = port
    return name, f"{kind} {' x '.join(map(str, shape)) or 'scalar'}"


def _kept(analysis: Analysis, lineage: Lineage) -> dict[str, float]:
    """Share of every stack's energy that is kept along its widths, by the file's method without an alignment."""
    structure = analysis.structure
    operators = shrinking_operators()
    leaves = {dim.id for dim in structure.dims.values() if not dim.parts}
    if lineage.method not in operators or not leaves.issuperset(lineage.sizes):
        return {}
    sizes = {dim.id: lineage.sizes.get(dim.id, dim.size) for dim in structure.dims.values()}
    comp = Composition(structure)
    for ident in reversed(comp.order):
        if comp.dims[ident].parts:
            sizes[ident] = combine(comp.dims[ident], sizes)
    stage("measuring energies")
    alignment = plan_alignment("none", structure, sizes, find_facts(analysis))
    (table,) = energy(
        structure, alignment, align(alignment, analysis.tensors()), {lineage.method: operators[lineage.method]}, sizes
    )
    return {row.stack: row.kept for row in table.rows if np.isfinite(row.kept)}
