"""Is the file what was predicted? Its analysis, tensors and length are held against an :class:`Expected`.

A size of 1 leaves no trace in a graph: an axis of size 1 has no dim and a single layer is no chain. Then roles that
follow from the lost dim or chain may be lost too (inside which layer would an intermediate dim lie?), so where a 1 is
predicted, sizes must still agree but may turn up under another role.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bot_onnx._onnxfile.reader import Source
from bot_onnx._structure import Role, Structure
from bot_onnx._verify.expected import FIXED, Expected
from bot_onnx._verify.types import Check

#: Roles that a dim may change between because sizes coincide or cease to: a head as wide as the vocabulary is
#: ``vocab``, else ``out``; kv heads that equal the query heads are ``heads``.
_KIN = (
    frozenset({Role.VOCAB, Role.OUT, Role.FREE}),
    frozenset({Role.HEADS, Role.KV_HEADS}),
    frozenset({Role.HEAD_DIM, Role.V_HEAD_DIM, Role.HALF_HEAD_DIM}),
)
_SHOWN = 4


def check_prediction(expected: Expected, structure: Structure | None, source: Source) -> list[Check]:
    """One check for each kind of prediction that ``expected`` makes.

    Args:
        expected: the predictions.
        structure: analysis of the file, None if it failed: what needs it is then skipped.
        source: the file.
    """
    checks: list[Check] = []
    if structure is None:
        checks.append(Check("prediction", "skip", "sizes are not compared: the analysis failed"))
    else:
        if expected.layers is not None:
            checks.append(_layers(expected, structure))
        if expected.roles or expected.dims:
            checks.append(_dims(expected, structure))
        if expected.parameters is not None:
            checks.append(_number("parameters", expected.parameters, structure.parameters))
    if expected.tensors:
        checks.append(_tensors(expected, source))
    if expected.size_bytes is not None:
        checks.append(_number("size", expected.size_bytes, source.size_bytes, " bytes"))
    return [*checks, *(Check(key, "skip", f"not checked: {why}") for key, why in expected.unchecked.items())]


def _number(name: str, predicted: int, found: int, unit: str = "") -> Check:
    if predicted == found:
        return Check(name, "pass", f"{found}{unit}, as predicted")
    return Check(name, "fail", f"predicted {predicted}{unit}, found {found}{unit}")


def _layers(expected: Expected, structure: Structure) -> Check:
    assert expected.layers is not None
    found = [(chain.name, chain.count) for chain in structure.chains]
    told = _chains(found)
    if not expected.complete:
        counts = dict(found)
        wrong = [(name, count) for name, count in expected.layers if counts.get(name, 1) != count]
        if wrong:
            return Check("layers", "fail", f"predicted {_chains(wrong)}, found {told}")
        return Check("layers", "pass", told)
    predicted = [count for _, count in expected.layers if count > 1]
    seen = [count for _, count in found]
    lost = len(predicted) < len(expected.layers)  # what was a layer's inside may then appear as a chain
    if predicted == seen or (lost and _in_order(predicted, seen)):
        return Check("layers", "pass", told)
    if expected.converged:  # neighbours have become alike: that makes chains, or makes them longer
        return Check(
            "layers", "pass", f"predicted {_chains(expected.layers)}, found {told}: sizes that differed are equal"
        )
    if expected.vanished and _in_order(seen, predicted):
        return Check("layers", "pass", f"predicted {_chains(expected.layers)}, found {told}: a size of 1 hides layers")
    return Check("layers", "fail", f"predicted {_chains(expected.layers)}, found {told}")


def _in_order(predicted: Iterable[int], seen: Iterable[int]) -> bool:
    rest = iter(seen)
    return all(count in rest for count in predicted)


def _chains(chains: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in chains) or "no chain of layers"


def _dims(expected: Expected, structure: Structure) -> Check:
    found: dict[str, set[int]] = {}
    for dim in structure.dims.values():
        if dim.role not in FIXED and (dim.kind == "leaf" or dim.role != Role.FREE):
            found.setdefault(dim.role, set()).add(dim.size)
    loose = (
        any(count == 1 for _, count in expected.layers or ())
        or any(1 in sizes for sizes in expected.roles.values())
        or not structure.chains
        or expected.converged
    )
    every = {dim.size for dim in structure.dims.values()} if loose else set()  # composites lose their roles too
    faults = [
        f"predicted {role} {size}, found {_sizes(found.get(role, ()))}"
        for role, sizes in expected.roles.items()
        for size in sorted(sizes)
        if size > 1 and size not in every and not _present(role, size, found, loose)
    ]
    if expected.complete:
        faults += [
            f"found {role} {size}, predicted {_sizes(expected.roles.get(role, ()))}"
            for role, sizes in found.items()
            for size in sorted(sizes)
            if not _present(role, size, expected.roles, loose) and not (loose and size in expected.composites)
        ]
    faults += _named(expected.dims, structure)
    if faults:
        return Check("dims", "fail", _listed(faults))
    told = {role: sizes for role, sizes in found.items() if role in expected.roles and role != Role.FREE}
    return Check("dims", "pass", ", ".join(f"{role} {_sizes(sizes)}" for role, sizes in told.items()) or "as predicted")


def _present(role: str, size: int, where: Mapping[str, Iterable[int]], loose: bool) -> bool:
    kin = next((group for group in _KIN if role in group), frozenset({role}))
    return any(size in sizes for other, sizes in where.items() if loose or other in kin)


def _named(dims: Mapping[str, int], structure: Structure) -> list[str]:
    """Faults among sizes asked for by name. A name that the file lacks may have held the old size (``dim_512``)."""
    by_name = {dim.name: dim for dim in structure.dims.values()}
    faults = []
    for name, size in dims.items():
        dim = by_name.get(name) or structure.dims.get(name)
        if dim is not None and dim.size != size:
            faults.append(f"predicted {name} {size}, found {dim.size}")
        elif dim is None and size > 1 and all(other.size != size for other in structure.dims.values()):
            faults.append(f"predicted {name} {size}, found neither the name nor the size")
    return faults


def _tensors(expected: Expected, source: Source) -> Check:
    faults = []
    for name, (dtype, shape) in expected.tensors.items():
        stored = source.tensors.get(name)
        if stored is None:
            faults.append(f"predicted tensor {name!r}, found none of this name")
        elif (stored.dtype.name, stored.shape) != (dtype, shape):
            faults.append(
                f"predicted {name!r} as {dtype} {list(shape)}, found {stored.dtype.name} {list(stored.shape)}"
            )
    if faults:
        return Check("tensors", "fail", _listed(faults))
    return Check("tensors", "pass", f"{len(expected.tensors)} tensors have the predicted type and shape")


def _sizes(sizes: Iterable[int]) -> str:
    return " and ".join(map(str, sorted(sizes))) or "none"


def _listed(faults: list[str]) -> str:
    more = len(faults) - _SHOWN
    return "; ".join(faults[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
