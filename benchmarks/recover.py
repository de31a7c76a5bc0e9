"""What recovering brings: a halved MiniLM and a halved digits ViT, started by ``bot`` and by ``scratch``.

    python -m benchmarks.recover                 # both; half an hour of one core
    python -m benchmarks.recover --only digits   # two minutes of it

Each student is trained by ``bot-onnx recover`` for the same steps on the same data with the same seed. Finished runs
are kept in the cache and not repeated; an interrupted one goes on. ``--write`` puts the tables into the page.
Needs the extras ``bench``, ``recover`` and ``test``; text comes from Debian packages (see ``transfer/corpora.py``), the
Lee documents and their human similarities from the test data of gensim's wheel (it is not installed).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bot_onnx
from benchmarks.environment import cache_folder, machine
from bot_onnx._recover.jobs import DataOptions, Settings, recover
from bot_onnx._runs.runtime import session
from bot_onnx.demo import accuracy, held_out, model_bytes

GENSIM = "gensim==4.4.0"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "recover.md"
STARTS = ("bot", "scratch")
GLOSSES, PARAGRAPHS = 40_000, 10_000  # lines of WordNet and of Python's documentation
LEE_TOKENS = 256  # as the model's publisher cuts

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """One network: what it is called, its parameters, and its score in each column."""

    name: str
    parameters: int
    scores: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """A table: its title, columns, rows, how it was made, and the seconds that each training took."""

    key: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    how: str
    seconds: tuple[float, ...]


def student(source: Path, spec: dict[str, int], method: str, output: Path) -> Path:
    bot_onnx.resize(source, spec, output, method=method, force=True, against=False)
    return output


def trained(
    small: Path, source: Path, data: Path, settings: Settings, options: DataOptions
) -> tuple[Path, dict[str, Any]]:
    """The recovered network and its report, from the cache where the same run has been made before."""
    output, report = small.with_suffix(".out.onnx"), small.with_suffix(".json")
    key = json.loads(json.dumps({"settings": asdict(settings), "data": data.stat().st_size}))
    if output.exists() and report.exists() and (known := json.loads(report.read_text()))["key"] == key:
        return output, known["report"]

    def tell(done: int, steps: int, loss: float) -> None:
        if done % max(1, steps // 20) == 0:
            print(f"{small.stem}: step {done} of {steps}, loss {loss:.4f}", file=sys.stderr, flush=True)

    from bot_onnx._report.recover_report import recover_json

    result = recover(small, source, data, output, settings=settings, options=options, force=True, progress=tell)
    report.write_text(json.dumps({"key": key, "report": recover_json(result)}, indent=1))
    return output, json.loads(report.read_text())["report"]


def study(
    key: str,
    source: Path,
    spec: dict[str, int],
    data: Path,
    settings: Settings,
    options: DataOptions,
    measure: Callable[[Path], tuple[float, ...]],
    held: Callable[[dict[str, Any], str], float],
    columns: tuple[str, ...],
) -> Study:
    """Halve, train from both starts, and measure everything.

    Args:
        measure: scores of a file. held: the score of a report on held-out samples, ``before`` or ``after``.
    """
    folder = cache_folder("recover")
    rows = [Row("source", bot_onnx.inspect(source).structure.parameters, (*measure(source), None))]
    seconds = []
    for method in STARTS:
        small = student(source, spec, method, folder / f"{key}-{method}.onnx")
        count = bot_onnx.inspect(small).structure.parameters
        output, report = trained(small, source, data, settings, options)
        rows.append(Row(f"{method}, before", count, (*measure(small), held(report, "before"))))
        rows.append(Row(f"{method}, after", count, (*measure(output), held(report, "after"))))
        seconds.append(float(report["seconds"]))
    how = (
        f"{settings.steps:,} steps of {settings.batch} samples at a rate of {settings.rate:g}, seed {settings.seed}, "
        f"{report['samples']:,} samples trained on, {report['held_out']:,} held out"
    )
    return Study(key, columns, tuple(rows), how, tuple(seconds))


# -- MiniLM ------------------------------------------------------------------------------------------------------------


def gensim_data(cache: Path) -> Path:
    """Folder with the Lee documents, from gensim's wheel."""
    folder = cache / "gensim"
    if not (folder / "lee.cor").exists():
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", GENSIM, "-d", scratch]
            subprocess.run(command, check=True)
            with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
                for name in ("lee_background.cor", "similarities0-1.txt", "lee.cor"):
                    (folder / name).write_bytes(wheel.read(f"gensim/test/test_data/{name}"))
    return folder


def text_of(cache: Path) -> tuple[Path, Path]:
    """The folder with the Lee documents, and the text to learn from."""
    lee, text = gensim_data(cache), cache / "text.txt"
    if not text.exists():
        write_text(text, lee)
    return lee, text


