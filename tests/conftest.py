"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# Time is measured in benchmarks: on a busy machine an example may take long and be right.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
