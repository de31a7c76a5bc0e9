"""What is looked at from inside a process: bytes read, sessions opened, draws, steps; ``KIND FILE ARGUMENTS``."""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import bot_onnx
from benchmarks.report.types import PART

_LEAST = 0.05  #: a stage that reads less of the file is not told
_DRAWS = 10_000_000
_TURNS = 5


def reading(*arguments: str) -> dict[str, float]:
    """Run our command line; how many times the bytes of the file behind ``resize`` were read, by system calls."""
    from bot_onnx._cli import main

    size = Path(arguments[1]).stat().st_size
    places: list[tuple[str, int]] = [("starting", _read())]

    class Stages(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            places.append((record.getMessage().partition(" /")[0], _read()))

    logger = logging.getLogger("bot_onnx")
    logger.setLevel(logging.INFO)
    logger.addHandler(Stages())
    with suppress(SystemExit):
        main(arguments)
    places.append(("", _read()))
    parts = {f"{PART}while {name}": (after - before) / size for (name, before), (_, after) in pairwise(places)}
    whole = (places[-1][1] - places[0][1]) / size
    return {"passes": whole, **{name: part for name, part in parts.items() if part > _LEAST}}


def _read() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split(":")[1]) for line in lines if line.startswith("rchar"))


def sessions(*arguments: str) -> dict[str, float]:
    """Run our command line; how many sessions of onnxruntime it opened, and how often it ran one."""
    import onnxruntime as ort

    from bot_onnx._cli import main

    found = Counter({"sessions": 0.0, "runs": 0.0})
    opened, ran = ort.InferenceSession.__init__, ort.InferenceSession.run

    def opening(*given: object, **named: object) -> None:
        found["sessions"] += 1
        found[f"{PART}`{_asked_by()}`"] += 1
        opened(*given, **named)

    def running(*given: object, **named: object) -> object:
        found["runs"] += 1
        return ran(*given, **named)

    ort.InferenceSession.__init__, ort.InferenceSession.run = opening, running
    with suppress(SystemExit):
        main(arguments)
    return found


def _asked_by() -> str:
    """The function of ours that wants a session, behind the doors to onnxruntime."""
    package = Path(bot_onnx.__file__).parent
    frames = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(package)]
    inner = next(frame for frame in reversed(frames) if Path(frame.filename).stem not in ("runtime", "runner"))
    return f"{Path(inner.filename).relative_to(package).with_suffix('')}: {inner.name}"


def draws() -> dict[str, float]:
    """Normal draws as growing makes them, beside those of NumPy's own generator on one thread."""
    import numpy as np

    from bot_onnx._resample.draws import normal

    plain = np.random.default_rng(0)
    ours = np.random.Generator(np.random.Philox(0))
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: normal(ours, (_DRAWS,), "float32"),
        "plain": lambda: plain.standard_normal(_DRAWS, dtype=np.float32),
    }
    taken = {name: [_seconds(way) for _ in range(_TURNS)] for name, way in ways.items()}
    median = {name: statistics.median(times) for name, times in taken.items()}
    return {"seconds": median["ours"] * 1e8 / _DRAWS, "ratio": median["ours"] / median["plain"]}


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def grown() -> dict[str, float]:
    """Seconds to grow a stack to 12 x 768 x 3072 by a long filter, the resampling alone; for its profile."""
    import numpy as np

    from benchmarks.resample import resampler

    ours = resampler((12, 768, 3072), "bior6.8", "grow")
    source = np.random.default_rng(0).standard_normal((6, 384, 1536), dtype=np.float32)
    return {"seconds": statistics.median(_seconds(lambda: ours(source)) for _ in range(5 * _TURNS))}


def blocks() -> dict[str, float]:
    """How the analysis of a DenseNet grows with its nodes, and how long it takes at the most of them."""
    import math
    import tempfile

    from benchmarks.report.sources import densenet
    from bot_onnx._analysis.passes import analyse
    from bot_onnx._onnxfile.reader import open_model

    sizes: list[int] = []
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for layers in (25, 50, 100, 200):
            path = Path(folder, f"{layers}.onnx")
            nodes = densenet(path, layers)
            if not times:
                analyse(open_model(path).model())  # what is loaded once
            started = time.process_time()
            analyse(open_model(path).model())
            sizes.append(nodes)
            times.append(time.process_time() - started)
    slope = statistics.linear_regression([math.log(n) for n in sizes], [math.log(t) for t in times]).slope
    return {"exponent": slope, "cpu": times[-1], "nodes": sizes[-1]}


def analysed(path: str) -> dict[str, float]:
    """Analyse one file: for its profile."""
    from bot_onnx._analysis.passes import analyse
    from bot_onnx._onnxfile.reader import open_model

    analyse(open_model(Path(path)).model())
    return {}


def steps() -> dict[str, float]:
    """Steps of ``recover`` as parts of a plain loop's, for the digits' classifier and a MiniLM."""
    import tempfile

    import torch

    from benchmarks.recover_step import SIZES, steps

    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for arch in SIZES:
            ways = steps(arch, "torchscript17", 8, 64, Path(folder))
            ways.pop("onnx2pytorch")
            for step in ways.values():
                step()
            taken = [{name: step() for name, step in ways.items()} for _ in range(11)]
            found[arch] = statistics.median(turn["bot-onnx"] / turn["plain"] for turn in taken)
            found[f"{arch}_ms"] = 1e3 * statistics.median(turn["bot-onnx"] for turn in taken)
    return found


def main() -> None:
    """Runs one and writes what it found."""
    kind, kept, *arguments = sys.argv[1:]
    probes: dict[str, Callable[..., dict[str, float]]] = {
        "reading": reading, "sessions": sessions, "draws": draws, "grown": grown, "blocks": blocks,
        "analysed": analysed, "steps": steps,
    }  # fmt: skip
    Path(kept).write_text(json.dumps(probes[kind](*arguments)))


if __name__ == "__main__":
    main()
