"""Ops on images ``[batch, channels, height, width]`` (or of one or three spatial axes): convolutions, pools, resizing.

Channels may change; taps of kernels and spatial sizes may not.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bot_onnx._axes.dims import EQUAL_PARTS, Dim, MaybeDim
from bot_onnx._axes.repeated_kernels import rows_repeated
from bot_onnx._axes.rules.base import Axes, Context, rule
from bot_onnx._ops import norm_of
from bot_onnx._ops.nodes import behind_views
from bot_onnx._reasons import Reason, Why

KERNEL = Reason(Why.KERNEL)
SPATIAL = Reason(Why.SPATIAL)
_SIZES = 3  #: input of Resize that holds the size of every axis


@rule("Conv", "ConvTranspose", "ConvInteger")
def convolution(context: Context, node: ir.Node) -> None:
    """Channels contract (per group); taps and spatial sizes are not touched."""
    data, weight = context.axes_of(node.inputs[0]), context.axes_of(node.inputs[1])
    table = context.table
    for tap in weight[2:]:
        table.freeze(tap, KERNEL)
    group = node.attributes.get_int("group", 1)
    transposed = node.op_type == "ConvTranspose"
    if group == 1:
        source, channels = (weight[0], weight[1]) if transposed else (weight[1], weight[0])
        context.contracted[node] = table.unify(data[1], source)
    else:
        channels = _grouped(context, node, data[1], weight, group)
    has_bias = node.op_type != "ConvInteger" and len(node.inputs) > 2  # there, a zero point stands in its place
    if has_bias and node.inputs[2] is not None:
        channels = table.unify(channels, context.axes_of(node.inputs[2])[0])
    context.set_axes(node.outputs[0], [data[0], channels, *_spatial(context, node.outputs[0], data)])


def _spatial(context: Context, output: ir.Value, data: Axes) -> list[MaybeDim]:
    """Spatial dims of an output: of their own, and frozen like the input's, which they follow."""
    for dim in data[2:]:
        if dim is not None and context.table.is_static(dim):
            context.table.freeze(dim, SPATIAL)
    found = [context.table.leaf(size) for size in context.sizes(output)[2:]]
    for dim in found:
        context.table.freeze(dim, SPATIAL)
    return found


