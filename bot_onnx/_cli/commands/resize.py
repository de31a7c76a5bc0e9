"""``bot-onnx resize``."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bot_onnx._cli.failures import standing
from bot_onnx._cli.folders import check_beside, default_folder, is_folder, told
from bot_onnx._cli.learn_option import OF_LEARNING, asked_learning, learn_options
from bot_onnx._cli.output import activity, show, show_json
from bot_onnx._cli.parameters import (
    OUTPUT,
    SHOWN,
    MethodsCommand,
    external_asked,
    input_options,
    model_output,
    option,
    read_inputs,
    shown_options,
)
from bot_onnx._cli.paths import ReadModel, ReadPath, WrittenPath
from bot_onnx._cli.quantise_option import quantise_options, resize_folder_quantised, resize_quantised
from bot_onnx._cli.request_options import ASKED, request_options
from bot_onnx._cli.target import default_output, target_options, target_spec
from bot_onnx._cli.together import are_several, check_options, resize_files
from bot_onnx._cli.vocabulary_options import Words, chosen_words, vocabulary_options
from bot_onnx._cli.work_options import work_asked, work_options
from bot_onnx._request import LeftOpen, ResizeRequest

if TYPE_CHECKING:
    from bot_onnx._model import Model
    from bot_onnx._planned import PlannedResize
    from bot_onnx._results import Result
    from bot_onnx._surgery.types import Plan
    from bot_onnx._target import TargetSpec


@dataclass(frozen=True, slots=True)
class _Job:
    """What all of the options come to."""

    model: Path
    request: ResizeRequest
    output: Path
    plan_out: Path | None
    file: str | None
    stored: Plan | None
    stored_file: Path | None
    words: Words | None = None
    way: dict[str, Any] = field(default_factory=dict)

    def opened(self) -> Model:
        """The model, which may lie in a folder."""
        from bot_onnx import api

        return api.open(self.model, file=self.file)

    def planned(self, model: Model, *, hashed: bool = True) -> PlannedResize:
        """What would be done: by the saved plan, where one is run again.

        The source is hashed only where the plan is kept, or held against another.
        """
        if self.stored is None:
            return model.plan(self.request) if hashed or self.plan_out is not None else model._sketch(self.request)
        left = LeftOpen.of(self.request)
        return model.replan(
            self.stored, calibration=left.calibration, external=left.external, unproven=left.unproven,
            inputs=left.inputs, input_shapes=left.input_shapes,
        )  # fmt: skip

    def resized(self, model: Model, output: Path, *, force: bool = False) -> Result:
        """Do it."""
        if self.stored is None:
            return model.resize(self.request, output, force=force, **self.way)
        left = LeftOpen.of(self.request)
        told = {entry.name: getattr(left, entry.name) for entry in fields(left)}
        return model.replay(self.stored, output, plan_file=self.stored_file, force=force, **self.way, **told)

    def read(self) -> tuple[Path, ...]:
        """Files that it names and that no output may replace."""
        return (*self.request.files(), *(() if self.stored_file is None else (self.stored_file,)))


@click.command(
    short_help="Make a smaller or larger model out of a trained one.",
    cls=MethodsCommand,
    epilog="\b\nExamples:\n"
    "  bot-onnx resize bert.onnx --spec bert-s -o small.onnx\n"
    "  bot-onnx resize model.onnx --layers 6 --hidden 384 --dry-run\n"
    "  bot-onnx resize model.onnx --hidden 1536 --convention value --layer-axis identity\n"
    "  bot-onnx resize bert-folder --spec small.json -o small-folder\n"
    "  bot-onnx resize vit.onnx --hidden 384 --learn 100 --data samples.npz -o small.onnx\n"
    "  bot-onnx resize encoder.onnx decoder.onnx --hidden 384 -o small-pair",
)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=ReadModel())
@click.option("--file", metavar="PLACE", help="Where MODEL is a folder with several: the .onnx file in it, alone.")
@click.option(
    "--connect",
    multiple=True,
    metavar="A:OUT=B:IN",
    help="Of several files: output OUT of file A is input IN of file B, where the names do not say it.",
)
@target_options
@vocabulary_options
@model_output("MODEL-<spec or sizes>.onnx beside the source", folders=True)
@work_options
@option(
    OUTPUT,
    "--plan-out",
    type=WrittenPath(dir_okay=False),
    metavar="FILE",
    help="Also save the plan, as JSON; --plan runs it again.",
)
@option(
    OUTPUT,
    "--plan",
    type=ReadPath(dir_okay=False),
    metavar="FILE",
    help="Run a saved plan again: the same bytes from the same MODEL. It says the target and how to get there.",
)
@option(
    OUTPUT,
    "--recipe-out",
    type=WrittenPath(dir_okay=False),
    metavar="FILE",
    help="Also write a recipe of these options, for 'bot-onnx run' (.yaml or .json).",
)
@request_options
@learn_options
@quantise_options
@input_options
@option(SHOWN, "--dry-run", is_flag=True, help="Print the plan; read no weights, write no model.")
@option(
    SHOWN,
    "--against-plan",
    type=ReadPath(dir_okay=False),
    metavar="FILE",
    help="With --dry-run: print how the plan differs from a saved one.",
)
@shown_options
@click.pass_context
def command(ctx: click.Context, /, models: tuple[Path, ...], spec: str | None, method: str, **values: Any) -> None:
    """Make a smaller or larger model out of MODEL, to a spec, to sizes given as options, or both.

    MODEL is an .onnx file, or a folder with one (or hf://organisation/name): of a folder comes a folder, with its
    tokenizer, and its config at the new sizes. Several files that are used one after the other (encoder, decoder), or
    a folder of them, are resized together and still fit. Sizes left out are derived. The output appears only when it
    is whole and verified; MODEL is never written to.
    """
    from bot_onnx._cli.method_options import PREFIX, chosen_options

    model, several = models[0], are_several(models, values["file"])
    if several:
        check_options(models, values)
    elif values["connect"]:
        raise click.UsageError("'--connect' joins several files: one is given.")
    own = {key: values.pop(key) for key in list(values) if key.startswith(PREFIX)}
    options = chosen_options(method, own, ctx.command.params)
    stored = None if values["plan"] is None else _read_plan(ctx, values["plan"])
    flags = {key: values.get(key) for key in TARGET_KEYS}
    words = chosen_words(model, values, stored)
    if stored is not None:
        spec, flags = stored.name or None, {} if stored.name else stored.asked.spec
    elif words is not None:
        flags["vocab"] = {"keep": list(words.ids)}
    target = target_spec(spec, flags) if stored is None else _target_of(stored)
    output = values["output"] or default_output(model, spec, target, flags)
    if is_folder(model) and values["output"] is None:
        output = default_folder(model, output)
    asked = {name: values[name] for name in ASKED} | {"external": external_asked(values)}
    given = read_inputs(values["inputs"], values["input_shapes"])
    learn = None if stored is not None else asked_learning(ctx, values)
    request = ResizeRequest(target, method=method, options=options, learn=learn, **asked, **given)
    if several:
        resize_files(models, request, output, values)
        return
    if stored is not None:
        request = replace(request, requantize=stored.asked.requantize)
    way = work_asked(model, request, values)
    job = _Job(model, request, output, values["plan_out"], values["file"], stored, values["plan"], words, way)
    _check_files(job, values)
    if values["against_plan"] is not None and not values["dry_run"]:
        raise click.UsageError("'--against-plan' compares plans: give --dry-run with it.")
    if values["dry_run"]:
        _dry_run(job, values)
    elif values["quantize"] is not None:
        made = _resize_quantised(job, values)
        with standing(job.output):
            _save_plan(job, made.plan.to_json(), force=values["force"])
            _write_words(job, made.plan, values)
    else:
        _resize(job, values)
    if values["recipe_out"] is not None:
        with standing(None if values["dry_run"] else job.output):
            _save_recipe(ctx, job, values["recipe_out"], force=values["force"])


TARGET_KEYS = (
    "layers", "layers_by", "keep", "refit", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab",
    "positions", "width", "round_to", "dims", "constants",
)  # fmt: skip


#: Parameters that may stand beside ``--plan``: what a plan leaves open, where the output goes and what becomes of it,
#: and what is shown.
_BESIDE_PLAN = frozenset(entry.name for entry in fields(LeftOpen)) | frozenset(
    "models file plan output force quantize quantize_on dry_run resume jobs scheduler against_plan plan_out recipe_out "
    "as_json quiet tokenizer shard_size".split()
)


def _read_plan(ctx: click.Context, path: Path) -> Plan:
    """The plan that ``--plan`` names.

    Raises:
        click.UsageError: another option says what the plan says. PlanError, OSError: it cannot be read.
    """
    from bot_onnx._surgery.stored import load_plan

    for param in ctx.command.get_params(ctx):
        given = ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        if given and param.name in OF_LEARNING:
            raise click.UsageError(
                f"'{param.opts[0]}': a saved plan has the operators of its method, which it does not train; leave "
                "--plan out to learn them."
            )
        if given and param.name not in _BESIDE_PLAN:
            raise click.UsageError(
                f"'{param.opts[0]}' says what the plan says: leave it out to run {path} again, or leave --plan out."
            )
    return load_plan(path)


def _target_of(stored: Plan) -> TargetSpec:
    from bot_onnx._target import TargetSpec

    return TargetSpec.model_validate(stored.asked.spec, context={"where": "the plan's request"})


def _check_files(job: _Job, values: dict[str, Any]) -> None:
    """Refuse, before any work, outputs that would replace what is there, or one another.

    Raises:
        OutputError: one of them may not be written.
    """
    from bot_onnx._onnxfile.writer import check_output

    if job.words is not None and not values["dry_run"]:
        job.words.check(job.output, force=values["force"])
    if job.output.exists() and not values["dry_run"] and not is_folder(job.model):
        check_output(job.output, force=values["force"])
    if job.plan_out is not None:
        check_beside("--plan-out", job.plan_out, job.model, job.output, force=values["force"])
    if values["recipe_out"] is not None:
        _check_recipe(job, values)


def _check_recipe(job: _Job, values: dict[str, Any]) -> None:
    """Refuse a recipe's name that nothing could be written to, or read from.

    Raises:
        click.UsageError: its ending, or that a recipe takes no folder. OutputError: it may not be written.
        SpecError: the vocabulary is cut, which no step of a recipe does.
    """
    from bot_onnx._cli.recipes.options import BESIDE, refuse_beside
    from bot_onnx._onnxfile.addresses import as_address

    path: Path = values["recipe_out"]
    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise click.UsageError(f"'--recipe-out {path}': a recipe ends in .yaml or .json")
    if as_address(job.model) is not None or as_address(job.output) is not None:
        raise click.UsageError("'--recipe-out': a recipe reads and writes files on this machine alone.")
    if is_folder(job.model):
        raise click.UsageError("'--recipe-out': a recipe takes the .onnx file in a folder: give that as MODEL")
    refuse_beside((word for word in BESIDE if values[word.replace("-", "_")]), "--recipe-out")
    check_beside("--recipe-out", path, job.model, job.output, force=values["force"])


def _save_recipe(ctx: click.Context, job: _Job, path: Path, *, force: bool) -> None:
    from bot_onnx._cli.recipes.write import recipe_of
    from bot_onnx._onnxfile.writer import write_text

    write_text(path, recipe_of(ctx, job.model, job.output, path), force=force)


def _dry_run(job: _Job, values: dict[str, Any]) -> None:
    from bot_onnx._report.json_report import plan_json
    from bot_onnx._report.plan_report import plan_report
    from bot_onnx._surgery.stored import load_plan

    as_json, quiet, against = values["as_json"], values["quiet"], values["against_plan"]
    other = None if against is None else load_plan(against)
    model = job.opened()
    with activity(f"planning {job.model.name}", silent=quiet or as_json):
        plan = job.planned(model, hashed=as_json or other is not None)
    _save_plan(job, plan.to_json(), force=values["force"])
    with standing(job.plan_out):
        shown = told(model, plan, silent=quiet)
        if other is not None:
            _show_differences(other, plan, values)
        elif as_json:
            show_json(_with_words(job, plan, plan_json(plan)))
        elif not quiet:
            show(plan_report(shown))
            _say_words(job, plan)
            click.echo(f"Dry run: {job.output} was not written.", err=True)


def _show_differences(saved: Plan, plan: Plan, values: dict[str, Any]) -> None:
    from bot_onnx._report.plan_difference import difference_json, difference_report, plan_differences

    found = plan_differences(saved, plan)
    if values["as_json"]:
        show_json(difference_json(found))
    elif not values["quiet"]:
        show(difference_report(found, values["against_plan"].name))


def _resize_quantised(job: _Job, values: dict[str, Any]) -> Result:
    if not is_folder(job.model):
        made: Result = resize_quantised(job.model, job.request, job.output, values, partial(_floats, job), job.read())
        return made
    model = job.opened()
    write = partial(job.resized, model, job.output, force=values["force"])
    done: Result = resize_folder_quantised(model, job.request, values, write, job.read())
    told(model, done.plan, silent=values["quiet"])
    return done


def _floats(job: _Job, output: Path) -> Result:
    """What is quantised afterwards."""
    return job.resized(job.opened(), output)


def _resize(job: _Job, values: dict[str, Any]) -> None:
    from bot_onnx._report.json_report import result_json
    from bot_onnx._report.result_report import result_report

    model = job.opened()
    counted, silent = job.request.learn is not None, values["quiet"] or values["as_json"]
    with activity(f"reading {job.model.name}", silent=silent, counted=counted):
        result = job.resized(model, job.output, force=values["force"])
    with standing(job.output):
        _say_resumed(result, silent=silent)
        _save_plan(job, result.plan.to_json(), force=values["force"])
        _write_words(job, result.plan, values)
        shown = replace(result, plan=told(model, result.plan, silent=values["quiet"]))
        if values["as_json"]:
            show_json(_with_words(job, result.plan, result_json(result)))
        elif not values["quiet"]:
            show(result_report(shown))
            _say_words(job, result.plan)


def _say_resumed(result: Result, *, silent: bool) -> None:
    found = result.resumed
    if found is None or silent:
        return
    if found.anew:
        click.echo("What was kept was of another source, plan or machine: begun anew.", err=True)
    elif found.finished:
        click.echo(f"Went on: {found.finished} of {found.tensors} tensors were finished.", err=True)


def _write_words(job: _Job, plan: Plan, values: dict[str, Any]) -> None:
    if job.words is not None:
        job.words.write(job.output, plan, force=values["force"])


def _say_words(job: _Job, plan: Plan) -> None:
    if job.words is not None:
        job.words.say(plan)


def _with_words(job: _Job, plan: Plan, told: dict[str, Any]) -> dict[str, Any]:
    return told if job.words is None else {**told, "vocabulary": job.words.told(plan)}


def _save_plan(job: _Job, text: str, *, force: bool) -> None:
    if job.plan_out is None:
        return
    from bot_onnx._onnxfile.writer import write_text

    # Against the output that is there now.
    check_beside("--plan-out", job.plan_out, job.model, job.output, force=force)
    write_text(job.plan_out, text + "\n", force=force)
