"""The rows of the page, in its order."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from benchmarks.report.measures import (
    BASELINE,
    OURS,
    bert,
    cpu,
    in_turn,
    made,
    peak,
    probe,
    resize,
    script,
    seconds,
)
from benchmarks.report.types import Figures, Goal, Place, Work
from benchmarks.whole_command import ROOT

PYTHON: Final = sys.executable
DEMO: Final = str(ROOT / "bot_onnx" / "demo" / "digits_vit.onnx")
_LARGER: Final = ("--spec", "bert-l")
_COPY: Final = "import shutil, sys; shutil.copyfile(*sys.argv[1:])"
_LOAD: Final = "import onnx, sys; onnx.shape_inference.infer_shapes(onnx.load(sys.argv[1]))"


def _whole(place: Place) -> Figures:
    source = bert(place)
    plain = (PYTHON, str(BASELINE), str(source), str(place.scratch / "plain.onnx"))
    found = in_turn({"ours": resize(source, place, "--spec", "bert-s"), "plain": plain}, place.runs)
    ratio = seconds(found["plain"]) / seconds(found["ours"])
    less = cpu(found["plain"]) / cpu(found["ours"])
    return {
        "ratio": ratio,
        "less": less,
        "cpu": cpu(found["ours"]),
        "seconds": seconds(found["ours"]),
        "peak": peak(found["ours"]),
    }


def _start(place: Place) -> Figures:
    found = in_turn(
        {
            "python": (PYTHON, "-c", "pass"),
            "engine": (PYTHON, "-c", "import bot_onnx.api, bot_onnx._inspecting"),
            "libraries": (PYTHON, "-c", "import numpy, onnx"),
            "specs": (*OURS, "specs", "list"),
            "help": (*OURS, "--help"),
        },
        max(place.runs, 5),
    )
    return {name: cpu(found[name]) for name in ("engine", "specs", "help")} | {
        "ratio": cpu(found["engine"]) / cpu(found["libraries"])
    }


def _inspect(place: Place) -> Figures:
    source = str(bert(place))
    found = in_turn({"ours": (*OURS, "inspect", source), "load": (PYTHON, "-c", _LOAD, source)}, place.runs)
    return {"cpu": cpu(found["ours"]), "peak": peak(found["ours"]), "ratio": cpu(found["ours"]) / cpu(found["load"])}


def _dry(place: Place) -> Figures:
    source = bert(place)
    inspected = (*OURS, "inspect", str(source))
    planned = (*OURS, "resize", str(source), "--layers", "6", "--hidden", "384", "--heads", "6", "--dry-run", "-q")
    found = in_turn({"dry": planned, "inspect": inspected}, place.runs)
    return {"ratio": cpu(found["dry"]) / cpu(found["inspect"]), **probe(place, "reading", *planned[3:])}


def _passes(place: Place) -> Figures:
    return probe(place, "reading", *resize(bert(place), place, "--spec", "bert-s", "--no-compare")[3:])


def _sessions(place: Place) -> Figures:
    out = str(place.scratch / "out.onnx")
    return probe(place, "sessions", "resize", DEMO, "--layers", "3", "-o", out, "--force", "-q")


def _uneven(place: Place) -> Figures:
    source = bert(place)
    plain = (PYTHON, str(BASELINE), str(source), str(place.scratch / "plain.onnx"))
    found = in_turn({"ours": resize(source, place, *_LARGER), "plain": plain}, place.runs)
    return {"cpu": cpu(found["ours"]), "peak": peak(found["ours"]), "ratio": cpu(found["ours"]) / cpu(found["plain"])}


def _growing(place: Place) -> Figures:
    found = script(
        place, "benchmarks.resample", "--stacks", "12x768x3072", "--wavelets", "haar", "bior6.8",
        "--directions", "grow", "--no-ptwt", "--runs", str(max(place.runs, 5)),
    )  # fmt: skip
    ratios = {one["wavelet"]: one["ratios"] for one in found["measurements"]}
    return {f"{name}_{key}": ratios[w][key] for name, w in (("short", "haar"), ("long", "bior6.8"))
            for key in ("to_copy", "pywt")}  # fmt: skip


def _draws(place: Place) -> Figures:
    return probe(place, "draws")


def _aligned(place: Place) -> Figures:
    source = bert(place)
    ways = {kind: resize(source, place, "--spec", "bert-s", "--align", kind) for kind in ("none", "permute", "rotate")}
    found = in_turn(ways, 1)
    return {kind: cpu(found[kind]) - cpu(found["none"]) for kind in ("permute", "rotate")} | {
        f"{kind}_ratio": cpu(found[kind]) / cpu(found["none"]) for kind in ("permute", "rotate")
    }


def _nodes(place: Place) -> Figures:
    found = script(place, "benchmarks.analysis", "--nodes", "300", "1200", "2500", "5000", "--runs", str(place.runs))
    largest = found["sizes"][-1]
    return {
        "exponent": found["growth_exponent"],
        "micro": largest["microseconds_per_node"],
        "ratio": largest["ratio"],
    }


def _blocks(place: Place) -> Figures:
    return probe(place, "blocks")


def _steps(place: Place) -> Figures:
    return probe(place, "steps")


def _depth(place: Place) -> Figures:
    found = script(place, "benchmarks.memory", "--depths", "15", "30")
    peaks = [row["run"]["peak_bytes"] / 1e6 for row in found["rows"] if row["compared"]]
    return {"peak": peaks[-1], "ratio": peaks[-1] / peaks[0]}


def _large_dry(place: Place) -> Figures:
    source = str(made(place, "llama_holes", "llama-holes.onnx"))
    planned = (*OURS, "resize", source, "--layers", "11", "--hidden", "1024", "--heads", "16", "--kv-heads", "2")
    ways = {"dry": (*planned, "--dry-run", "-q"), "inspect": (*OURS, "inspect", source)}
    found = in_turn(ways, place.runs)
    return {"ratio": cpu(found["dry"]) / cpu(found["inspect"]), "cpu": cpu(found["dry"]),
            "seconds": seconds(found["dry"])}  # fmt: skip


_HALF: Final = ("--layers", "11", "--hidden", "1024", "--heads", "16", "--kv-heads", "2", "--intermediate", "2816")


def _large(place: Place) -> Figures:
    source = made(place, "llama_float32", "llama-float32.onnx")
    data = source.with_name(f"{source.name}.data")
    copied = (PYTHON, "-c", _COPY, str(data), str(place.scratch / "copy.bin"))
    found = in_turn({"ours": resize(source, place, *_HALF), "copy": copied}, place.runs)
    return {"ratio": seconds(found["ours"]) / seconds(found["copy"]), "seconds": seconds(found["ours"]),
            "peak": peak(found["ours"])}  # fmt: skip


def _large_half(place: Place) -> Figures:
    source = made(place, "llama_float16", "llama-float16.onnx")
    other = made(place, "llama_float32", "llama-float32.onnx")
    found = in_turn({"half": resize(source, place, *_HALF), "single": resize(other, place, *_HALF)}, 1)
    return {"peak": peak(found["half"]), "ratio": seconds(found["half"]) / seconds(found["single"])}


def _large_turned(place: Place) -> Figures:
    source = made(place, "llama_float32", "llama-float32.onnx")
    ways = {kind: resize(source, place, *_HALF, "--align", kind) for kind in ("none", "rotate")}
    found = in_turn(ways, 1)
    return {"cpu": cpu(found["rotate"]) - cpu(found["none"]), "ratio": cpu(found["rotate"]) / cpu(found["none"])}


def _command(*options: str, source: str | None = None, kind: str | None = None):  # type: ignore[no-untyped-def]
    """The arguments that profile our command on BERT-base, or on another source."""

    def arguments(place: Place) -> tuple[str, ...]:
        path = source or str(made(place, *kind.split("|")) if kind else bert(place))
        command, *rest = options
        out = ("-o", str(place.scratch / "out.onnx"), "--force", "-q") if command == "resize" else ()
        return ("-m", "bot_onnx", command, path, *out, *rest)

    return arguments


def _probed(kind: str) -> Callable[[Place], tuple[str, ...]]:
    return lambda place: ("-m", "benchmarks.report.probes", kind, str(place.scratch / "probe.json"))


def _blocks_profiled(place: Place) -> tuple[str, ...]:
    path = made(place, "densenet_200", "densenet-200.onnx")
    return (*_probed("analysed")(place), str(path))


SECONDS, MB, TIMES = "s", "MB", "×"
_SINGLE, _FLOAT16 = "llama_float32|llama-float32.onnx", "llama_float16|llama-float16.onnx"

ROWS: Final = (
    Work("bert-s", "BERT-base → BERT-S, whole command, verified and proven", (
        Goal("ratio", "as fast as `onnx.load` + `pywt` + `onnx.save`", 6, TIMES, more=True, ratio=True),
        Goal("less", "CPU of that script over ours", unit=TIMES, more=True, ratio=True),
        Goal("peak", "peak", 300, MB), Goal("cpu", "CPU", unit=SECONDS), Goal("seconds", "time", unit=SECONDS),
    ), _whole, _command("resize", "--spec", "bert-s")),
    Work("start", "Starting", (
        Goal("engine", "what `inspect` imports, CPU", 0.35, SECONDS), Goal("specs", "`specs list`, CPU", 0.15, SECONDS),
        Goal("help", "`--help`, CPU", 0.15, SECONDS),
        Goal("ratio", "what `inspect` imports over `import numpy, onnx`", unit=TIMES, ratio=True),
    ), _start, lambda place: ("-m", "bot_onnx", "inspect", DEMO)),
    Work("inspect", "`inspect` BERT-base", (
        Goal("cpu", "CPU", 0.8, SECONDS), Goal("peak", "peak", 200, MB),
        Goal("ratio", "over `onnx.load` + `infer_shapes`", unit=TIMES, ratio=True),
    ), _inspect, _command("inspect")),
    Work("dry-run", "Dry run on BERT-base", (
        Goal("ratio", "CPU over that of `inspect`", 1.5, TIMES, ratio=True),
        Goal("passes", "bytes read over those of the file", 0.5, TIMES, ratio=True),
    ), _dry, _command("resize", "--layers", "6", "--dry-run")),
    Work("passes", "Reading the source in a resize (no comparison)", (
        Goal("passes", "bytes read over those of the file", 2, TIMES, ratio=True),
    ), _passes),
    Work("sessions", "Observing source and output (the demo's classifier)", (
        Goal("sessions", "sessions of onnxruntime", 3), Goal("runs", "runs of them"),
    ), _sessions),
    Work("bert-l", "BERT-base → BERT-large, an uneven ratio", (
        Goal("cpu", "CPU", 6, SECONDS), Goal("peak", "peak", unit=MB),
        Goal("ratio", "CPU over that of the script above, which shrinks", unit=TIMES, ratio=True),
    ), _uneven, _command("resize", *_LARGER)),
    Work("growing", "Growing a stack to 12×768×3072, resampling alone", (
        Goal("short_to_copy", "haar, over a copy of the result", 2, TIMES, ratio=True),
        Goal("long_to_copy", "bior6.8, over a copy of the result", 2, TIMES, ratio=True),
        Goal("short_pywt", "haar, as fast as `pywt`", unit=TIMES, more=True, ratio=True),
        Goal("long_pywt", "bior6.8, as fast as `pywt`", unit=TIMES, more=True, ratio=True),
    ), _growing, _probed("grown")),
    Work("draws", "Random numbers, the same for any number of threads", (
        Goal("seconds", "10⁸ normal draws", 0.6, SECONDS), Goal("ratio", "over NumPy's", unit=TIMES, ratio=True),
    ), _draws, _probed("draws")),
    Work("align", "Aligning BERT-base before BERT-S", (
        Goal("permute", "`--align permute`, CPU above none", 3, SECONDS),
        Goal("rotate", "`--align rotate`, CPU above none", 15, SECONDS),
        Goal("permute_ratio", "`--align permute` over none", unit=TIMES, ratio=True),
        Goal("rotate_ratio", "`--align rotate` over none", unit=TIMES, ratio=True),
    ), _aligned, _command("resize", "--spec", "bert-s", "--align", "permute")),
    Work("analysis", "Analysis of a synthetic BERT of 5,000 nodes", (
        Goal("exponent", "growth: nodes to the", 1.25), Goal("micro", "per node", unit="µs"),
        Goal("ratio", "over `onnx.load` + `infer_shapes`", unit=TIMES, ratio=True),
    ), _nodes),
    Work("densenet", "Analysis of a dense block of 1,403 nodes", (
        Goal("exponent", "growth: nodes to the", 1.2), Goal("cpu", "CPU", unit=SECONDS),
    ), _blocks, _blocks_profiled),
    Work("recover", "A step of `recover`, over a plain loop's", (
        Goal("vit", "digits", 1.15, TIMES, ratio=True), Goal("bert", "MiniLM, halved", 1.15, TIMES, ratio=True),
        Goal("bert_ms", "MiniLM, halved, batches of 8 × 64", unit="ms"),
    ), _steps),
    Work("depth", "Peak memory against depth: a Llama of 30 layers over one of 15", (
        Goal("ratio", "peaks", 1.2, TIMES, ratio=True), Goal("peak", "peak, 30 layers", 700, MB),
    ), _depth),
    Work("big-dry-run", "Dry run of a file of 4.1 GB", (
        Goal("ratio", "CPU over that of `inspect`", 1.5, TIMES, ratio=True), Goal("cpu", "CPU", unit=SECONDS),
        Goal("seconds", "time", unit=SECONDS),
    ), _large_dry, _command("resize", "--layers", "11", "--dry-run", kind="llama_holes|llama-holes.onnx"), big=True),
    Work("big-half", "1.03 B parameters in float32 → half", (
        Goal("ratio", "time over that of a copy of the file", 1.5, TIMES, ratio=True),
        Goal("seconds", "time", unit=SECONDS), Goal("peak", "peak", unit=MB),
    ), _large, _command("resize", *_HALF, kind=_SINGLE), big=True),
    Work("big-float16", "1.03 B parameters in float16 → half", (
        Goal("peak", "peak", 700, MB), Goal("ratio", "time over that in float32", 1, TIMES, ratio=True),
    ), _large_half, _command("resize", *_HALF, kind=_FLOAT16), big=True),
    Work("big-rotate", "`--align rotate` at 22 × 2,048", (
        Goal("cpu", "CPU above none", 15, SECONDS), Goal("ratio", "CPU over none", unit=TIMES, ratio=True),
    ), _large_turned, _command("resize", *_HALF, "--align", "rotate", kind=_SINGLE), big=True),
)  # fmt: skip
