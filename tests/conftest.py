"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# Time is measured in benchmarks: on a busy machine an example may take long and be right. CI must not change its mind
# about an unchanged tree, so its examples are fixed ones; everywhere else they are new in every run.
settings.register_profile("untimed", deadline=None)
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.load_profile("untimed")
