"""``docs/transfer.md``, its JSON and its picture: of every column what its last run has found."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measured import block_of_run
from benchmarks.transfer.measures import Row, mean_and_spread
from benchmarks.transfer.networks import EXAMPLES, SEQUENCE
from benchmarks.transfer.starts import STARTS
from benchmarks.transfer.study import SCALES, SOURCE_SCHEDULES, Column, Scale
from benchmarks.transfer.training import Curve

_HEADERS = (
    "start",
    "at the start",
    "final loss",
    "against bot, seed by seed",
    "saved, short",
    "saved, mid",
    "short, against the strictest control",
)
_NAMES = {
    "shrink": "large to small",
    "grow": "small to large",
    "shrink-near": "to a smaller one from near",
    "shrink-far": "to the same from far",
}
_SEEDS = 3  #: fewer say little of the spread
_DEFAULT = "bot"  #: the start that others are held against
_PAPER = (
    "The paper of Bidirectional knowledge Transfer (BoT, arXiv 2603.07506) reports savings of up to 67.1 % growing and "
    "52.8 % shrinking, by its own measure."
)
_INTRO = """# Does a resized start pay?

A network of the target size is trained from each start on the same data, by the same recipe, each at the best of the
same learning rates, and of the same standard deviations where weights are random. Each table has the command, the
machine and the commit of its last run beside it: a run measures the columns that it names, and leaves the others as
they stand here.

* **saved** is 1 - the steps needed to reach the final validation loss of *tuned* scratch (the best of its learning
  rates and deviations), as a share of scratch's steps. All train the same network, so steps are FLOPs and wall
  time. *mid* is read off the whole schedule's curve, *short* comes from whole schedules of 10, 15, 25, 50, 75 % of the
  length, of which the shortest counts that ends there: the fairer measure, as mid-schedule the learning rate has not
  come down yet.
* **against the strictest control** is the same with the best control's final loss in scratch's place. The controls:
  *shuffled* (the default start, every tensor's elements in random order), *embeddings only*, *random projection*
  (hidden and neurons through random orthonormal matrices), *scratch*.
* The methods are those of [methods/](methods). *bot* alone is the default; *paper* its literal preset, *as published*
  what the authors' public code computes, *not aligned* without the rotation of [align.md](align.md), *on samples* with
  its `--calibration`. *learned* is `--learn` for 100 steps on these samples ([learn.md](learn.md)), which are not
  counted. Growing also shows what fills the detail bands: *zero*, *gaussian*, *uniform*, the in-band noise
  of the default at twice its scale (*x2*) or between a longer filter's values in place of copies (*coif3, in-band*,
  which keeps the function less), and what is no noise: copies that share what reads them unequally (*LEMON splits*).
  *x4* is four times that scale; *layers by interleave* and *stack* add copies of layers, not ones that do nothing.
  *fresh readers* are random weights of standard deviation 0.12 in the layers that are added.
* Sources were trained for longer than scratch is: where one ends below scratch, a start that keeps its function is
  there at once, and the final loss and the last column tell more than what is saved.
* A masked language model (BERT) learns how frequent tokens are, and no more, for its first thousand steps or so. Where
  targets train for fewer, scratch is still there at its end: what is saved against it says little, the final loss and
  the last column do. BERT is post-norm, which no rotation leaves exactly as it was, so it has *permute* beside the
  default.
* **against bot, seed by seed** is the final loss minus that of the default, *bot*, of the same source and the same
  data, mean ± half the range over the seeds: less than 0 is better than the default. Seeds move all starts together,
  so that these differences say more than those of the means.
* Losses are in nats; `never` means that the loss was not reached. Several seeds: mean ± half the range; a mean is
  given only if every seed got there. Short schedules may have been run for the first seeds alone (`--short`).

{paper}

