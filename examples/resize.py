"""Resize the model that ships with bot-onnx, by the Python API: ``python examples/resize.py FOLDER``."""

import sys
from pathlib import Path

import bot_onnx
from bot_onnx.demo import model_bytes


def main(folder: Path) -> None:
    """Write ``small.onnx`` and ``large.onnx`` into a folder."""
    model = bot_onnx.open(model_bytes())
    print("layers:", [chain.count for chain in model.structure.chains])
    small = model.plan({"layers": 3, "hidden": 32}).write(folder / "small.onnx")
    print("small:", small.plan.parameters[1], "parameters, every check passed:", small.report.passed)
    # Growing by a method that keeps the function: the file is refused unless the outputs are the same.
    request = bot_onnx.ResizeRequest({"hidden": 128}, method="net2net", seed=1)
    large = model.plan(request).write(folder / "large.onnx")
    print("large:", large.plan.parameters[1], "parameters, outputs kept:", large.plan.promise.kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
