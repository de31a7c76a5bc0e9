"""Results on disk, one JSON line a row, found again by what was measured and by the source that was measured."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

from benchmarks.coverage.case import Case, Row

CACHE_VARIABLE = "BOT_ONNX_COVERAGE_CACHE"
_ROOT = Path(__file__).resolve().parents[2]
_FIELDS = tuple(field.name for field in fields(Row))


def cache_folder() -> Path:
    """Where exports and results are kept: ``$BOT_ONNX_COVERAGE_CACHE``, else ``.cache/coverage`` in the checkout."""
    return Path(os.environ.get(CACHE_VARIABLE) or _ROOT / ".cache" / "coverage")


#: Parts of the package that no resize runs through.
_ASIDE = frozenset({"_checkpoint", "_cli", "demo", "_recover"})


@cache
def engine_hash() -> str:
    """Hash of everything that decides a result besides the case: the engine's source, the oracle, the judge."""
    import bot_onnx

    package = Path(bot_onnx.__file__).parent
    here = Path(__file__).parent
    digest = hashlib.sha256()
    engine = [path for path in sorted(package.rglob("*.py")) if path.relative_to(package).parts[0] not in _ASIDE]
    for path in [*engine, here / "oracle.py", here / "judge.py"]:
        digest.update(str(path.name).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def row_key(case: Case, exporter: str, target: str) -> str:
    """What a result depends on, besides the engine: the two networks, the exporter, the spec."""
    chosen = case.targets[target]
    native = chosen.native.key() if chosen.native else ""
    text = json.dumps([case.source.key(), native, exporter, dict(chosen.spec)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Store:
    """Rows in a file; new ones are appended at once, so that an interrupted run loses nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    data = json.loads(line)
                    self.rows.append(Row(**{name: data[name] for name in _FIELDS if name in data}))
                except (json.JSONDecodeError, TypeError):
                    continue  # a line cut off by a crash; its cell is measured again

    def add(self, row: Row, key: str) -> Row:
        """Append a row with its key and the engine's hash."""
        row = replace(row, key=key, engine=engine_hash())
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row.as_json()) + "\n")
        return row

    def current(self) -> dict[str, Row]:
        """The latest row of this engine, by key."""
        return {row.key: row for row in self.rows if row.engine == engine_hash()}

    def latest(self, keys: Iterable[str]) -> list[Row]:
        """The latest row of any engine for each of ``keys`` that has one, in their order."""
        newest = {row.key: row for row in self.rows}
        return [newest[key] for key in keys if key in newest]
