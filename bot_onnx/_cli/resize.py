"""``bot-onnx resize``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bot_onnx._cli.failures import standing
from bot_onnx._cli.folders import default_folder, is_folder, is_within, told
from bot_onnx._cli.output import activity, show, show_json
from bot_onnx._cli.parameters import (
    OUTPUT,
    SHOWN,
    SectionedCommand,
    input_options,
    model_argument,
    model_output,
    option,
    read_inputs,
    shown_options,
)
from bot_onnx._cli.quantise_option import quantise_options, resize_quantised
from bot_onnx._cli.request_options import ASKED, request_options
from bot_onnx._cli.target import default_output, target_options, target_spec
from bot_onnx._request import ResizeRequest
from bot_onnx.errors import OutputError

if TYPE_CHECKING:
    from bot_onnx._model import Model


class ResizeCommand(SectionedCommand):
    """Adds the methods' options when the command is parsed or its help is shown: finding them costs imports."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters, and those of the methods after the target's."""
        if not any(param.name == "method" for param in self.params):
            from bot_onnx._cli.method_options import method_parameters

            first_output = next(n for n, param in enumerate(self.params) if getattr(param, "section", "") == OUTPUT)
            taken = {flag for param in self.params for flag in (*param.opts, *param.secondary_opts)}
            self.params[first_output:first_output] = method_parameters(taken)
        return super().get_params(ctx)


@dataclass(frozen=True, slots=True)
class _Job:
    """What all of the options come to."""

    model: Path
    request: ResizeRequest
    output: Path
    plan_out: Path | None
    file: str | None

    def opened(self) -> Model:
        """The model, which may lie in a folder."""
        from bot_onnx import api

        return api.open(self.model, file=self.file)


@click.command(
    cls=ResizeCommand,
    epilog="\b\nExamples:\n"
    "  bot-onnx resize bert.onnx --spec bert-s -o small.onnx\n"
    "  bot-onnx resize model.onnx --layers 6 --hidden 384 --dry-run\n"
    "  bot-onnx resize model.onnx --hidden 1536 --convention value --layer-axis identity\n"
    "  bot-onnx resize bert-folder --spec small.json -o small-folder",
)
@model_argument
@click.option("--file", metavar="PLACE", help="Where MODEL is a folder with several: the .onnx file in it.")
@target_options
@model_output("MODEL-<spec or sizes>.onnx beside the source", folders=True)
@option(
    OUTPUT,
    "--plan-out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also save the plan, as JSON.",
)
@request_options
@quantise_options
@input_options
@option(SHOWN, "--dry-run", is_flag=True, help="Print the plan; read no weights, write no model.")
@shown_options
@click.pass_context
def command(ctx: click.Context, /, model: Path, spec: str | None, method: str, **values: Any) -> None:
    """Make a smaller or larger model out of MODEL, to a spec, to sizes given as options, or both.

    MODEL is an .onnx file, or a folder with one (or hf://organisation/name): of a folder comes a folder, with its
    tokenizer, and its config at the new sizes. Sizes left out are derived. The output appears only when it is whole
    and verified; MODEL is never written to.
    """
    from bot_onnx._cli.method_options import PREFIX, chosen_options

    own = {key: values.pop(key) for key in list(values) if key.startswith(PREFIX)}
    options = chosen_options(method, own, ctx.command.params)
    flags = {key: values.get(key) for key in _TARGET_KEYS}
    target = target_spec(spec, flags)
    output = values["output"] or default_output(model, spec, target, flags)
    if is_folder(model) and values["output"] is None:
        output = default_folder(model, output)
    asked = {name: values[name] for name in ASKED} | {"external": values["external"]}
    given = read_inputs(values["inputs"], values["input_shapes"])
    request = ResizeRequest(target, method=method, options=options, **asked, **given)
    job = _Job(model, request, output, values["plan_out"], values["file"])
    _check_files(job, {**values, "spec": spec})
    if values["dry_run"]:
        _dry_run(job, force=values["force"], as_json=values["as_json"], quiet=values["quiet"])
    elif values["quantize"] is not None:
        made = resize_quantised(job.model, job.request, job.output, values)
        with standing(job.output):
            _save_plan(job, made.plan.to_json(), force=values["force"])
    else:
        _resize(job, values)


_TARGET_KEYS = (
    "layers", "layers_by", "keep", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab", "positions",
    "width", "round_to", "dims", "constants",
)  # fmt: skip


def _check_files(job: _Job, values: dict[str, Any]) -> None:
    """Refuse, before any work, outputs that would replace what the command reads, or one another.

    Raises:
        OutputError: one of them may not be written.
    """
    from bot_onnx._onnxfile.writer import check_output

    named = [name for name in (values["spec"], job.request.calibration) if name is not None]
    given = [Path(name) for name in named if Path(name).is_file()]
    if job.output.exists() and not values["dry_run"] and not is_folder(job.model):
        check_output(job.output, force=values["force"], sources=given)
    if job.plan_out is None:
        return
    if os.path.realpath(job.plan_out) == os.path.realpath(job.output):
        raise OutputError(f"--plan-out {job.plan_out}: that is the output's name; give the plan a file of its own")
    _check_plan_out(job, given, values["force"])


def _check_plan_out(job: _Job, given: Sequence[Path], force: bool) -> None:
    from bot_onnx._onnxfile.data_files import named_files
    from bot_onnx._onnxfile.writer import check_output

    assert job.plan_out is not None
    if is_within(job.plan_out, job.model):
        raise OutputError(f"--plan-out {job.plan_out} lies in {job.model}, which is never written to: name another")
    models = [job.model, job.output]
    data = [file for path in models for file in named_files(path)]
    try:
        check_output(job.plan_out, force=force, sources=[*models, *data, *given])
    except OutputError as error:
        raise OutputError(f"--plan-out: {error}") from error


def _dry_run(job: _Job, *, force: bool, as_json: bool, quiet: bool) -> None:
    from bot_onnx._report import plan_json, plan_report

    model = job.opened()
    with activity(f"planning {job.model.name}", silent=quiet or as_json):
        plan = model.plan(job.request)
    _save_plan(job, plan.to_json(), force=force)
    with standing(job.plan_out):
        shown = told(model, plan, silent=quiet)
        if as_json:
            show_json(plan_json(plan))
        elif not quiet:
            show(plan_report(shown))
            click.echo(f"Dry run: {job.output} was not written.", err=True)


def _resize(job: _Job, values: dict[str, Any]) -> None:
    from bot_onnx._report import result_json, result_report

    model = job.opened()
    with activity(f"reading {job.model.name}", silent=values["quiet"] or values["as_json"]):
        result = model.resize(job.request, job.output, force=values["force"])
    with standing(job.output):
        _save_plan(job, result.plan.to_json(), force=values["force"])
        shown = replace(result, plan=told(model, result.plan, silent=values["quiet"]))
        if values["as_json"]:
            show_json(result_json(result))
        elif not values["quiet"]:
            show(result_report(shown))


def _save_plan(job: _Job, text: str, *, force: bool) -> None:
    if job.plan_out is None:
        return
    from bot_onnx._onnxfile.writer import write_text

    _check_plan_out(job, (), force)  # against the output that is there now
    write_text(job.plan_out, text + "\n", force=force)
