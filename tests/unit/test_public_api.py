"""The public names, in a fresh interpreter each: what they are must not depend on what was imported before."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import bot_onnx


@pytest.mark.parametrize("first", ["", "import bot_onnx.api", "import bot_onnx._verify.types", "bot_onnx.inspect"])
def test_public_names_are_callable_in_any_order(first: str) -> None:
    names = ("inspect", "plan", "resize", "verify", "energy", "operator", "state_dict", "export_weights", "recover")
    code = f"import bot_onnx\n{first}\nassert all(callable(getattr(bot_onnx, n)) for n in {names!r})"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_no_module_hides_a_public_name() -> None:
    modules = {module.name for module in pkgutil.iter_modules(bot_onnx.__path__)}
    assert not modules & set(bot_onnx.__all__)
    assert {name for name in modules if not name.startswith("_")} == {"api", "demo", "errors", "olive", "torch"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nosuch"):
        _ = bot_onnx.nosuch
