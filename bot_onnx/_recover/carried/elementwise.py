"""Ops that work element by element."""

from __future__ import annotations

from functools import reduce
from typing import Any

from bot_onnx._recover.carried.registry import Call, Step, Uncarried, carries
from bot_onnx._recover.extras import torch


@carries(
    "Abs", "Acos", "Asin", "Atan", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "IsNaN", "Log", "Neg", "Reciprocal"
)
@carries("Relu", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Sqrt", "Tan", "Tanh", "Where", "Pow")
def _by_name(step: Step) -> Call:
    """PyTorch calls it the same."""
    found: Call = getattr(torch(), step.op.lower())
    return found


@carries("Add", "Sub", "Mul")
def _arithmetic(step: Step) -> Call:
    if step.opset < 7:
        raise Uncarried(f"{step.op} of opset {step.opset}")
    return _by_name(step)


@carries("And", "Or", "Xor", "Not")
def _logic(step: Step) -> Call:
    found: Call = getattr(torch(), f"logical_{step.op.lower()}")
    return found


@carries("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
def _order(step: Step) -> Call:
    name = step.op.lower().replace("orequal", "_equal")
    found: Call = torch().eq if name == "equal" else getattr(torch(), name)
    return found


@carries("Div")
def _div(step: Step) -> Call:
    library = torch()
    if step.opset < 7:
        raise Uncarried(f"{step.op} of opset {step.opset}")

    def divide(left: Any, right: Any) -> Any:
        if left.is_floating_point():
            return library.div(left, right)
        return library.div(left, right, rounding_mode="trunc")

    return divide


@carries("Min", "Max")
def _extreme(step: Step) -> Call:
    pair = getattr(torch(), f"{step.op.lower()}imum")
    return lambda *values: reduce(pair, values)


@carries("Sum")
def _sum(step: Step) -> Call:
    return lambda *values: reduce(torch().add, values)


@carries("Gelu", "Mish", "Softplus", "Softsign", "HardSwish", "Selu")
def _activation(step: Step) -> Call:
    step.expect(alpha=None, gamma=None)
    function: Call = getattr(torch().nn.functional, step.op.lower())
    if step.attributes.get("approximate", "none") != "none":
        return lambda x: function(x, approximate=step.attributes["approximate"])
    return function


@carries("Elu", "Celu")
def _exponential(step: Step) -> Call:
    function, alpha = getattr(torch().nn.functional, step.op.lower()), float(step.attributes.get("alpha", 1.0))
    return lambda x: function(x, alpha)


@carries("LeakyRelu")
def _leaky(step: Step) -> Call:
    function, alpha = torch().nn.functional.leaky_relu, float(step.attributes.get("alpha", 0.01))
    return lambda x: function(x, alpha)


@carries("PRelu")
def _prelu(step: Step) -> Call:
    library = torch()
    return lambda x, slope: library.where(x >= 0, x, slope * x)


@carries("HardSigmoid")
def _hard_sigmoid(step: Step) -> Call:
    alpha, beta = float(step.attributes.get("alpha", 0.2)), float(step.attributes.get("beta", 0.5))
    return lambda x: (alpha * x + beta).clamp(0.0, 1.0)


@carries("Clip")
def _clip(step: Step) -> Call:
    library = torch()
    if step.opset < 11:
        low, high = step.attributes.get("min"), step.attributes.get("max")
        return lambda x: x if low is None and high is None else library.clamp(x, low, high)

    def clip(x: Any, low: Any = None, high: Any = None) -> Any:
        return x if low is None and high is None else library.clamp(x, low, high)

    return clip


@carries("Cast")
def _cast(step: Step) -> Call:
    library = torch()
    names = {1: "float32", 2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}
    kind = {**names, 11: "float64", 16: "bfloat16"}.get(int(step.attributes["to"]))
    if kind is None:
        raise Uncarried(f"Cast to {step.attributes['to']}")
    wanted = getattr(library, kind)
    return lambda x: x.to(wanted)


@carries("Identity", "Dropout")
def _identity(step: Step) -> Call:
    if len([name for name in step.outputs if name]) > 1 or step.has(2):
        raise Uncarried(f"{step.op} with a mask")
    return lambda x, *_: x
