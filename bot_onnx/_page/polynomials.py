"""Numbers with names in them: the count functions of :mod:`bot_onnx._costs` run on these give their own formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

Monomial = tuple[str, ...]  #: names of variables, sorted; one that stands twice is squared


class NotPolynomialError(Exception):
    """What was done with a polynomial gives none, or depends on where it is looked at."""


@dataclass(frozen=True, slots=True, eq=False)
class Polynomial:
    """A polynomial with integer coefficients, in variables that are whole numbers of at least 1.

    It does what integers do where the outcome is exactly a polynomial whatever the variables are, and refuses all else,
    so that a function which was written for integers either gives its formula or none.

    Attributes:
        terms: coefficient by monomial; none of them is 0.
    """

    terms: Mapping[Monomial, int]

    @classmethod
    def variable(cls, name: str) -> Polynomial:
        """A variable."""
        return cls({(name,): 1})

    @classmethod
    def of(cls, value: Polynomial | int) -> Polynomial:
        """A number, or what is a polynomial already.

        Raises:
            NotPolynomialError: it is neither.
        """
        if isinstance(value, Polynomial):
            return value
        if not isinstance(value, int):
            raise NotPolynomialError(f"{value!r} is no whole number")
        return cls({(): value} if value else {})

    def at(self, values: Mapping[str, int]) -> int:
        """The value where variables have ``values``."""
        return sum(factor * prod(values[name] for name in names) for names, factor in self.terms.items())

    def __add__(self, other: Polynomial | int) -> Polynomial:
        terms = dict(self.terms)
        for names, factor in Polynomial.of(other).terms.items():
            terms[names] = terms.get(names, 0) + factor
        return _cleaned(terms)

    __radd__ = __add__

    def __neg__(self) -> Polynomial:
        return Polynomial({names: -factor for names, factor in self.terms.items()})

    def __sub__(self, other: Polynomial | int) -> Polynomial:
        return self + -Polynomial.of(other)

    def __rsub__(self, other: int) -> Polynomial:
        return -self + other

    def __mul__(self, other: Polynomial | int) -> Polynomial:
        terms: dict[Monomial, int] = {}
        for left, one in self.terms.items():
            for right, two in Polynomial.of(other).terms.items():
                names = tuple(sorted(left + right))
                terms[names] = terms.get(names, 0) + one * two
        return _cleaned(terms)

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> Polynomial:
        """The quotient, rounded down: a polynomial if the divisor divides all coefficients but the number's."""
        if not isinstance(other, int) or not other:
            raise NotPolynomialError(f"division by {other!r}")
        if any(factor % other for names, factor in self.terms.items() if names):
            raise NotPolynomialError(f"not every coefficient is a multiple of {other}")
        return _cleaned({names: factor // other for names, factor in self.terms.items()})

    def __eq__(self, other: object) -> bool:
        """Whether both are the same number, whatever the variables are."""
        if not isinstance(other, Polynomial | int):
            return NotImplemented
        return dict(self.terms) == dict(Polynomial.of(other).terms)

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    def __bool__(self) -> bool:
        return self.sign() != 0

    def __gt__(self, other: Polynomial | int) -> bool:
        return (self - other).sign() > 0

    def __lt__(self, other: Polynomial | int) -> bool:
        return (self - other).sign() < 0

    def __ge__(self, other: Polynomial | int) -> bool:
        return not self < other

    def __le__(self, other: Polynomial | int) -> bool:
        return not self > other

    def sign(self) -> int:
        """-1, 0 or 1: of its values, whatever the variables are.

        Raises:
            NotPolynomialError: it is not the same everywhere, or that cannot be told from the coefficients.
        """
        if not self.terms:
            return 0
        found = {1 if factor > 0 else -1 for factor in self.terms.values()}
        if len(found) > 1:
            raise NotPolynomialError("which of two sizes is the larger one depends on the sizes")
        return found.pop()


#: What the number of layers of a chain is called in its polynomials; no id of a dim has a space.
LAYERS: Final = "number of layers"


def _cleaned(terms: dict[Monomial, int]) -> Polynomial:
    return Polynomial({names: factor for names, factor in terms.items() if factor})