![validation loss over training]({picture})
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a run has found in a column, seed by seed.

    Attributes:
        scale: name of the study's scale. task: what was trained, in a sentence. columns: a seed each.
        command, machine, commit, date: of the run.
    """

    scale: str
    task: str
    columns: tuple[Column, ...]
    command: str
    machine: str
    commit: str
    date: str

    @classmethod
    def of(cls, scale: Scale, columns: Iterable[Column], **run: str) -> Shown:
        """What a run at ``scale``, which ``run`` describes, has found."""
        columns = tuple(columns)
        return cls(scale.name, _task(scale, columns[0]), columns, **run)

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Shown:
        """From JSON."""
        return cls(**{**told, "columns": tuple(map(_column, told["columns"]))})

    @property
    def key(self) -> str:
        """Of the column, among all that the page shows."""
        return f"{self.scale}:{self.columns[0].architecture}:{self.columns[0].direction}"


def _column(told: Mapping[str, Any]) -> Column:
    rows = tuple(Row(**row) for row in told["rows"])
    curves = {
        name: Curve(tuple(curve["steps"]), tuple(curve["losses"]), curve["seconds"])
        for name, curve in told["curves"].items()
    }
    return Column(**{**told, "rows": rows, "curves": curves})


def _task(scale: Scale, column: Column) -> str:
    name = column.architecture
    source, target = scale.sizes[name][column.direction]
    examples = f"{EXAMPLES[name] * scale.batch} " + (
        f"sequences of {SEQUENCE[name]} tokens" if name in SEQUENCE else "images"
    )
    return (
        f"Scale `{scale.name}`: {source.layers} x {source.hidden} to {target.layers} x {target.hidden}, sources "
        f"{scale.source_steps * SOURCE_SCHEDULES[name]:,} steps, targets {scale.steps:,} steps of {examples}; learning "
        f"rates {', '.join(f'{rate:g}' for rate in scale.rates)}, deviations "
        f"{', '.join(f'{deviation:g}' for deviation in scale.deviations)}."
    )


def write_page(found: Sequence[Shown], target: Path) -> None:
    """Write ``target`` (Markdown), and beside it the same figures as ``.json`` and the curves as ``.png``.

    Args:
        found: a column each. What others have beside ``target`` stays.
        target: the page.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    figures, picture = target.with_suffix(".json"), target.with_suffix(".png")
    earlier = map(Shown.read, json.loads(figures.read_text(encoding="utf-8"))) if figures.exists() else ()
    every = {shown.key: shown for shown in (*earlier, *found)}
    order = [f"{scale.name}:{name}:{way}" for scale in SCALES.values() for name in scale.sizes for way in _NAMES]
    shown = [every[key] for key in sorted(every, key=order.index)]
    intro = _INTRO.format(paper=_PAPER, picture=picture.name)
    target.write_text("\n".join([intro, *map(_section, shown), _left_out(shown)]), encoding="utf-8")
    figures.write_text(json.dumps([asdict(one) for one in shown], indent=1) + "\n", encoding="utf-8")
    _picture(shown, picture)


def _left_out(shown: Sequence[Shown]) -> str:
    """What of a whole table is missing here, and the command that makes it."""
    scales = {one.scale for one in shown}
    seeds = {one.key: len(one.columns) for one in shown}
    wanted = {
        f"{name}:{architecture}:{direction}": f"{architecture.upper()} {_NAMES[direction]}, `{name}`"
        for name in SCALES
        if name in scales
        for architecture, directions in SCALES[name].sizes.items()
        for direction in directions
    }
    missing = [told for key, told in wanted.items() if key not in seeds]
    few = [told for key, told in wanted.items() if 0 < seeds.get(key, 0) < _SEEDS]
    parts = [f"not run here: {'; '.join(missing)}"] if missing else []
    parts += [f"fewer than {_SEEDS} seeds: {'; '.join(few)}"] if few else []
    if not parts:
        return ""
    return (
        f"What is missing ({'. '.join(parts)}) comes from\n\n```\n"
        "python -m benchmarks.transfer --column ARCH:DIRECTION@3 --all\n```\n\n"
        "run by run: an interrupted study goes on where it stopped.\n"
    )


