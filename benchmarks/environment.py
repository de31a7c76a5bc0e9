"""What a benchmark's figures depend on: interpreter, processors, package versions.

Imports none of the packages: ``whole_command`` has to stay small itself.
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "numpy", "PyWavelets", "networkx")


def environment() -> dict[str, str | int | None]:
    """Python, system, number of processors, and the version of every package that is installed."""
    found: dict[str, str | int | None] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
