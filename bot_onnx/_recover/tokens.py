"""A program of its own that turns lines into tokens: a tokenizer of unknown origin may panic, or take all there is.

Run by :mod:`bot_onnx._recover.text` as a file, in a process with limits; it imports nothing of this package.

Arguments: the ``tokenizer.json``, the most tokens a line (0: any number, no special ones), seconds, bytes of memory.
Input: the lines, a JSON list. Output: an ``.npz`` archive of ``ids`` and ``types`` of all lines, one after the other,
``lengths`` per line, and ``padding``, the id that pads.
"""

from __future__ import annotations

import io
import json
import signal
import sys
from typing import Any

UNREADABLE = 3  #: exit code where the tokenizer's file is none; the reason stands on stderr
_PADDING = ("[PAD]", "<pad>", "<|endoftext|>", "</s>")


def _limit(seconds: int, nbytes: int) -> None:
    """Let the system end this process where it takes more; some systems cannot."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (nbytes, nbytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass
    if hasattr(signal, "alarm"):  # also when the process that waits for this one is gone
        signal.alarm(seconds)


def _main(path: str, most: int) -> None:
    import numpy as np
    from tokenizers import Tokenizer

    lines: list[str] = json.loads(sys.stdin.buffer.read())
    try:
        tool: Any = Tokenizer.from_file(path)
    except Exception as error:  # the library raises plain Exception
        print(error, file=sys.stderr)
        sys.exit(UNREADABLE)
    tool.no_padding()
    if most:
        tool.enable_truncation(most)
    else:
        tool.no_truncation()
    found = tool.encode_batch(lines, add_special_tokens=bool(most))
    known = (tool.token_to_id(token) for token in _PADDING)
    made = io.BytesIO()
    np.savez(
        made,
        ids=np.array([number for entry in found for number in entry.ids], np.int64),
        types=np.array([number for entry in found for number in entry.type_ids], np.int64),
        lengths=np.array([len(entry.ids) for entry in found], np.int64),
        padding=np.array(next((number for number in known if number is not None), 0)),
    )
    sys.stdout.buffer.write(made.getvalue())


if __name__ == "__main__":
    _limit(int(sys.argv[3]), int(sys.argv[4]))
    _main(sys.argv[1], int(sys.argv[2]))
