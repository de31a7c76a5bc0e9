"""Ops that move numbers, and those that make sizes and indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bot_onnx._recover.carried.registry import Call, Step, Uncarried, carries
from bot_onnx._recover.extras import torch


def _sizes(found: Any) -> list[int]:
    return [int(number) for number in found.reshape(-1).tolist()]


@carries("Reshape", numbered=True)
def _reshape(step: Step) -> Call:
    copies = not step.attributes.get("allowzero", 0)
    constant = step.constant(1)
    known = None if constant is None else _sizes(constant)

    def reshape(x: Any, shape: Any) -> Any:
        wanted = _sizes(shape) if known is None else known
        if copies and 0 in wanted:
            wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
        return x.reshape(wanted)

    return reshape


@carries("Transpose")
def _transpose(step: Step) -> Call:
    order = step.attributes.get("perm")
    if order is None:
        return lambda x: x.permute(*reversed(range(x.dim())))
    return lambda x: x.permute(order)


@carries("Unsqueeze", numbered=True)
def _unsqueeze(step: Step) -> Call:
    axes = step.numbers(1, "axes") or []

    def unsqueeze(x: Any, *_: Any) -> Any:
        rank = x.dim() + len(axes)
        for axis in sorted(axis % rank for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return unsqueeze


@carries("Squeeze", numbered=True)
def _squeeze(step: Step) -> Call:
    axes = step.numbers(1, "axes")
    if axes is None:
        return lambda x: x.squeeze()

    def squeeze(x: Any, *_: Any) -> Any:
        gone = {axis % x.dim() for axis in axes}
        return x.reshape([size for axis, size in enumerate(x.shape) if axis not in gone])

    return squeeze


@carries("Flatten")
def _flatten(step: Step) -> Call:
    axis = int(step.attributes.get("axis", 1))

    def flatten(x: Any) -> Any:
        place = axis % x.dim() if axis < 0 else axis
        rows = 1
        for size in x.shape[:place]:
            rows *= size
        return x.reshape(rows, -1) if x.numel() else x.reshape(rows, 0)

    return flatten


@carries("Concat")
def _concat(step: Step) -> Call:
    library, axis = torch(), int(step.attributes["axis"])
    return lambda *values: library.cat(values, axis)


@carries("Split", numbered=True)
def _split(step: Step) -> Call:
    axis, count = int(step.attributes.get("axis", 0)), len(step.outputs)
    sizes = step.numbers(1, "split")

    def split(x: Any, *_: Any) -> Any:
        wanted = sizes
        if wanted is None:
            size = -(-x.shape[axis] // count)
            wanted = [min(size, x.shape[axis] - size * place) for place in range(count)]
        return x.split(wanted, axis)

    return split


@carries("Slice", numbered=True)
def _slice(step: Step) -> Call:
    library = torch()
    if "starts" in step.attributes:
        raise Uncarried("Slice of opset 9")
    places = [step.constant(place) if step.has(place) else () for place in range(1, 5)]
    known = None if any(found is None for found in places) else _spans(*places)

    def cut(x: Any, starts: Any, ends: Any, axes: Any = (), steps: Any = ()) -> Any:
        for axis, span in _spans(starts, ends, axes, steps) if known is None else known:
            start, stop, stride = span.indices(x.shape[axis])
            if stride == 1:
                x = x.narrow(axis, start, max(0, stop - start))
            else:
                picked = list(range(start, stop, stride))
                x = x.index_select(axis, library.tensor(picked, dtype=library.int64, device=x.device))
        return x

    return cut


def _spans(starts: Any, ends: Any, axes: Any = (), steps: Any = ()) -> list[tuple[int, slice]]:
    first, last = _sizes(starts), _sizes(ends)
    chosen = list(range(len(first))) if isinstance(axes, tuple) or axes is None else _sizes(axes)
    strides = [1] * len(first) if isinstance(steps, tuple) or steps is None else _sizes(steps)
    found = []
    for axis, start, end, stride in zip(chosen, first, last, strides, strict=True):
        # A start before the first element counts as that; backwards, an end before it is none.
        found.append((axis, slice(start, None if stride < 0 and end < -(1 << 30) else end, stride)))
    return found


@carries("Gather")
def _gather(step: Step) -> Call:
    library, axis = torch(), int(step.attributes.get("axis", 0))
    constant = step.constant(1)
    whole = constant is not None and bool((constant >= 0).all())

    def gather(x: Any, indices: Any) -> Any:
        places = indices.long()
        if not whole:
            places = library.where(places < 0, places + x.shape[axis], places)
        if axis == 0 and x.dim() == 2 and x.is_floating_point():
            return library.nn.functional.embedding(places, x)
        place = axis % x.dim()
        shape = (*x.shape[:place], *places.shape, *x.shape[place + 1 :])
        return x.index_select(place, places.reshape(-1)).reshape(shape)

    return gather


@carries("GatherND")
def _gather_nd(step: Step) -> Call:
    library, batch = torch(), int(step.attributes.get("batch_dims", 0))

    def gather(x: Any, indices: Any) -> Any:
        rank = indices.dim() - 1
        places = []
        for axis in range(batch):
            shape = [1] * rank
            shape[axis] = -1
            places.append(library.arange(x.shape[axis], device=x.device).reshape(shape))
        return x[(*places, *indices.unbind(-1))]

    return gather


@carries("Expand", numbered=True)
def _expand(step: Step) -> Call:
    library = torch()
    return lambda x, shape: x.expand(library.broadcast_shapes(x.shape, tuple(_sizes(shape))))


@carries("Tile", numbered=True)
def _tile(step: Step) -> Call:
    return lambda x, repeats: x.repeat(_sizes(repeats))


@carries("Pad", numbered=True)
def _pad(step: Step) -> Call:
    step.expect(mode="constant")
    pad, pads = torch().nn.functional.pad, step.numbers(1, "pads")
    axes = step.numbers(3, "axes")
    value = float(step.attributes.get("value", 0.0))
    if pads is None:
        raise Uncarried("Pad without pads")
    known: Sequence[int] = pads

    def padded(x: Any, _: Any = None, filled: Any = None, *__: Any) -> Any:
        half = len(known) // 2
        sizes = [(0, 0)] * x.dim()
        for place, axis in enumerate(axes if axes is not None else range(half)):
            sizes[axis] = known[place], known[place + half]
        return pad(
            x, [size for pair in reversed(sizes) for size in pair], value=value if filled is None else filled.item()
        )

    return padded


@carries("Trilu", numbered=True)
def _trilu(step: Step) -> Call:
    cut = torch().triu if step.attributes.get("upper", 1) else torch().tril
    return lambda x, k=None: cut(x, 0 if k is None else int(k))


@carries("Shape")
def _shape(step: Step) -> Call:
    library = torch()
    start, end = step.attributes.get("start", 0), step.attributes.get("end")
    return lambda x: library.tensor(tuple(x.shape)[start:end], dtype=library.int64)


@carries("ConstantOfShape")
def _constant_of_shape(step: Step) -> Call:
    library = torch()
    value = step.attributes.get("value", library.zeros(1)).reshape(())
    return lambda shape: value.expand(_sizes(shape))


@carries("Range")
def _range(step: Step) -> Call:
    library = torch()
    return lambda start, limit, delta: library.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


@carries("CumSum", numbered=True)
def _cumsum(step: Step) -> Call:
    step.expect(exclusive=0, reverse=0)
    return lambda x, axis: x.cumsum(int(axis), dtype=x.dtype)