def _section(shown: Shown) -> str:
    group = shown.columns
    seeds = "1 seed" if len(group) == 1 else f"{len(group)} seeds"
    lines = [
        f"## {group[0].architecture.upper()}, {_NAMES[group[0].direction]}, {seeds}",
        "",
        f"{shown.task} The source itself ends at {_number([column.source_loss for column in group], 3)}.",
        "",
        f"| {' | '.join(_HEADERS)} |",
        f"|{'---|' * len(_HEADERS)}",
        *_lines(group),
    ]
    run = block_of_run(shown.command, shown.date, shown.commit, shown.machine)
    return "\n".join([*lines, *run]) + "\n"


def _lines(group: Sequence[Column]) -> Iterator[str]:
    by_name: dict[str, list[Row]] = defaultdict(list)
    short: dict[str, list[Row]] = defaultdict(list)
    for column in group:
        for row in column.rows:
            by_name[row.name].append(row)
            short[row.name] += [row] if column.short else []
    paired = _differences(group)
    for name in sorted(by_name, key=lambda name: sum(row.final for row in by_name[name]) / len(by_name[name])):
        rows = by_name[name]
        label = f"*{name}* (control)" if STARTS[name].control else name
        cells = [
            _number([row.initial for row in rows]),
            _number([row.final for row in rows], 3),
            _signed(paired[name]),
            _percent([row.short_saved for row in short[name]]),
            _percent([row.mid_saved for row in rows]),
            _percent([row.short_saved_control for row in short[name]]),
        ]
        yield f"| {label} | {' | '.join(cells)} |"


def _differences(group: Sequence[Column]) -> Mapping[str, list[float]]:
    """By start its final loss minus the default's of the same seed; the default itself, and a seed without it, none."""
    found: dict[str, list[float]] = defaultdict(list)
    for column in group:
        finals = {row.name: row.final for row in column.rows}
        if _DEFAULT in finals:
            for name, final in finals.items():
                found[name] += [] if name == _DEFAULT else [final - finals[_DEFAULT]]
    return found


def _signed(values: Sequence[float]) -> str:
    """Mean and half the range of differences, with the mean's sign."""
    found = mean_and_spread(values) if values else None
    if found is None:
        return ""
    mean, spread = found
    return f"{mean:+.3f}" + (f" ± {spread:.3f}" if len(values) > 1 else "")


def _number(values: Sequence[float], digits: int = 2) -> str:
    found = mean_and_spread(values)
    assert found is not None
    mean, spread = found
    return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if len(values) > 1 else "")


def _percent(values: Sequence[float | None]) -> str:
    found = mean_and_spread(values)
    if found is None:
        return "never" if values else "-"
    mean, spread = found
    return f"{100 * mean:.0f} %" + (f" ± {100 * spread:.0f}" if len(values) > 1 else "")


def _picture(shown: Sequence[Shown], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")  # no display
    from matplotlib import pyplot

    across = min(len(shown), 2)
    down = -(-len(shown) // across)
    figure, axes = pyplot.subplots(down, across, figsize=(5.2 * across, 4.2 * down), squeeze=False)
    hues = {name: mpl.colormaps["tab20"](place % 20) for place, name in enumerate(STARTS)}
    for panel in axes.flat[len(shown) :]:
        panel.set_axis_off()
    for panel, one in zip(axes.flat, shown, strict=False):
        group = one.columns
        mean = {  # over the seeds, reading by reading: all are read after the same steps
            name: [sum(at) / len(at) for at in zip(*(column.curves[name].losses for column in group), strict=True)]
            for name in group[0].curves
        }
        for name in sorted(mean, key=lambda name: mean[name][-1]):
            style = "--" if STARTS[name].control else "-"
            steps = group[0].curves[name].steps
            panel.plot(steps[1:], mean[name][1:], style, color=hues[name], linewidth=1.2, label=name)
        panel.set_title(f"{group[0].architecture.upper()}, {_NAMES[group[0].direction]}, {one.scale}", fontsize=10)
        panel.set_xlabel("step")
        panel.set_ylabel("validation loss (nats)")
        panel.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
