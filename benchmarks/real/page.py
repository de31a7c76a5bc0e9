"""``docs/real.md``, its JSON and its picture: of every network what its last run has found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measured import block_of_run
from benchmarks.real.models import MODELS
from benchmarks.real.network import BATCH, Real
from benchmarks.real.study import RATE, Found

_INTRO = """# What shrinking real checkpoints costs and brings

Trained networks that others ship, made smaller in every way that one has, recovered for the same steps on the same
data by [`recover`](recover.md), and measured on data that no row was trained on. Each network has the command and the
commit of its last run beside it (a run measures the networks that it names, and leaves the others as they stand here);
one thread, {batch} samples a step where nothing else is said, at a rate of {rate:g}. Each row is also quantised to int8
([quantize.md](quantize.md)), the source as well: **quantise first**, and resize where that is not small or fast enough.

* *MB* and *ms* are of the file in fp32 and in int8, a run on one thread, the median of runs in turn.
* A quality is given twice, **fp32 / int8**, convolutions in int8 with scales that 256 samples give. 0 steps: as the
  method leaves it.
* *minutes*: of recovering, for the most steps of the row, beside other programs; the first row also waits for the
  source's answers, which are then kept.
* *half the layers, nothing else* is what a list of layers gives in any framework. *bot* is the default without samples;
  *bot, on samples* with `--calibration` alone: layers by their influence, as ShortGPT chooses them, the stream turned
  into the principal components of its activations, as in SliceGPT, heads and neurons by Wanda's score, and where
  there is no stream, channels, too. *units by norms*: `--keep energy` for heads and neurons. *readers refitted*:
  `--refit readers` beside it. *activation importance*
  turns nothing and chooses channels, heads and neurons by what they make on samples, layers by influence, as Minitron
  does ([keep.md](keep.md)). *weight selection* and *FRONT* are what their authors' code computes.
* Of several seeds: the mean ± half the range. Without ± a figure is of one: a hundredth more or less says nothing.

![time of a run against quality]({picture})

## Which tool for what

* **A smaller file with the same answers**: quantise. It costs seconds, and nothing below is nearer to the source.
* **Half the time, and data to train on**: leave layers out, and quantise. Nothing inside a layer has to be learnt
  again, and after the same steps it is nearest to the source.
* **A fifth of the time, a tenth of the file**: fewer layers of fewer channels, `--calibration` with samples of what the
  network will see, `recover`, then int8. More steps bring more; how much, the rows with several say.
* **No data at all**: do not expect the smaller network to work as it is written. It is a start for training, and the
  row *bot* at 0 steps says how far from done. With some dozens of inputs, unlabelled, it is *bot, on samples*.
* **Rather not this tool**: networks of convolutions. With every channel axis halved they lose a third of what they do,
  or nearly all, at once, and some hundred steps do not bring it back: quantise, or train a smaller architecture.
"""

#: What was aimed at: network, way, steps (None: the most that were run), in int8, measure, at least.
AIMS: tuple[tuple[str, str, int | None, bool, str, float], ...] = (
    ("minilm-3x192", "bot, on samples", 200, False, "people", 0.507),
    ("minilm-3x192", "bot, on samples", 200, False, "source", 0.534),
    ("minilm-3x192", "bot, on samples", 700, False, "people", 0.58),
    ("minilm-3x192", "bot, on samples", 700, False, "source", 0.70),
    ("minilm-3x192", "bot, on samples", 3000, False, "people", 0.60),
    ("minilm-3x192", "bot, on samples", 3000, False, "source", 0.80),
    ("minilm-6x192", "bot, on samples", None, True, "source", 0.90),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a run has found of a network.

    Attributes:
        title, about: of the network. measures: names of its qualities. rows: what was found.
        command, machine, commit, date: of the run.
    """

    title: str
    about: str
    measures: tuple[str, ...]
    rows: tuple[Found, ...]
    command: str
    machine: str
    commit: str
    date: str

    @classmethod
    def of(cls, real: Real, rows: Sequence[Found], **run: str) -> Shown:
        """What was found of ``real`` by a run that ``run`` describes."""
        return cls(real.title, real.about, tuple(real.measures), tuple(rows), **run)

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Shown:
        """From JSON."""
        rows = tuple(Found(**row) for row in told["rows"])
        return cls(**{**told, "measures": tuple(told["measures"]), "rows": rows})


def write_page(found: Mapping[str, Shown], output: Path) -> None:
    """Write the page, the figures as JSON, and the picture beside it.

    Args:
        found: by key of the network. What other networks have beside ``output`` stays.
        output: the page.
    """
    figures, picture = output.with_suffix(".json"), output.with_suffix(".png")
    earlier = json.loads(figures.read_text(encoding="utf-8")) if figures.exists() else {}
    every = {key: Shown.read(told) for key, told in earlier.items()} | dict(found)
    order = list(MODELS)
    every = dict(sorted(every.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))
    parts = [_INTRO.format(batch=BATCH, rate=RATE, picture=picture.name), *map(_section, every.values()), *_aims(every)]
    output.write_text("\n".join(parts), encoding="utf-8")
    told = {key: asdict(shown) for key, shown in every.items()}
    figures.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    _draw(list(every.values()), picture)


