"""``bot-onnx inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bot_onnx._cli.output import activity, show, show_json
from bot_onnx._cli.parameters import input_options, json_option, model_argument, read_inputs
from bot_onnx._cli.paths import Command

if TYPE_CHECKING:
    from bot_onnx._structure import Structure


@click.command(
    cls=Command,
    short_help="Show the dims, layers and stacks of a model, and what can be resized.",
    epilog="\b\nExamples:\n  bot-onnx inspect model.onnx\n  bot-onnx inspect model.onnx --energy\n"
    "  bot-onnx inspect model.onnx --explain hidden",
)
@model_argument
@click.option("--energy", is_flag=True, help="Also how much of the weights' energy a halving keeps, per alignment.")
@click.option("--dims", is_flag=True, help="Every dim in a row of its own, where many dims are shown by stages.")
@click.option(
    "--explain",
    metavar="DIM|TENSOR|NODE",
    help="Instead say of one: which axes carry it, what it is made of, why it is fixed, and what moves it.",
)
@input_options
@json_option
def command(
    model: Path,
    energy: bool,
    dims: bool,
    explain: str | None,
    as_json: bool,
    inputs: Path | None,
    input_shapes: tuple[str, ...],
) -> None:
    """Show the dims, layers and stacks of MODEL, and what of it can be resized.

    The names and ids of dims are those that 'resize --dim' takes.
    """
    from bot_onnx import api
    from bot_onnx._report.energy_report import energy_report
    from bot_onnx._report.inspect_report import inspect_report
    from bot_onnx._report.json_report import inspection_json
    from bot_onnx._report.values import plain

    if explain is not None and energy:
        raise click.UsageError("'--explain' tells of one thing, '--energy' of all: give one of them.")
    with activity(f"analysing {model.name}", silent=as_json):
        given = read_inputs(inputs, input_shapes)
        inspection = api.inspect(model, **given)
        tables = api.energy(model, **given) if energy else ()
    if explain is not None:
        _explain(model, inspection.structure, explain, as_json)
        return
    if as_json:
        show_json(inspection_json(inspection) | ({"energy": plain(tables)} if energy else {}))
        return
    show(inspect_report(inspection, every_dim=dims))
    if energy:
        show(energy_report(tables, {dim.id: dim.name for dim in inspection.structure.dims.values()}))


def _explain(model: Path, structure: Structure, word: str, as_json: bool) -> None:
    from bot_onnx._folders import find_folder
    from bot_onnx._origins import Origin
    from bot_onnx._report.explain_report import NodeFacts, explain_report, explanation

    folder = find_folder(model)
    with Origin.of(model if folder is None else folder.model).source() as source:
        nodes = {node.name: NodeFacts(node.name, node.op_type, (*node.input,)) for node in source.proto.graph.node}
    told = explanation(structure, word, nodes)
    if as_json:
        show_json({"explained": word, **told})
    else:
        show(explain_report(told))
