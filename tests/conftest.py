"""What all tests share."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import settings

from tests.spread import cell_of, spread

# Time is measured in benchmarks: on a busy machine an example may take long and be right. CI must not change its mind
# about an unchanged tree, so its examples are fixed ones; everywhere else they are new in every run.
settings.register_profile("untimed", deadline=None)
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)  # before -m picks by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cells of tests on exported models, and of others that say so, as thorough, but for a spread of them."""
    tables: dict[tuple[str, str], list[pytest.Function]] = defaultdict(list)
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        wide = bool(marks & {"exporter", "spread"}) and "slow" not in marks
        if isinstance(item, pytest.Function) and hasattr(item, "callspec") and wide:
            tables[item.nodeid.partition("[")[0], item.originalname].append(item)
    for table in tables.values():
        kept = spread([cell_of(item.callspec.params) for item in table])
        for number, item in enumerate(table):
            if number not in kept:
                item.add_marker(pytest.mark.thorough)