def _section(shown: Shown) -> str:
    steps = sorted({row.steps for row in shown.rows})
    measures = shown.measures
    head = ["", "MB", "ms", *(f"{measure}, {count:,} steps" for count in steps for measure in measures), "minutes"]
    lines = [f"## {shown.title}", "", shown.about, "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in dict.fromkeys(row.way for row in shown.rows):
        own = [row for row in shown.rows if row.way == name]
        cells = [name, _both(own, "megabytes", ".1f"), _both(own, "milliseconds", ".1f")]
        for count in steps:
            cells += [_quality([row for row in own if row.steps == count], measure) for measure in measures]
        longest = max(row.steps for row in own)
        minutes = [row.minutes for row in own if row.steps == longest and row.minutes is not None]
        cells.append(f"{sum(minutes) / len(minutes):.1f}" if minutes else "-")
        lines.append(f"| {' | '.join(cells)} |")
    run = block_of_run(shown.command, shown.date, shown.commit, shown.machine)
    return "\n".join([*lines, *run]) + "\n"


def _aims(every: Mapping[str, Shown]) -> Iterator[str]:
    """What was aimed at beside what came out, of what was run."""
    lines = []
    for key, way, steps, quantised, measure, least in AIMS:
        own = [row for row in every[key].rows if (row.way, row.quantised) == (way, quantised)] if key in every else []
        count = max((row.steps for row in own), default=0) if steps is None else steps
        values = [row.quality[measure] for row in own if row.steps == count]
        if values:
            name = f"{every[key].title}, {measure}, {count:,} steps{', int8' if quantised else ''}"
            reached = "reached" if sum(values) / len(values) >= least else "not reached"
            lines.append(f"| {name} | {least:g} | {_mean(values)} | {reached} |")
    if lines:
        told = "200 steps are held against what 700 gave before the stream was turned."
        head = ["## What was aimed at", "", told, "", "| | at least | found | |", "|---|---|---|---|"]
        yield "\n".join([*head, *lines]) + "\n"


def _both(rows: Sequence[Found], attribute: str, form: str) -> str:
    """Of the floats / in int8: the first seed's, where no step was made yet."""
    values = [next(getattr(row, attribute) for row in rows if row.quantised is kind) for kind in (False, True)]
    return " / ".join(format(value, form) for value in values)


def _quality(rows: Sequence[Found], measure: str) -> str:
    if not rows:
        return "-"
    return " / ".join(_mean([row.quality[measure] for row in rows if row.quantised is kind]) for kind in (False, True))


def _mean(values: Sequence[float]) -> str:
    middle, spread = sum(values) / len(values), (max(values) - min(values)) / 2
    return f"{middle:.3f}" + (f" ± {spread:.3f}" if len(values) > 1 else "")


def _draw(every: Sequence[Shown], picture: Path) -> None:
    """Quality after the most steps that all have against milliseconds: circles are floats, triangles int8."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row.way for shown in every for row in shown.rows))
    across = min(2, len(every))
    down = -(-len(every) // across)
    figure, panes = pyplot.subplots(down, across, figsize=(6.2 * across, 4.6 * down), squeeze=False)
    for pane in panes.flat[len(every) :]:
        pane.set_axis_off()
    for pane, shown in zip(panes.flat, every, strict=False):
        found, measure = shown.rows, shown.measures[-1]
        for name, points in _points(found, measure):
            for place, (quantised, time, quality) in enumerate(points):
                kind, colour = "^" if quantised else "o", f"C{names.index(name)}"
                pane.plot(time, quality, kind, color=colour, label=None if place else name, ms=7)
        pane.set(
            title=shown.title,
            xlabel="milliseconds a run",
            ylabel=f"{measure}, after {_shared_steps(found)} steps",
            xscale="log",
        )
        pane.grid(alpha=0.3)
        pane.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(picture, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _shared_steps(found: Sequence[Found]) -> int:
    """The most steps that every way was given."""
    ways = {row.way for row in found} - {"source"}
    return max(count for count in {row.steps for row in found} if ways <= {r.way for r in found if r.steps == count})


def _points(found: Sequence[Found], measure: str) -> Iterator[tuple[str, list[tuple[bool, float, float]]]]:
    for name in dict.fromkeys(row.way for row in found):
        own = [row for row in found if row.way == name and row.seed == 0]
        last = 0 if name == "source" else _shared_steps(found)
        yield name, [(r.quantised, r.milliseconds, r.quality[measure]) for r in own if r.steps == last]
