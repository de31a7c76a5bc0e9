"""Control flow, and ops on what is no tensor: sequences, optional values, text."""

from __future__ import annotations

from bot_onnx._ops.registry import register

#: Domain of the entries and joins that stand for control flow whose bodies are inlined.
MARKS = "bot_onnx.flow"

register("If", domains=("", MARKS), bodies=("then_branch", "else_branch"))
register("Loop Scan", domains=("", MARKS), bodies=("body",))
register("LoopEntry ScanEntry", domains=(MARKS,))

register(
    "SequenceMap SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SplitToSequence Optional", sequences=True
)
register("ConcatFromSequence SequenceAt SequenceLength OptionalGetElement OptionalHasElement")
register("StringConcat StringNormalizer StringSplit RegexFullMatch TfIdfVectorizer ImageDecoder")
