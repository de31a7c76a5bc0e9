"""What is imported before it is needed: libraries that take long, and that most commands never use."""

from __future__ import annotations

import subprocess
import sys

import pytest


def ran(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("bot_onnx.api", ("sympy", "networkx", "torch", "onnxruntime.tools", "pydantic", "pywt")),
        ("bot_onnx._inspecting", ("pydantic", "pywt", "bot_onnx._surgery", "bot_onnx._align", "bot_onnx._verify")),
        ("bot_onnx._report.specs_report", ("pydantic", "numpy")),
        ("bot_onnx._cli.app", ("numpy", "onnx", "difflib")),
    ],
)
def test_libraries_that_are_not_needed_are_not_imported(module: str, absent: tuple[str, ...]) -> None:
    assert ran(f"import sys, {module}; print([n for n in {absent!r} if n in sys.modules])") == "[]"


def test_sizes_with_names_still_add_up() -> None:
    told = ran(
        "import bot_onnx.api, sys, onnx_ir as ir; n = ir.SymbolicDim('n'); print(n + 2, n * n // 3); "
        "import sympy; print(sympy.Symbol('x') + 1, type(sys.modules['sympy']).__name__)"
    )
    assert told.splitlines() == ["n + 2 floor(n**2/3)", "x + 1 module"]


def test_sympy_that_is_there_is_left_alone() -> None:
    assert ran("import sympy, bot_onnx.api, sys; print(sys.modules['sympy'] is sympy)") == "True"
