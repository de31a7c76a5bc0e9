"""New sizes of dims, kept consistent: what follows from a size is inferred at once, a contradiction is refused.

A composite's size follows from its parts' (product or sum). A part's size follows from the composite's where it is
the only unknown one: by division in a product (a k-th root if it stands there k times), by subtraction and division
by k in a concatenation (rotary: head_dim = half + half).
"""

from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass

from bot_onnx._structure import Dim
from bot_onnx._target.composition import Composition, combine
from bot_onnx._target.messages import listing, nearest, nearest_sizes, place
from bot_onnx.errors import DimError


@dataclass(frozen=True, slots=True)
class Fixed:
    """A decided size, and the first causes behind it as parts of a sentence."""

    size: int
    causes: tuple[str, ...]
    kept: bool = False  # the size of the source was kept by default, so asking for another one is a way out


class SizeStore:
    """Decided sizes by dim id; :meth:`assign` adds one with everything that follows from it."""

    def __init__(self, composition: Composition) -> None:
        self.composition = composition
        self._fixed: dict[str, Fixed] = {}

    def get(self, ident: str) -> int | None:
        """Return the decided size, or None."""
        fixed = self._fixed.get(ident)
        return fixed.size if fixed else None

    def changed(self, ident: str) -> bool:
        """Return whether the size is decided and differs from the source's."""
        return self.get(ident) not in (None, self.composition.dims[ident].size)

    def unknown_parts(self, dim: Dim) -> list[str]:
        """Return the distinct parts of a composite that have no size yet, in order."""
        return [part for part in dict.fromkeys(dim.parts) if part not in self._fixed]

    def keep(self, ident: str, why: str) -> None:
        """Decide the source's size for a dim that has none yet."""
        dim = self.composition.dims[ident]
        if ident not in self._fixed:
            self._spread(ident, Fixed(dim.size, (f"{dim.name} {dim.size} ({why})",), kept=True))

    def assign(self, ident: str, size: int, why: str) -> None:
        """Decide a size and infer what follows.

        Args:
            ident: id of a leaf or composite.
            size: number of indices in the target.
            why: a part of a sentence, for messages.

        Raises:
            DimError: the size contradicts what is decided, or parts cannot make it up; the message names the dim,
                its place, the causes and sizes that would do.
        """
        dim = self.composition.dims[ident]
        self._spread(ident, Fixed(size, (f"{dim.name} {size} ({why})",)))

    def sizes(self) -> dict[str, int]:
        """Return all decided sizes."""
        return {ident: fixed.size for ident, fixed in self._fixed.items()}

    def _spread(self, ident: str, fixed: Fixed) -> None:
        queue = deque([(ident, fixed)])
        while queue:
            ident, fixed = queue.popleft()
            known = self._fixed.get(ident)
            if known is None:
                self._fixed[ident] = fixed
                for composite in (ident, *self.composition.owners[ident]):
                    queue.extend(self._infer(self.composition.dims[composite]))
                queue.extend((other, fixed) for other in self.composition.equals.get(ident, ()))
            elif known.size != fixed.size:
                raise self._contradiction(self.composition.dims[ident], known, fixed)

    def _infer(self, dim: Dim) -> list[tuple[str, Fixed]]:
        if not dim.parts:
            return []
        unknown = self.unknown_parts(dim)
        if not unknown:
            sizes = {part: self._fixed[part].size for part in dim.parts}
            kept = all(self._fixed[part].kept for part in dim.parts)
            return [(dim.id, Fixed(combine(dim, sizes), self._causes(dim.parts), kept))]
        if dim.id in self._fixed and len(unknown) == 1:
            causes = self._causes((dim.id, *(part for part in dim.parts if part != unknown[0])))
            return [(unknown[0], Fixed(self._remainder(dim, unknown[0]), causes))]
        return []

    def _causes(self, idents: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cause for ident in idents for cause in self._fixed[ident].causes))

    def _remainder(self, dim: Dim, unknown: str) -> int:
        """Return the size of the only unknown part, which stands ``times`` in ``dim``."""
        target = self._fixed[dim.id].size
        times = dim.parts.count(unknown)
        others = [self._fixed[part].size for part in dim.parts if part != unknown]
        if dim.kind == "concat":
            rest = target - sum(others)
            if rest < times or rest % times:
                raise self._indivisible(dim, unknown, times, sum(others))
            return rest // times
        step = math.prod(others)
        if target % step:
            raise self._indivisible(dim, unknown, step, 0)
        rest = target // step
        root = rest if times == 1 else round(rest ** (1 / times))
        if root**times != rest:
            below = max(math.floor(rest ** (1 / times)), 1)
            choices = [step * n**times for n in (below, below + 1)]
            raise DimError(
                f"dim {place(dim)} cannot become {target}: it is {step} x a {times}-th power; would do: "
                f"{' or '.join(map(str, choices))}.",
                dim=dim.name,
                alternatives=choices,
            )
        return root

    def _indivisible(self, dim: Dim, unknown: str, step: int, offset: int) -> DimError:
        dims = self.composition.dims
        target = self._fixed[dim.id]
        parts = [part for part in dict.fromkeys(dim.parts) if part != unknown]
        sign = " x " if dim.kind == "product" else " + "
        made = sign.join(dims[part].name for part in dim.parts)
        kept = [dims[part].name for part in parts if self._fixed[part].kept and dims[part].frozen is None]
        rule = f"a multiple of {step}" if step > 1 else f"more than {offset}"
        rule = f"{offset} + {rule}" if step > 1 and offset else rule
        other = f", or ask for another {' or '.join(kept)}" if kept else ""
        causes = listing(self._causes((dim.id, *parts)), 6)
        return DimError(
            f"dim {place(dim)} cannot become {target.size}: it is {made}, so it must be {rule} "
            f"[{causes}]. Sizes that would do: {nearest(target.size, step, offset)}{other}.",
            dim=dim.name,
            alternatives=nearest_sizes(target.size, step, offset),
        )

    def _contradiction(self, dim: Dim, known: Fixed, other: Fixed) -> DimError:
        asked = [key for cause in known.causes + other.causes for key in re.findall(r"asked by '(.+)'\)$", cause)]
        keys = list(dict.fromkeys(asked))
        way = (
            f"make {listing(keys)} agree, or drop one of them" if len(keys) > 1 else f"drop {listing(keys) or 'a key'}"
        )
        return DimError(
            f"dim {place(dim)} would have to be {known.size} [{listing(known.causes, 6)}] and {other.size} "
            f"[{listing(other.causes, 6)}] at once: {way}.",
            dim=dim.name,
            alternatives=(known.size, other.size),
        )