def _grouped(context: Context, node: ir.Node, data: MaybeDim, weight: Axes, group: int) -> MaybeDim:
    """Channels as groups x channels per group; depthwise where a group reads one channel.

    The weight of a Conv is ``[groups * out, in, …]``, that of a ConvTranspose ``[groups * in, out, …]``. Where it holds
    the same for every group, what a group has is a count. Returns the dim of the output's channels.
    """
    table = context.table
    transposed = node.op_type == "ConvTranspose"
    whole = table.unify(data, weight[0]) if transposed else weight[0]
    inputs = table.split(data, (table.size(data)[0] // group,) * 2) if data is not None else None
    outputs = inputs if transposed else None
    if not transposed and whole is not None:
        outputs = table.split(whole, (table.size(whole)[0] // group,) * 2)
    if inputs is None or outputs is None or inputs[0] is None or outputs[0] is None:
        reason = Reason.at(Why.GROUPED, node)
        for dim in (data, *weight[:2]):
            table.freeze(dim, reason)
        channels = context.sizes(node.outputs[0])[1]
        return whole if table.size(whole) == channels else table.leaf(channels)
    groups, kernel = table.unify(inputs[0], outputs[0]), node.inputs[1]
    assert groups is not None and kernel is not None
    per_group = weight[1] if transposed else outputs[1]
    repeated = rows_repeated(node) is not None
    if not transposed:
        table.unify(inputs[1], weight[1])
    elif inputs[1] is not None and not repeated:
        table.freeze(groups, EQUAL_PARTS)  # its axis would be contracted in part: groups x inputs
    if inputs[1] is not None and per_group is not None:
        context.conv_groups.append(groups)
    if repeated:
        fixed = Reason.of(Why.CONSTANT, kernel.name)
        table.freeze(inputs[1], fixed)
        table.freeze(per_group, fixed)
    context.require_attribute(node, "group", 0, [groups])
    return table.product([groups, per_group]) if transposed else whole


@rule("AveragePool", "MaxPool", "LpPool", "Resize", "Upsample")
def pool(context: Context, node: ir.Node) -> None:
    """Batch and channels stay; spatial sizes are new, and follow from the input."""
    data = context.axes_of(node.inputs[0])
    for output in node.outputs:
        if not output.name:
            continue
        spatial = _pooled(context, node, output, data)
        leading: list[MaybeDim] = []
        for dim, size in zip(data[:2], context.sizes(output)[:2], strict=True):
            if size == context.table.size(dim):
                leading.append(dim)
                continue
            context.table.freeze(dim, Reason.at(Why.ALTERED, node))
            leading.append(context.table.leaf(size))
            context.table.freeze(leading[-1], SPATIAL)
        context.set_axes(output, [*leading, *spatial])
    if node.op_type == "Resize" and len(node.inputs) > _SIZES and context.numbers(node.inputs[_SIZES]) is not None:
        for axis, (dim, own) in enumerate(zip(context.axes_of(node.outputs[0]), data, strict=True)):
            if dim is not None and dim == own:
                context.require(node, _SIZES, axis, [dim])


def _pooled(context: Context, node: ir.Node, output: ir.Value, data: Axes) -> list[MaybeDim]:
    """Axes behind batch and channels; one whose windows are single elements is not pooled.

    A Resize leaves alone what it does not resize: features beside the positions of a table.
    """
    windows = tuple(node.attributes["kernel_shape"].as_ints()) if "kernel_shape" in node.attributes else ()
    if node.op_type in ("Resize", "Upsample"):
        windows = (1,) * (len(data) - 2)
    whole = [
        size == 1 and dim is not None and context.table.is_static(dim) and context.table.size(dim) == new
        for size, dim, new in zip(windows, data[2:], context.sizes(output)[2:], strict=False)
    ]
    if not any(whole) or (node.op_type in ("Resize", "Upsample") and all(whole)):
        return _spatial(context, output, data)
    pooled = [None if untouched else dim for untouched, dim in zip(whole, data[2:], strict=True)]
    found = _spatial(context, output, (*data[:2], *pooled))
    return [dim if untouched else new for untouched, dim, new in zip(whole, data[2:], found, strict=True)]


@rule("DepthToSpace", "SpaceToDepth")
def blocks(context: Context, node: ir.Node) -> None:
    """A block of ``size x size`` pixels is a part of the channels: the slow one, or the fast one in mode CRD."""
    table = context.table
    data, output = context.axes_of(node.inputs[0]), node.outputs[0]
    pixels = node.attributes["blocksize"].as_int() ** 2
    spatial = _spatial(context, output, data)
    if node.op_type == "SpaceToDepth":
        count = table.leaf((pixels, pixels))
        table.freeze(count, EQUAL_PARTS)
        context.set_axes(output, [data[0], table.product([count, data[1]]), *spatial])
        return
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "DCR"
    channels = table.size(data[1])[0] // pixels
    fast = channels if mode == "DCR" else pixels
    pieces = table.split(data[1], (fast, fast)) if data[1] is not None else None
    if pieces is None:
        reason = Reason.at(Why.BLOCKS, node)
        table.freeze(data[1], reason)
        context.new_axes(output, reason)
        return
    count, kept = pieces if mode == "DCR" else pieces[::-1]
    table.freeze(count, EQUAL_PARTS)
    context.set_axes(output, [data[0], kept, *spatial])


@rule("BatchNormalization", "InstanceNormalization", "GroupNormalization", "com.microsoft::GroupNorm")
def channel_normalization(context: Context, node: ir.Node) -> None:
    """Parameters lie along the channels: one for each, or for each of a number of equal groups of channels."""
    value = node.inputs[0]
    assert value is not None
    dims = context.axes_of(value)
    last = node.op_type == "GroupNorm" and node.attributes.get_int("channels_last", 1) != 0
    channels = dims[-1 if last else 1] if len(dims) > 1 else None
    if channels is not None and (known := norm_of(node)) is not None and known.groups is not None:
        _normalise_groups(context, node, known.groups, channels)
    elif node.op_type == "InstanceNormalization" and _folds_channels(context, value, channels):
        context.table.freeze(channels, EQUAL_PARTS)
    if _standardises_weights(node):
        for dim in (dims[0], *dims[2:]):
            context.table.freeze(dim, Reason.at(Why.STANDARDISED, node))
    for parameter in node.inputs[1:]:
        if parameter is not None and len(context.axes_of(parameter)) == 1:
            context.table.unify(channels, context.axes_of(parameter)[0])
    context.set_axes(node.outputs[0], dims)
    for output in node.outputs[1:]:
        if output.name:
            context.set_axes(output, [channels])


def _standardises_weights(node: ir.Node) -> bool:
    """Whether a norm brings weights to a variance of its own scale's making: gain / √(number of inputs).

    The scale holds that number, folded with what was trained; at another number it cannot be told what it should be.
    Ones as scale (a norm of activations follows) hold nothing.
    """
    if node.op_type != "BatchNormalization" or node.attributes.get_int("training_mode", 0) == 0:
        return False
    weight, scale = behind_views(node.inputs[0]), node.inputs[1]
    if weight is None or weight.const_value is None or scale is None or scale.const_value is None:
        return False
    return not bool(np.all(scale.const_value.numpy() == 1))


def _normalise_groups(context: Context, node: ir.Node, name: str, channels: Dim) -> None:
    """Split channels into groups, the number of which (the attribute ``name``) stays."""
    groups = node.attributes[name].as_int()
    table = context.table
    if table.size(channels) == (groups, groups):  # every channel for itself
        context.require_attribute(node, name, 0, [channels])
        return
    size = (table.size(channels)[0] // groups,) * 2
    pieces = table.split(channels, size) or table.deal(channels, size)
    table.freeze(channels if pieces is None else pieces[0], EQUAL_PARTS)


def _folds_channels(context: Context, value: ir.Value, channels: MaybeDim) -> bool:
    """Whether axis 1 is the slow part of channels, the rest of which was moved to the axes that are normalised over.

    That is how a normalisation over groups of channels is written with one over single channels.
    """
    node = value.producer()
    if node is None or node.op_type != "Reshape" or channels is None:
        return False
    before = context.axes_of(node.inputs[0])
    return len(before) > 1 and before[1] is not None and context.table.find(before[1]) != context.table.find(channels)
