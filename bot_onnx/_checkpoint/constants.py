"""Tensors without a name that no training made: constants of the computation, and zeros that change nothing."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir

from bot_onnx._checkpoint.sites import sites_of
from bot_onnx._checkpoint.types import Array, OpenAssignment

#: How the older exporter names what was a constant to it when it traced: no parameter ever is.
_TRACED = re.compile(r"/.*Constant(_\d+)?_output_\d+(__use\d+(_\d+)?)?")
_ROUNDING = 1e-3
_FEWEST = 16  #: numbers that are whole or half hardly by chance


def find_shape_constants(assignment: OpenAssignment, graph: ir.Graph) -> dict[str, str]:
    """Lost tensors that are no parameters, and why.

    They are told by what they hold: tables of whole and half numbers (strides, anchors, masks), the sines and cosines
    of the same angles, and the ones and zeros of a norm whose own scale and bias follow.
    """
    found: dict[str, str] = {}
    values = {name: _read(graph, name) for name in assignment.lost}
    for name, array in values.items():
        if _TRACED.fullmatch(name):
            found[name] = "a constant of the computation, no parameter"
        elif _is_grid(array):
            found[name] = "a table of whole and half numbers, no parameter"
        elif _is_neutral(array, graph.initializers[name]):
            found[name] = "ones or zeros of an op, no parameter"
    rest = [name for name, array in values.items() if name not in found and _is_wave(array)]
    for name in rest:
        if any(name != other and _complete(values[name], values[other]) for other in rest):
            found[name] = "sines and cosines of positions, no parameter"
    return found


def idle_zeros(assignment: OpenAssignment, graph: ir.Graph) -> dict[str, str]:
    """Lost tensors of zeros that are only added to something, and what may be said of them."""
    return {
        name: "zeros that are added: an entry of zeros whose name the exporter lost"
        for name in assignment.lost
        if not _read(graph, name).any()
        and all(site.node.op_type == "Add" for site in sites_of(graph.initializers[name]))
    }


def _read(graph: ir.Graph, name: str) -> Array:
    tensor = graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy().astype(np.float64)


def _is_grid(array: Array) -> bool:
    finite = array[np.isfinite(array)]
    return bool(
        array.size >= _FEWEST and np.unique(array).size > 1 and np.array_equal(2 * finite, np.round(2 * finite))
    )


def _is_neutral(array: Array, value: ir.Value) -> bool:
    """Whether these are the ones or zeros that an InstanceNormalization gets which stands for another norm."""
    sites = sites_of(value)
    wanted = {1: 1.0, 2: 0.0}
    return bool(sites) and all(
        site.node.op_type == "InstanceNormalization" and bool(np.all(array == wanted.get(site.slot, np.nan)))
        for site in sites
    )


def _is_wave(array: Array) -> bool:
    return array.size > 1 and bool(np.all(np.abs(array) <= 1 + _ROUNDING)) and np.unique(array).size > 1


def _complete(first: Array, second: Array) -> bool:
    return first.shape == second.shape and bool(np.all(np.abs(first**2 + second**2 - 1) < _ROUNDING))
