"""What to install is said in the form that works for how bot-onnx was installed."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bot_onnx import _installing
from bot_onnx._installing import install

ADDRESS = "https://example.org/bot-onnx"


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'bot-onnx[cpu,recover]'"),
        ({"url": "file:///home/me/bot%20onnx", "dir_info": {}}, "pip install '/home/me/bot onnx[cpu,recover]'"),
        ({"url": "file:///src", "dir_info": {"editable": True}}, "pip install -e '/src[cpu,recover]'"),
        (
            {"url": f"{ADDRESS}.git", "vcs_info": {"vcs": "git", "commit_id": "1"}},
            f"pip install 'bot-onnx[cpu,recover] @ git+{ADDRESS}.git'",
        ),
        (
            {"url": f"{ADDRESS}-1-py3-none-any.whl", "archive_info": {}},
            f"pip install 'bot-onnx[cpu,recover] @ {ADDRESS}-1-py3-none-any.whl'",
        ),
    ],
)
def test_by_its_origin(origin: dict[str, Any] | None, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = None if origin is None else json.dumps(origin)
    monkeypatch.setattr(_installing, "distribution", lambda name: SimpleNamespace(read_text=lambda file: text))
    assert install("cpu", "recover") == command


def test_a_source_tree_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(_installing, "distribution", missing)
    root = Path(__file__).resolve().parents[2]
    assert install("hub").strip("'").endswith(f"{root}[hub]") and (root / "pyproject.toml").exists()
