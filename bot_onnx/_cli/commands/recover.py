"""``bot-onnx recover``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bot_onnx._cli.failures import note_json, standing
from bot_onnx._cli.output import activity, show, show_json
from bot_onnx._cli.parameters import (
    OUTPUT,
    F,
    SectionedCommand,
    external_asked,
    model_argument,
    model_output,
    option,
    shown_options,
)
from bot_onnx._cli.paths import ReadData, ReadModel, ReadPath, WrittenPath
from bot_onnx._cli.quantise_option import quantise_asked, quantise_options
from bot_onnx._cli.training_progress import Told

if TYPE_CHECKING:
    from bot_onnx._quantise import Quantised
    from bot_onnx._recover.data import DataOptions
    from bot_onnx._recover.types import Recovery, Settings

DATA, TRAINING = "Data", "Training"


def reading_options(command: F, std: str = "--std") -> F:
    """Add what says how data are read, but for ``--data`` itself; :func:`data_options` reads it.

    Args:
        command: that gets the options.
        std: what the deviation of pixels is called, where a method's option has that name.
    """
    for decorate in reversed(
        (
            option(
                DATA,
                "--tokenizer",
                type=ReadPath(inside="tokenizer.json"),
                metavar="JSON",
                help="The tokenizer.json of text, or its folder; default: the one beside MODEL or its teacher.",
            ),
            option(
                DATA,
                "--length",
                type=click.IntRange(min=2),
                default=64,
                show_default=True,
                help="For text: most tokens a line.",
            ),
            option(
                DATA,
                "--field",
                metavar="NAME",
                help="Of JSON lines and tables: the field with the text or the image; default: the only one.",
            ),
            option(
                DATA,
                "--preprocessor",
                type=ReadPath(dir_okay=False),
                metavar="JSON",
                help="For images and sounds: the preprocessor_config.json; default: that beside MODEL or its teacher.",
            ),
            option(
                DATA,
                "--seconds",
                type=click.FloatRange(min=0, min_open=True),
                default=2.0,
                show_default=True,
                help="For sounds: most a sample.",
            ),
            option(
                DATA, "--image-size", type=click.IntRange(min=1), help="Side of the images, where MODEL leaves it open."
            ),
            option(
                DATA,
                "--mean",
                metavar="NUMBERS",
                help="Of pixels from 0 to 1: one number, or one a channel: 0.5,0.5,0.5.",
            ),
            option(
                DATA,
                std,
                "std",
                metavar="NUMBERS",
                help="What pixels less the mean are divided by; default: ImageNet's, grey 0.5.",
            ),
            option(
                DATA,
                "--held-out",
                type=click.FloatRange(0.0, 0.9, min_open=True),
                default=0.1,
                show_default=True,
                help="Part of the samples that is only measured on (1,024 at most).",
            ),
        )
    ):
        command = decorate(command)
    return command


@click.command(
    short_help="Train a shrunk model to answer as its source does, without labels.",
    cls=SectionedCommand,
    epilog="\b\nExamples:\n"
    "  bot-onnx recover small.onnx --teacher model.onnx --data inputs.npz --steps 2000 -o out.onnx\n"
    "  bot-onnx recover small.onnx --teacher bert.onnx --data lines.txt --tokenizer tokenizer.json\n"
    "  bot-onnx recover small.onnx --teacher vit.onnx --data photos --mean 0.5 --std 0.5",
)
@model_argument
@option(
    DATA,
    "--teacher",
    type=ReadModel(dir_okay=False),
    required=True,
    metavar="ONNX",
    help="The model that MODEL was made from.",
)
@option(
    DATA,
    "--data",
    type=ReadData(),
    required=True,
    multiple=True,
    metavar="DATA",
    help="A text with a sample a line, JSON lines, Parquet or Arrow (a saved dataset), a folder of images or WAV "
    "files, or an .npz file with an array per input; again, or a pattern ('text-*.txt'), for several.",
)
@reading_options
@option(TRAINING, "--steps", type=click.IntRange(min=1), default=1000, show_default=True, help="Number of updates.")
@option(TRAINING, "--batch", type=click.IntRange(min=2), default=32, show_default=True, help="Samples an update.")
@option(
    TRAINING,
    "--accumulate",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Batches an update, whose gradients are added up: that of one batch as large, to rounding, where the loss "
    "is a mean over samples (divergence without padding). Squares are over the teacher's variance within a batch, and "
    "pairs of samples are compared within one.",
)
@option(
    TRAINING,
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=1e-3,
    show_default=True,
    help="Largest learning rate: it rises over the first twentieth of the steps, and falls as a cosine.",
)
@option(
    TRAINING,
    "--loss",
    "output_loss",
    type=click.Choice(["auto", "divergence", "squares", "similarity"]),
    default="auto",
    show_default=True,
    help="How outputs are compared. divergence: KL of classes; squares: squared differences over the teacher's "
    "variance, through a trained linear map where the widths differ; similarity: the cosines of all pairs of samples "
    "in the batch. auto: divergence for logits and probabilities, squares for others, and similarity with it where the "
    "widths differ.",
)
@option(
    TRAINING,
    "--learn",
    "outputs",
    multiple=True,
    metavar="OUTPUT",
    help="Learn this output (again for several); without it all that both models have.",
)
@option(
    TRAINING,
    "--hidden-weight",
    "hidden",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Weight of the hidden states of the layers (compared by squares) beside the outputs; 0: outputs alone.",
)
@option(
    TRAINING,
    "--temperature",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="That logits are divided by before the divergence.",
)
@option(
    TRAINING,
    "--validate-every",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="STEPS",
    help="Between two times that the loss is measured on samples held out (256 at most); 0: never.",
)
@option(
    TRAINING,
    "--patience",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Stop when that loss has not improved so many times in a row; 0: train all steps. The learning rate falls as "
    "planned for all of them.",
)
@option(TRAINING, "--keep-best", is_flag=True, help="Write the weights with the lowest such loss, not the last ones.")
@option(
    TRAINING, "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the split and the order."
)
@option(
    TRAINING,
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where it trains. auto: CUDA where PyTorch finds a device, else the CPU.",
)
@option(
    TRAINING,
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Of products, by PyTorch's autocast; weights stay float32. auto: fp32 on the CPU, on CUDA bf16, or fp16 on "
    "devices without it.",
)
@option(
    TRAINING,
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="0: as many as there are cores.",
)
@model_output("MODEL-recovered.onnx beside MODEL")
@quantise_options
@option(OUTPUT, "--restart", is_flag=True, help="Throw away what an interrupted run has left in OUT.recover.")
@option(
    OUTPUT,
    "--save-every",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two times that OUT.recover is written.",
)
@option(
    OUTPUT,
    "--log",
    type=WrittenPath(dir_okay=False),
    metavar="CSV",
    help="A table that grows while it trains: step, loss, validation_loss, learning_rate, seconds. A run that goes on, "
    "goes on in it; an earlier log is replaced.",
)
@option(
    OUTPUT,
    "--log-every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="STEPS",
    help="Between two rows of it, and points of the curves; validated steps have one.",
)
@option(
    OUTPUT,
    "--tensorboard",
    type=WrittenPath(file_okay=False),
    metavar="DIR",
    help="Event files with the same numbers for TensorBoard (the extra 'tensorboard').",
)
@option(
    OUTPUT,
    "--teacher-cache",
    type=WrittenPath(file_okay=False),
    metavar="DIR",
    help="Where the teacher's answers are kept for other runs; default: $BOT_ONNX_TEACHER_CACHE, or bot-onnx/teachers "
    "in the user's cache.",
)
@option(
    OUTPUT,
    "--teacher-cache-size",
    type=click.FloatRange(min=0),
    default=8.0,
    show_default=True,
    metavar="GIB",
    help="Most that this folder may take; 0: nothing is kept.",
)
@shown_options
def command(model: Path, teacher: Path, data: tuple[Path, ...], output: Path | None, **values: Any) -> None:
    """Train MODEL, a shrunk one, to answer as the model it was made from: with data, without labels.

    The teacher runs in onnxruntime, MODEL is trained in PyTorch (the extra 'recover'). The
    output appears only when it is whole and verified. A run that was interrupted goes on when it is called again in
    the same way; with --quantize, also after a refusal to quantise.
    """
    settings, options = _settings(values), data_options(values)
    from bot_onnx._recover.data import Origin
    from bot_onnx._recover.jobs import files_read, recover
    from bot_onnx._recover.ranks import Ranks
    from bot_onnx._report.quantise_report import quantise_json, quantise_report
    from bot_onnx._report.recover_report import recover_json, recover_report

    out = output if output is not None else model.with_name(f"{model.stem}-recovered.onnx")
    leads = Ranks.of(os.environ).leads
    if not leads:  # stdout is the first process's
        note_json()
    silent = values["quiet"] or values["as_json"] or not leads
    with activity(f"reading {model.name}", silent=silent, counted=True) as bar:
        told = Told(bar, silent, settings)
        run = partial(
            recover, model, teacher, data, settings=settings, options=options, restart=values["restart"],
            save_every=values["save_every"], teacher_cache=values["teacher_cache"],
            teacher_cache_bytes=int(values["teacher_cache_size"] * (1 << 30)), external=external_asked(values),
            progress=told.step, validated=told.validated, log=values["log"], log_every=values["log_every"],
            tensorboard=values["tensorboard"],
        )  # fmt: skip
        try:
            read = files_read(Origin.of(data), options, (model, teacher), out)
            recovery, packed = _recovered(run, (model, teacher), read, out, values, leads)
        except (KeyboardInterrupt, SystemExit):
            if told.done:
                click.echo(
                    f"stopped after step {told.done} of {settings.steps}, kept in {out}.recover: the same command goes "
                    "on from there",
                    err=True,
                )
            raise
    if not leads:
        return
    with standing(recovery.output):
        if values["as_json"]:
            more = {} if packed is None else {"quantized": quantise_json(packed)}
            show_json({**recover_json(recovery), **more})
        elif not values["quiet"]:
            show(recover_report(recovery))
            if packed is not None:
                show("")
                show(quantise_report(packed))


def _recovered(
    run: Callable[..., Recovery],
    models: tuple[Path, Path],
    read: Sequence[Path],
    out: Path,
    values: dict[str, Any],
    leads: bool,
) -> tuple[Recovery, Quantised | None]:
    """Train, and quantise where that is asked for; until both are done the state of the training stays."""
    from bot_onnx._onnxfile.data_files import named_files
    from bot_onnx._quantise import make_and_quantise
    from bot_onnx._recover.savepoint import SUFFIX

    model, teacher = models
    state = out.with_name(out.name + SUFFIX)
    if values["quantize"] is None or not leads:  # the first of several processes quantises
        return run(out, force=values["force"], state=None if values["quantize"] is None else state), None
    made = make_and_quantise(
        model, out, quantise_asked(values), partial(run, state=state), (teacher, *named_files(teacher), *read),
        beside=teacher, way="recovered",
    )  # fmt: skip
    state.unlink(missing_ok=True)
    return replace(made.floats, output=out), made.quantised


def _settings(values: dict[str, Any]) -> Settings:
    from bot_onnx._recover.types import Settings

    names = (
        "steps", "batch", "rate", "seed", "hidden", "output_loss", "temperature", "held_out", "threads", "accumulate",
        "validate_every", "patience", "keep_best", "device", "precision",
    )  # fmt: skip
    return Settings(**{name: values[name] for name in names}, outputs=tuple(values["outputs"]))


def data_options(values: dict[str, Any], std: str = "--std") -> DataOptions:
    """How data are read, by the options of :func:`reading_options`, whose argument ``std`` is."""
    from bot_onnx._recover.data import DataOptions
    from bot_onnx._recover.text import TOKENIZER

    given: dict[str, Any] = {}
    for flag, name in (("mean", "mean"), ("std", "deviation")):
        if values[flag] is not None:
            try:
                given[name] = tuple(float(part) for part in values[flag].split(","))
            except ValueError:
                raise click.BadParameter(
                    f"{values[flag]!r} is no list of numbers: 0.5 or 0.5,0.5,0.5",
                    param_hint=std if flag == "std" else f"--{flag}",
                ) from None
    names = ("tokenizer", "length", "image_size", "field", "preprocessor", "seconds")
    given |= {name: values[name] for name in names}
    if given["tokenizer"] is not None and given["tokenizer"].is_dir():
        given["tokenizer"] /= TOKENIZER
    return DataOptions(**given)
