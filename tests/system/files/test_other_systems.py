"""Writing as on systems that lack what Linux has: files without a name, links, renames of files that are open.

The real calls run, and refuse what such a system refuses.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._onnxfile import locks
from bot_onnx._onnxfile.data_files import locations
from bot_onnx._onnxfile.scratch import Scratch
from bot_onnx._onnxfile.writer import write_text
from tests.graphs import residual_mlp_model, save

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is open and mapped")


def in_use(path: Any) -> bool:
    """Whether this process has a file open, or mapped."""
    real = os.path.realpath(path)
    held = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            held.add(os.readlink(f"/proc/self/fd/{entry}"))
        except OSError:
            continue
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        held.update(line.split(None, 5)[5].rstrip("\n") for line in maps if len(line.split(None, 5)) > 5)
    return real in held


def refusing(real: Callable[..., Any], *places: int) -> Callable[..., Any]:
    """A call that fails where one of its paths is in use, as on Windows."""

    def call(*arguments: Any, **options: Any) -> Any:
        for place in places:
            if not isinstance(arguments[place], int) and in_use(arguments[place]):
                raise PermissionError(13, "in use by another program", str(arguments[place]))
        return real(*arguments, **options)

    return call


def no_folders(real: Callable[..., int]) -> Callable[..., int]:
    def call(path: Any, *arguments: Any, **options: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(13, "is a folder", str(path))
        return real(path, *arguments, **options)

    return call


def forbidden(*arguments: object, **options: object) -> None:
    raise AssertionError("0 is CTRL_C_EVENT on Windows")


def windows(patch: pytest.MonkeyPatch) -> None:
    fcntl = locks.fcntl
    byte_ranges = SimpleNamespace(
        LK_NBLCK=2, locking=lambda descriptor, *_: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    )
    patch.setattr(locks, "fcntl", None)
    patch.setattr(locks, "msvcrt", byte_ranges)
    patch.setattr(shutil, "_use_fd_functions", False)
    for name in ("O_TMPFILE", "preadv", "getuid", "link"):
        patch.delattr(os, name)
    for name in ("SIGBUS", "SIGHUP", "SIGALRM"):
        patch.delattr(signal, name)
    patch.setattr(os, "kill", forbidden)
    patch.setattr(os, "open", no_folders(os.open))
    patch.setattr(os, "unlink", refusing(os.unlink, 0))
    patch.setattr(os, "rename", refusing(os.rename, 0, 1))
    patch.setattr(os, "replace", refusing(os.replace, 0, 1))
    patch.setattr(sys, "platform", "win32")


def macos(patch: pytest.MonkeyPatch) -> None:
    real = os.open

    def no_proc(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).startswith("/proc"):
            raise FileNotFoundError(2, "no such folder", str(path))
        return real(path, *arguments, **options)

    for name in ("O_TMPFILE", "preadv"):
        patch.delattr(os, name)
    patch.setattr(os, "kill", forbidden)
    patch.setattr(os, "open", no_proc)
    patch.setattr(sys, "platform", "darwin")


@pytest.fixture(params=[windows, macos])
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    import safetensors.numpy  # noqa: F401 - libraries look at the platform when they are imported

    request.param(monkeypatch)
    return str(request.param.__name__)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("external", [False, True])
def test_models_are_written_replaced_and_refused(tmp_path: Path, elsewhere: str, external: bool) -> None:
    model, out = save(residual_mlp_model(3, 32, 64), tmp_path), tmp_path / "out.onnx"
    bot_onnx.resize(model, {"hidden": 16}, out, external=external)
    first = names(tmp_path)
    assert len(first) == 2 + external and bot_onnx.verify(out).passed
    with pytest.raises(bot_onnx.errors.OutputError, match="exists already"):
        bot_onnx.resize(model, {"hidden": 48}, out, external=external)
    assert names(tmp_path) == first
    bot_onnx.resize(model, {"hidden": 48}, out, external=external, force=True)
    assert names(tmp_path) == {"model.onnx", "out.onnx", *locations(out)}
    assert names(tmp_path) != first or not external
    assert bot_onnx.verify(out, against=model).passed
    assert np.prod(onnx.load(out).graph.initializer[0].dims) == 4 * 48


def test_weights_and_config_go_together(tmp_path: Path, elsewhere: str) -> None:
    made = residual_mlp_model(2, 16, 32)
    model, home = save(made, tmp_path), tmp_path / "home"
    home.mkdir()
    (tmp_path / "config.json").write_text('{"hidden_size": 16}')
    keys = {tensor.name: f"net.{tensor.name}.weight" for tensor in made.graph.initializer}
    for force in (False, True):
        bot_onnx.export_weights(
            model, home / "model.safetensors", names=keys, config=tmp_path / "config.json", force=force
        )
        assert names(home) == {"model.safetensors", "config.json"}
    back = tmp_path / "back.onnx"
    bot_onnx.import_weights(model, home / "model.safetensors", back, names=keys)
    assert bot_onnx.verify(back, against=model).passed


def test_texts_are_replaced(tmp_path: Path, elsewhere: str) -> None:
    for content in ("old", "new"):
        write_text(tmp_path / "plan.json", content, force=True)
    assert (tmp_path / "plan.json").read_text() == "new" and names(tmp_path) == {"plan.json"}


def test_what_a_killed_run_left_is_swept_and_what_runs_is_not(tmp_path: Path, elsewhere: str) -> None:
    model = save(residual_mlp_model(), tmp_path)
    left, running = Scratch(tmp_path, "left"), Scratch(tmp_path, "running")
    left.make()
    running.make()
    (left.path / "0.unfinished").write_bytes(b"half")
    assert left._descriptor is not None
    os.close(left._descriptor)  # which is what the end of a process does
    bot_onnx.inspect(model)
    assert names(tmp_path) == {"model.onnx", running.path.name}
    running.close()
    assert names(tmp_path) == {"model.onnx"}
