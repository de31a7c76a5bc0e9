"""Save a plan, look at it, and run it again to the same bytes: ``python examples/replay.py FOLDER``."""

import sys
from pathlib import Path

import bot_onnx
from bot_onnx.demo import model_bytes


def main(folder: Path) -> None:
    """Write the same model twice, the second time by the saved plan of the first."""
    source = folder / "model.onnx"
    source.write_bytes(model_bytes())
    first = bot_onnx.resize(source, {"width": 0.5}, folder / "first" / "half.onnx")
    (folder / "plan.json").write_text(first.plan.to_json())

    plan = bot_onnx.Plan.from_json((folder / "plan.json").read_text())
    for dim in plan.dims:
        if dim.source != dim.target:
            print(f"{dim.name}: {dim.source} -> {dim.target}")
    second = bot_onnx.replay(source, plan, folder / "second" / "half.onnx")
    print("the same bytes:", first.output.read_bytes() == second.output.read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
