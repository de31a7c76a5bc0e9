"""Linear maps, convolutions, norms and pools."""

from __future__ import annotations

from typing import Any

from bot_onnx._recover.carried.registry import Call, Step, Uncarried, carries
from bot_onnx._recover.extras import torch


@carries("MatMul")
def _matmul(step: Step) -> Call:
    found: Call = torch().matmul
    return found


@carries("Gemm")
def _gemm(step: Step) -> Call:
    library = torch()
    alpha, beta = float(step.attributes.get("alpha", 1.0)), float(step.attributes.get("beta", 1.0))
    first, second = bool(step.attributes.get("transA", 0)), bool(step.attributes.get("transB", 0))

    def gemm(a: Any, b: Any, c: Any = None) -> Any:
        left, right = a.t() if first else a, b.t() if second else b
        if c is None:
            return left @ right if alpha == 1 else alpha * (left @ right)
        return library.addmm(c, left, right, beta=beta, alpha=alpha)

    return gemm


@carries("Einsum")
def _einsum(step: Step) -> Call:
    library, equation = torch(), str(step.attributes["equation"])
    return lambda *values: library.einsum(equation, *values)


@carries("Conv")
def _conv(step: Step) -> Call:
    functional = torch().nn.functional
    step.expect(auto_pad="NOTSET")
    given = step.attributes
    groups = int(given.get("group", 1))

    def convolve(x: Any, kernel: Any, bias: Any = None) -> Any:
        axes = kernel.dim() - 2
        function = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
        pads, strides, dilations = given.get("pads") or [0] * 2 * axes, given.get("strides"), given.get("dilations")
        sides = pads[:axes]
        if sides != pads[axes:]:
            x = functional.pad(
                x, [size for pair in reversed(list(zip(sides, pads[axes:], strict=True))) for size in pair]
            )
            sides = [0] * axes
        return function(x, kernel, bias, strides or 1, sides, dilations or 1, groups)

    return convolve


@carries("BatchNormalization")
def _batch_norm(step: Step) -> Call:
    step.expect(training_mode=0, spatial=1)
    if len([name for name in step.outputs if name]) > 1 or step.opset < 9:
        raise Uncarried("BatchNormalization with statistics")
    function, epsilon = torch().nn.functional.batch_norm, float(step.attributes.get("epsilon", 1e-5))
    return lambda x, scale, bias, mean, variance: function(x, mean, variance, scale, bias, False, 0.0, epsilon)


@carries("LayerNormalization")
def _layer_norm(step: Step) -> Call:
    function, epsilon = torch().nn.functional.layer_norm, float(step.attributes.get("epsilon", 1e-5))
    axis = int(step.attributes.get("axis", -1))
    if len([name for name in step.outputs if name]) > 1:
        raise Uncarried("LayerNormalization with statistics")

    def norm(x: Any, scale: Any, bias: Any = None) -> Any:
        shape = x.shape[axis:]
        if scale.shape == shape and (bias is None or bias.shape == shape):
            return function(x, shape, scale, bias, epsilon)
        made = function(x, shape, None, None, epsilon) * scale
        return made if bias is None else made + bias

    return norm


@carries("InstanceNormalization")
def _instance_norm(step: Step) -> Call:
    function, epsilon = torch().nn.functional.instance_norm, float(step.attributes.get("epsilon", 1e-5))
    return lambda x, scale, bias: function(x, weight=scale, bias=bias, eps=epsilon)


@carries("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(step: Step) -> Call:
    function = torch().mean if step.op == "GlobalAveragePool" else torch().amax
    return lambda x: function(x, dim=tuple(range(2, x.dim())), keepdim=True)


@carries("MaxPool", "AveragePool")
def _pool(step: Step) -> Call:
    step.expect(auto_pad="NOTSET", ceil_mode=0, storage_order=0)
    kernel = [int(size) for size in step.attributes["kernel_shape"]]
    axes = len(kernel)
    pads = step.attributes.get("pads") or [0] * 2 * axes
    strides = step.attributes.get("strides") or [1] * axes
    if pads[:axes] != pads[axes:] or len(step.outputs) > 1:
        raise Uncarried(f"{step.op} with uneven pads or indices")
    functional = torch().nn.functional
    if step.op == "MaxPool":
        largest: Call = getattr(functional, f"max_pool{axes}d")
        dilations = step.attributes.get("dilations") or [1] * axes
        return lambda x: largest(x, kernel, strides, pads[:axes], dilations)
    step.expect(dilations=[1] * axes)
    mean: Call = getattr(functional, f"avg_pool{axes}d")
    counted = bool(step.attributes.get("count_include_pad", 0))
    return lambda x: mean(x, kernel, strides, pads[:axes], False, counted)
