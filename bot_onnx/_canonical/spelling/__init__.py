"""Spelling first: what changes nothing is seen through, and one function has one form, before anything is recognised.

The passes edit the graph that the analysis reads. Every edit leaves a lineage with the nodes that read its result, so
that what is written has the source's own form again (:func:`restore_spelling`).
"""

from bot_onnx._canonical.spelling.passes import restore_spelling, spell_early, spell_seen
from bot_onnx._canonical.spelling.source_spelling import (
    forget_spelling,
    keep_spelling,
    stands_for_sum,
)

__all__ = ["forget_spelling", "keep_spelling", "restore_spelling", "spell_early", "spell_seen", "stands_for_sum"]
