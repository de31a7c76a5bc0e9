"""Hidden folders for what is not finished: gone whenever the process ends by something that can be caught."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot_onnx._onnxfile import scratch
from bot_onnx._onnxfile.scratch import Scratch


@pytest.mark.parametrize("place", ["settle", "is_swapping", "_remove"])
def test_a_signal_while_it_is_removed_leaves_nothing(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(scratch, place)
    calls: list[object] = []

    def interrupted(path: Path) -> object:
        calls.append(path)
        if len(calls) == 1:
            raise SystemExit(143)
        return real(path)

    monkeypatch.setattr(scratch, place, interrupted)
    with pytest.raises(SystemExit), Scratch(tmp_path, "out") as folder:
        (folder / "unfinished").write_bytes(b"1")
    assert calls and list(tmp_path.iterdir()) == []
