"""What the options of method ``bot`` need to have anything to do (:mod:`bot_onnx._resample.needs`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from bot_onnx._resample.amplitude import chosen_convention
from bot_onnx._resample.axes import place_of
from bot_onnx._resample.bot_options import BotOptions
from bot_onnx._resample.depth import LayerMap, layer_map
from bot_onnx._resample.needs import Need, depth_changes, layers_are_added, width_changes, width_grows
from bot_onnx._stack.types import Axis, StackTask


def layers_of(options: BotOptions, task: StackTask) -> LayerMap:
    """How the layers of a stack are made.

    Raises:
        ResampleError: the layer axis does not fit the direction or the network.
    """
    grown = task.layers[1] > task.layers[0]
    return layer_map(
        options.depth_mode,
        *task.layers,
        wavelet=options.filters.growing if grown else options.filters.shrinking,
        residual=task.residual,
        place=place_of(task),
        turns=task.turns,
    )


def tie_gain(options: BotOptions, task: StackTask) -> float:
    """rho_hidden for the last norm before a tied head: its logits sum over hidden, with weights left at e = 0."""
    if not task.before_tied_head:
        return 1.0
    hidden = task.axes[-1]
    if hidden.law != "even":  # the new indices add nothing to the logits
        return 1.0
    convention = chosen_convention(options.amplitudes, hidden.source, hidden.target)
    return hidden.source / hidden.target if convention == "value" else 1.0


def _filters_layers(options: BotOptions, task: StackTask) -> bool:
    return depth_changes(options, task) and not task.picks and layers_of(options, task).filtered


def _filters(options: BotOptions, task: StackTask) -> bool:
    by_wavelet = options.depth_mode == "wavelet" and _filters_layers(options, task)
    return by_wavelet or width_changes(options, task)


def _has_amplitudes(options: BotOptions, task: StackTask) -> bool:
    rescaled = options.amplitudes in ("std-source", "std-fresh")
    return rescaled or width_changes(options, task) or _filters_layers(options, task)


def _has_details(options: BotOptions, task: StackTask) -> bool:
    """Bands are open; what no activation sees, or copies share, is of width alone."""
    if width_grows(options, task):
        return True
    by_width = options.detail_kind in ("in-band", "shares")
    return not by_width and layers_are_added(options, task) and _filters_layers(options, task)


def _has_noise(options: BotOptions, task: StackTask) -> bool:
    return options.detail_kind != "zero" and _has_details(options, task)


def _adds_idle_layers(options: BotOptions, task: StackTask) -> bool:
    return layers_are_added(options, task) and task.residual != "none"


def _ties(options: BotOptions, task: StackTask) -> bool:
    return tie_gain(options, task) != 1.0


def _scores_change(options: BotOptions, task: StackTask) -> bool:
    sizes = [axis.head_dim for top in task.axes for axis in _nodes(top) if axis.score and axis.head_dim]
    return any(
        source != target and chosen_convention(options.amplitudes, source, target) == "value"
        for source, target in sizes
    )


def _nodes(axis: Axis) -> Iterator[Axis]:
    yield axis
    for part in axis.parts:
        yield from _nodes(part)


def _changes(options: BotOptions, task: StackTask) -> bool:
    return width_changes(options, task) or (depth_changes(options, task) and not task.picks)


NEEDS: Mapping[str, Need] = MappingProxyType(
    {
        "wavelet": _filters,
        "preset": _changes,
        "qkv": _has_amplitudes,
        "mode": width_changes,
        "level": width_changes,
        "convention": _has_amplitudes,
        "layer_axis": depth_changes,
        "details": _has_details,
        "noise_scale": _has_noise,
        "fresh_readers": _adds_idle_layers,
        "tie_correction": _ties,
        "head_dim_correction": _scores_change,
    }
)
