"""What to say where no size of a network meets a budget: the smallest that can be had, and what it consists of."""

from __future__ import annotations

from collections.abc import Collection

from bot_onnx._costs.sizing import elements_of
from bot_onnx._fit.search import Found, Search
from bot_onnx.errors import SpecError


def refuse(search: Search, smallest: Found, keep: Collection[str], latency: float | None = None) -> SpecError:
    """The error: what is asked, what the smallest network is, and why it is no smaller.

    Args:
        search: that found nothing.
        smallest: the smallest network of its family.
        keep: what was to stay.
        latency: seconds that the smallest one takes, where that was measured.
    """
    asked = ", ".join(f"--max-{name} {_told(name, value)}" for name, value in search.budget.limits().items())
    spent = {**search.spent(smallest), "latency": latency}
    have = ", ".join(_told(name, value) for name, value in spent.items() if value is not None)
    sizes = ", ".join(_setting(key, value) for key, value in smallest.spec.items() if value not in ({}, None))
    way = " or drop --keep" if keep else ""
    return SpecError(
        f"no size of this network is within {asked}: the smallest that can be had takes {have} ({sizes}); "
        f"{_largest(search, smallest)}. Give a larger budget{way}"
    )


def _told(name: str, value: float) -> str:
    if name == "latency":
        return f"{value * 1e3:.3g} ms"
    if name == "size":
        return f"{value / 1e6:.3g} MB"
    return f"{value / 1e6:.3g} M {'parameters' if name == 'params' else 'MACs'}"


def _setting(key: str, value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {size}" for name, size in list(value.items())[:6])
    return f"{key} {value}"


def _largest(search: Search, smallest: Found) -> str:
    """The tensors that hold most of its weights, and the dims of theirs that stay."""
    structure, sizes, layers = search.structure, smallest.solution.sizes, smallest.solution.layers
    held = {
        stack.id: elements_of(stack, sizes) * (1 if stack.chain is None or stack.shared else layers[stack.chain])
        for stack in structure.stacks
    }
    if not held:
        return "it has no weights"
    most = max(structure.stacks, key=lambda stack: held[stack.id])
    share = held[most.id] / max(sum(held.values()), 1)
    staying = [
        f"{dim.name} {dim.size}"
        for ident in most.axes
        if ident is not None and (dim := structure.dims[ident]).size == sizes[ident]
    ]
    why = f", whose {' and '.join(staying)} {'stays' if len(staying) == 1 else 'stay'}" if staying else ""
    return f"{share:.0%} of its weights are {most.name}{why}"