def write_text(path: Path, lee: Path) -> None:
    """Text to learn from: glosses (one to three a line), paragraphs, and the Lee *background* documents.

    None of the fifty documents that are measured is among them.
    """
    from benchmarks.transfer.corpora import _documents

    rng = np.random.default_rng(0)
    documents = _documents(cache_folder("transfer"))
    paragraphs, glosses = [], []
    for document in documents:
        if document.count("\n") == 199 and "\n\n" not in document:
            glosses += document.split("\n")
        else:
            paragraphs += [" ".join(part.split()) for part in re.split(r"\n\s*\n", document)]
    prose = [line for line in paragraphs if 40 <= len(line) <= 600 and _letters(line) > 0.85]
    lines = [prose[place] for place in rng.permutation(len(prose))[:PARAGRAPHS]]
    order, place = rng.permutation(len(glosses)), 0
    for count in rng.integers(1, 4, GLOSSES):
        lines.append("; ".join(glosses[number] for number in order[place : place + count]))
        place = (place + count) % (len(order) - 3)
    measured = set(lee.joinpath("lee.cor").read_text("latin-1").splitlines())
    news = [
        text for text in lee.joinpath("lee_background.cor").read_text("latin-1").splitlines() if text not in measured
    ]
    for text in news:
        if text in measured:
            continue
        sentences = re.split(r"(?<=[.!?]) ", text)
        lines += [
            " ".join(sentences[start : start + count])
            for count in (1, 2, 4)
            for start in range(0, len(sentences), count)
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _letters(text: str) -> float:
    return sum(char.isalpha() or char == " " for char in text) / len(text)


def lee_correlation(model: Path, tokenizer: Path, lee: Path) -> float:
    """Correlation of the model's similarities with people's, over all pairs of the fifty documents."""
    from tokenizers import Tokenizer

    tool = Tokenizer.from_file(str(tokenizer))
    tool.no_padding()
    tool.enable_truncation(LEE_TOKENS)
    runner = session(str(model), optimise=True)
    vectors = []
    for text in lee.joinpath("lee.cor").read_text("latin-1").splitlines():
        ids = np.array([tool.encode(text).ids])
        made = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        feeds = {port.name: made[port.name] for port in runner.get_inputs()}
        vectors.append(runner.run(["last_hidden_state"], feeds)[0][0].mean(0))
    unit = np.array(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    people = np.loadtxt(lee / "similarities0-1.txt")
    pairs = np.triu_indices(len(unit), 1)
    return float(np.corrcoef((unit @ unit.T)[pairs], people[pairs])[0, 1])


def minilm(steps: int, threads: int) -> Study:
    from tests.zoo import real

    cache = cache_folder("recover")
    lee, text = text_of(cache)
    tokenizer = real._locate(real.L6_PACKAGE, "all-MiniLM-L6-v2/tokenizer.json")
    return study(
        "minilm",
        real.minilm_l6("dynamo18"),
        {"layers": 3, "hidden": 192},
        text,
        Settings(steps=steps, batch=32, rate=1e-3, held_out=0.01, threads=threads, outputs=("last_hidden_state",)),
        DataOptions(tokenizer=tokenizer, length=128),
        lambda model: (lee_correlation(model, tokenizer, lee),),
        lambda report, when: float(next(q["similarity"] for q in report[when] if q["output"] == "last_hidden_state")),
        ("r with people (Lee)", "r with the source (held-out text)"),
    )


# -- digits ------------------------------------------------------------------------------------------------------------


def digits(steps: int, threads: int) -> Study:
    from benchmarks.train_digits_vit import digits as load

    cache = cache_folder("recover")
    source, data = cache / "digits_vit.onnx", cache / "digits.npz"
    source.write_bytes(model_bytes())
    np.savez(data, image=load(0)[0].images.numpy())
    test = held_out()
    return study(
        "digits",
        source,
        {"layers": 3, "hidden": 32},
        data,
        Settings(steps=steps, batch=32, rate=1e-3, threads=threads),
        DataOptions(),
        lambda model: (accuracy(session(str(model)).run(None, test.feeds())[0], test.labels),),
        lambda report, when: float(report[when][0]["agreement"]),
        ("accuracy (360 test images)", "agreement with the source (144 held out)"),
    )


def page(studies: list[Study]) -> str:
    """The tables as Markdown."""
    parts = []
    for made in studies:
        lines = [
            f"| {made.key} | parameters | " + " | ".join(made.columns) + " |",
            "|---|---|" + "---|" * len(made.columns),
        ]
        for row in made.rows:
            scores = " | ".join("-" if score is None else f"{score:.3f}" for score in row.scores)
            lines.append(f"| {row.name} | {row.parameters / 1e6:.3g} M | {scores} |")
        took = " and ".join(f"{seconds / 60:.1f}" for seconds in made.seconds)
        parts.append("\n".join(lines) + f"\n\n{made.how}; {took} minutes ({STARTS[0]}, {STARTS[1]}).")
    return (
        "\n\n".join(parts)
        + f"\n\nMeasured by `python -m benchmarks.recover` on {machine()}, one thread; other programs ran."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=["minilm", "digits"])
    parser.add_argument("--minilm-steps", type=int, default=700)
    parser.add_argument("--digits-steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/recover.md")
    given = parser.parse_args()
    studies = []
    if given.only != "minilm":
        studies.append(digits(given.digits_steps, given.threads))
    if given.only != "digits":
        studies.append(minilm(given.minilm_steps, given.threads))
    told = page(studies)
    print(told)
    if given.write:
        start, end = "<!-- measured -->", "<!-- end -->"
        text = PAGE.read_text(encoding="utf-8")
        before, rest = text.split(start)
        PAGE.write_text(f"{before}{start}\n{told}\n{end}{rest.split(end)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
