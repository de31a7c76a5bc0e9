"""What all tests share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence, Set

import pytest
from hypothesis import settings

from tests.spread import cell_of, spread

# Time is measured in benchmarks: on a busy machine an example may take long and be right. CI must not change its mind
# about an unchanged tree, so its examples are fixed ones; everywhere else they are new in every run.
settings.register_profile("untimed", deadline=None)
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def teachers_answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what teachers answer in tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOT_ONNX_TEACHER_CACHE", str(tmp_path_factory.mktemp("teachers")))
        yield


@pytest.hookimpl(tryfirst=True)  # before -m picks by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as thorough what a plain run leaves to CI: nearly all tests on exported models, and cells of wide tables."""
    tables: dict[tuple[str, str], list[pytest.Function]] = defaultdict(list)
    exported: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        if marks & {"slow", "thorough"}:
            continue
        module = item.nodeid.partition("::")[0]
        if "exporter" in marks:
            exported[module].append(item)
        elif "spread" in marks and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            tables[module, item.originalname].append(item)
    for table in tables.values():
        _leave(table, spread([cell_of(item.callspec.params) for item in table]))
    for number, module in enumerate(sorted(exported)):  # another place in every module: other networks, other exporters
        _leave(exported[module], {7 * number % len(exported[module])})


def _leave(items: Sequence[pytest.Item], kept: Set[int]) -> None:
    for number, item in enumerate(items):
        if number not in kept:
            item.add_marker(pytest.mark.thorough)
