"""``bot-onnx fit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bot_onnx._cli.folders import check_beside
from bot_onnx._cli.output import activity, show, show_json
from bot_onnx._cli.parameters import (
    INPUTS,
    OUTPUT,
    SectionedCommand,
    arrays_option,
    model_argument,
    option,
    read_inputs,
    shapes_option,
    shown_options,
)
from bot_onnx._cli.paths import WrittenPath

if TYPE_CHECKING:
    from bot_onnx._fit import Budget, Fit

SECTION = "Budget"


@click.command(
    short_help="Propose sizes within a budget of bytes, parameters, MACs or time.",
    cls=SectionedCommand,
    epilog="\b\nExamples:\n"
    "  bot-onnx fit model.onnx --max-size 20MB\n"
    "  bot-onnx fit model.onnx --max-macs 1G --shape input_ids=1x128 -o small.onnx\n"
    "  bot-onnx fit model.onnx --max-latency 5ms --keep hidden --spec-out small.json",
)
@model_argument
@option(SECTION, "--max-size", metavar="20MB", help="Largest file, weights included.")
@option(SECTION, "--max-params", metavar="10M", help="Most parameters.")
@option(SECTION, "--max-macs", metavar="1G", help="Most multiply-accumulates of a run.")
@option(SECTION, "--max-latency", metavar="5ms", help="Longest run in onnxruntime, on this machine's CPU.")
@option(SECTION, "--quantize", type=click.Choice(["int8"]), help="Count sizes as of int8 weights; none are written.")
@option(SECTION, "--keep", metavar="NAME,...", help="Sizes that stay: layers, hidden, heads, or a dim by name.")
@arrays_option
@shapes_option(
    "--input-shape",
    "--shape",
    metavar="NAME=1x128",
    help="The shape to count and time an input at; may be given for several inputs.",
)
@option(INPUTS, "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of timed runs.")
@option(INPUTS, "--no-latency", is_flag=True, help="Time no run, unless --max-latency asks for it.")
@option(OUTPUT, "--output", "-o", type=WrittenPath(dir_okay=False), metavar="OUT", help="Resize to it.")
@option(
    OUTPUT,
    "--spec-out",
    type=WrittenPath(dir_okay=False),
    metavar="FILE",
    help="Save the pick as a spec for 'resize --spec'.",
)
@option(OUTPUT, "--force", is_flag=True, help="Replace files that exist.")
@shown_options
def command(model: Path, output: Path | None, spec_out: Path | None, **values: Any) -> None:
    """Propose sizes of MODEL that a device has room and time for, and resize to the best.

    Every candidate is planned and proven as 'resize' would, and timed with random weights.
    """
    from bot_onnx._fit import fit
    from bot_onnx._report.fit_report import fit_json, fit_report

    budget = _budget(values)
    force, quiet, as_json = values["force"], values["quiet"], values["as_json"]
    _check_outputs(model, output, spec_out, force)
    given = read_inputs(values["inputs"], values["input_shapes"])
    keep = tuple(filter(None, (name.strip() for name in (values["keep"] or "").split(","))))
    with activity(f"analysing {model.name}", silent=quiet or as_json, counted=True) as bar:
        found = fit(
            model,
            budget,
            keep=keep,
            threads=values["threads"],
            measure=not values["no_latency"],
            progress=bar.update if bar is not None else None,
            **given,
        )
    if not as_json and not quiet:
        show(fit_report(found))
    if spec_out is not None:
        from bot_onnx._onnxfile.writer import write_text

        write_text(spec_out, json.dumps(found.pick.spec, indent=2) + "\n", force=force)
    written = None if output is None else _write(found, output, given, force=force, silent=quiet or as_json)
    if as_json:
        show_json({**fit_json(found), **({} if written is None else {"written": written})})


def _budget(values: dict[str, Any]) -> Budget:
    from bot_onnx._fit import Budget
    from bot_onnx._fit.budget import quantity
    from bot_onnx.errors import SpecError

    try:
        limits = {
            name: quantity(name, text)
            for name in ("size", "params", "macs", "latency")
            if (text := values[f"max_{name}"]) is not None
        }
        return Budget(**limits, quantize=values["quantize"])
    except SpecError as error:
        raise click.UsageError(str(error)) from error


def _check_outputs(model: Path, output: Path | None, spec_out: Path | None, force: bool) -> None:
    """Refuse, before any work, outputs that would replace one another, or files that exist.

    Raises:
        OutputError: one of them may not be written.
    """
    from bot_onnx._onnxfile.writer import check_output

    if not model.exists():
        return  # what opens it says so
    if output is not None:
        check_output(output, force=force)
    if spec_out is not None:
        check_beside("--spec-out", spec_out, model, output, force=force)


def _write(found: Fit, output: Path, given: dict[str, Any], *, force: bool, silent: bool) -> dict[str, Any]:
    """Resize to the pick, and hold the file against the budget.

    Raises:
        VerifyError: it is not within it.
    """
    from bot_onnx import api
    from bot_onnx._fit.written import check_written
    from bot_onnx._report.json_report import result_json
    from bot_onnx._report.result_report import result_report

    with activity(f"writing {output.name}", silent=silent) as bar:
        result = api.resize(
            found.source.path,
            found.pick.spec,
            output,
            force=force,
            progress=bar.update if bar is not None else None,
            **given,
        )
    told = check_written(found, output, result.report.size_bytes, result.report.costs)
    if not silent:
        show(result_report(result))
        click.echo(told)
    return {**result_json(result), "budget": told}
