"""Results made by hand for the tests of the reports, and a way to see what a report prints."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console, RenderableType

from bot_onnx._costs import OUTSIDE, Cost, Costs
from bot_onnx._learn.types import Learned
from bot_onnx._reasons import Reason, Why
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Stack, Structure
from bot_onnx._surgery.edits import LayerChange, SetConstant, SetFactor
from bot_onnx._surgery.types import DimChange, Plan, StackPlan
from bot_onnx._verify.types import Check, OutputComparison, VerifyReport
from tests.spec_structures import vit


@dataclass(frozen=True)
class Inspected:
    """Stands for what the API's ``inspect`` returns."""

    path: str
    structure: Structure
    opset: int
    producer: str
    size_bytes: int
    inputs: tuple[tuple[str, str, tuple[int | str, ...]], ...]
    outputs: tuple[tuple[str, str, tuple[int | str, ...]], ...]
    costs: Costs


@dataclass(frozen=True)
class Resized:
    """Stands for what the API's ``resize`` returns."""

    plan: Plan
    report: VerifyReport
    output: Path
    seconds: float
    learned: Learned | None = None
    resumed: None = None


def text(renderable: RenderableType, width: int = 160) -> str:
    """What a terminal of that width shows, without colours."""
    console = Console(file=io.StringIO(), width=width, color_system=None, markup=True, highlight=False)
    console.print(renderable)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def row(printed: str, label: str) -> str:
    """The one line that starts with a label."""
    found = [line for line in printed.splitlines() if line.strip().startswith(label)]
    assert len(found) == 1, f"{label!r} starts {len(found)} lines of:\n{printed}"
    return found[0]


def inspected() -> Inspected:
    """A vision transformer with one more stack of every kind that has a remark of its own."""
    base = vit()
    extra = (
        Stack("s8", "shared", "blocks", ("one",), "FLOAT", ("d0",), (192,), "scale", ("out",), shared=True),
        Stack(
            "s9",
            "ids",
            None,
            ("ids",),
            "INT64",
            (None, "d2"),
            (1, 197),
            "other",
            ("none", "none"),
            closed_form="arange",
        ),
        Stack(
            "s10", "head", None, ("head",), "FLOAT", ("d0", "d9"), (192, 1000), "matrix", ("in", "out"), twin_of="s8"
        ),
        Stack(
            "s11", "gain", None, ("gain",), "FLOAT", (), (), "scale", (), before_tied_head=True, writes_residual=True
        ),
    )
    chains = (*base.chains, replace(base.chains[0], name="tail", resizable=Reason(Why.STAGES, sizes=((8, 4), (4, 2)))))
    structure = replace(
        base,
        stacks=(*base.stacks, *extra),
        chains=chains,
        ties=(("embed (axis 0)", "head (axis 1)"),),
        residual="pre-norm",
        parameters=5_717_416,
        nodes=611,
        notes=("one node was not understood",),
    )
    image = ("image", "FLOAT", ("batch", 3, 224, 224))
    return Inspected(
        "vit.onnx",
        structure,
        18,
        "pytorch 2.8",
        22_900_000,
        (image,),
        (("logits", "FLOAT", ("batch", 1000)),),
        costs(),
    )


def costs() -> Costs:
    """What twelve layers and the rest cost."""
    parts = (Cost("blocks", 12, 5_300_000, 21_200_000, 1_200_000_000), Cost(OUTSIDE, 0, 417_416, 1_669_664, 29_000_000))
    return Costs.of({"image": (1, 3, 224, 224)}, parts, ())


def plan(hidden: int = 96, layers: int = 6) -> Plan:
    """Resizing 12 layers of 192 to other sizes."""
    attention = Axis(
        "product", 192, hidden, parts=(Axis("leaf", 3, hidden // 64 or 1, "heads"), Axis("leaf", 64, 64, "head_dim"))
    )
    width = Axis("leaf", 192, hidden, "hidden")
    matrix = StackTask("s0", "blocks.*.query", "matrix", (width, attention), ("in", "out"), (12, layers), (12, layers))
    table = StackTask("s1", "ids", "other", (Axis("leaf", 1, 1, "count"), Axis("leaf", 197, 197)), ("none", "none"))
    bias = StackTask("s2", "head.bias", "bias", (Axis("leaf", 10, 10, "out"),), ("out",))
    twin = StackTask("s3", "head", "matrix", (width,), ("in",))
    return Plan(
        source="vit.onnx",
        name="vit-s",
        method="bot",
        options={"wavelet": "haar", "convention": None, "tie_correction": True},
        seed=7,
        align="permute",
        dims=(
            DimChange("d0", "hidden", "hidden", "leaf", 192, hidden),
            DimChange("d2", "positions", "positions", "leaf", 197, 197),
        ),
        layers=(LayerChange("blocks", 12, layers),),
        constants=(
            SetConstant("/0/shape", 192, hidden, "size of an axis", "/0/shape", 2),
            SetConstant("/1/shape", 192, hidden, "size of an axis", "/1/shape", 2),
            SetFactor("/0/scale", 0.125, 0.25, "1/sqrt(head_dim)", "/0/scores", 1),
        ),
        stacks=(
            StackPlan(matrix, ("a",), ("a",), "FLOAT"),
            StackPlan(table, ("b",), ("b",), "INT64", closed_form="arange"),
            StackPlan(bias, ("c",), ("c",), "FLOAT"),
            StackPlan(twin, ("d",), ("d",), "FLOAT", twin_of="s0"),
        ),
        notes=("intermediate keeps its ratio",),
        parameters=(5_717_416, 1_400_000),
        size_bytes=(22_900_000, 5_600_000),
        external=False,
    )


def report(*, failing: bool = False) -> VerifyReport:
    """A verification with one check of every outcome."""
    checks = (
        Check("checker", "pass", "onnx accepts it"),
        Check("dims", "fail" if failing else "pass", "hidden 95, expected 96" if failing else "hidden 96"),
        Check("cuda", "skip", "no device"),
    )
    comparisons = (
        OutputComparison("logits", (2, 1000), 0.98765, 0.125, 14.5, 0.031, None),
        OutputComparison("features", (2, 96), float("nan"), None, None, None, "low band along hidden"),
    )
    return VerifyReport("small.onnx", checks, comparisons, 1_400_000, 5_600_000, {"blocks": 6}, {"hidden": 96})


def resized(hidden: int = 96, layers: int = 6) -> Resized:
    """A finished resize."""
    return Resized(plan(hidden, layers), report(), Path("small.onnx"), 2.5)
