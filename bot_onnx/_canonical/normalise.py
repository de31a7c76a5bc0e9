"""Bring an exported graph into the one form that the analysis reads: structural passes only, in one tuple.

Functions are inlined, Constant nodes become initializers, Identity and unused nodes go. No optimiser runs: fusing
and folding untie shared weights and cost more than the analysis itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir
from onnx_ir.passes import common

from bot_onnx._canonical.conditions import (
    ALL_READ,
    IN_ORDER,
    NO_CALLS,
    NO_CONSTANTS,
    NO_IDENTITIES,
    NOTHING_FUSED,
    ONE_GRAPH,
    OWN_CONSTANTS,
    SUMS_OF_TWO,
    WEIGHTS_INSIDE,
    Condition,
)
from bot_onnx._canonical.constants import clone_shared_constants, hold_small, lift_tensor_constants
from bot_onnx._canonical.control_flow import inline_bodies
from bot_onnx._canonical.decompose import (
    Decomposed,
    Scheme,
    decompose_fused,
    decompose_quantised,
    fold_casts,
    fold_reshapes,
    name_dequantisation,
    read_scheme,
)
from bot_onnx._canonical.deduplicate import share_copies
from bot_onnx._canonical.form import Form
from bot_onnx._canonical.inline_functions import inline
from bot_onnx._canonical.lookups import gather_rows
from bot_onnx._canonical.spelling import spell_early
from bot_onnx._canonical.sums import write_out_sums
from bot_onnx._canonical.tidy import drop_identities, tidy
from bot_onnx._canonical.zero_states import drop_zero_states
from bot_onnx._onnxfile.reader import REPAIRS


@dataclass(slots=True)
class Draft:
    """What the rewrites found so far; the fields are those of :class:`Form`."""

    scheme: Scheme | None = None
    decomposed: Decomposed = field(default_factory=Decomposed)
    fused: Mapping[str, int] = field(default_factory=dict)
    copies: int = 0


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One pass towards the canonical form.

    Attributes:
        run: changes a model in place, and notes in the draft what others will ask for.
        requires, ensures: what is true before and after it.
    """

    run: Callable[[ir.Model, Draft], None]
    requires: tuple[Condition, ...] = ()
    ensures: tuple[Condition, ...] = ()


class CanonicalPass(ir.passes.InPlacePass):
    """A rewrite as a pass of onnx-ir, which looks whether its conditions hold when it is called."""

    def __init__(self, rewrite: Rewrite, draft: Draft) -> None:
        self.rewrite, self._draft = rewrite, draft

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model, without a look at the conditions."""
        self.rewrite.run(model, self._draft)
        return ir.passes.PassResult(model, modified=True)

    def requires(self, model: ir.Model) -> None:
        """Look whether the rewrite may run."""
        for condition in self.rewrite.requires:
            condition.check(model)

    def ensures(self, model: ir.Model) -> None:
        """Look whether the rewrite did what it is for."""
        for condition in self.rewrite.ensures:
            condition.check(model)


def _on(run: Callable[[ir.Graph], object]) -> Callable[[ir.Model, Draft], None]:
    """A rewrite that changes the graph, and finds nothing that others ask for."""

    def rewrite(model: ir.Model, _: Draft) -> None:
        run(model.graph)

    return rewrite


def _inline(model: ir.Model, _: Draft) -> None:
    inline(model)


def _lift_constants(model: ir.Model, _: Draft) -> None:
    lift_tensor_constants(model.graph)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)  # constants of other kinds


def _read_scheme(model: ir.Model, draft: Draft) -> None:
    draft.scheme = read_scheme(model.graph)


def _decompose_quantised(model: ir.Model, draft: Draft) -> None:
    draft.decomposed = decompose_quantised(model.graph)


def _decompose_fused(model: ir.Model, draft: Draft) -> None:
    draft.fused = decompose_fused(model.graph)


def _keep_weights_inside(model: ir.Model, _: Draft) -> None:
    common.RemoveInitializersFromInputsPass()(model)


def _tidy(model: ir.Model, _: Draft) -> None:
    tidy(model)


def _name_weights(model: ir.Model, draft: Draft) -> None:
    """Give weights in floating point the names that the packed ones had, which are gone now."""
    for value, name in draft.decomposed.weights:
        if value.is_initializer() and name not in model.graph.initializers:
            value.name = name
    model.graph.doc_string = None


def _share_copies(model: ir.Model, draft: Draft) -> None:
    draft.copies = share_copies(model.graph)


#: All of them, in order.
REWRITES: tuple[Rewrite, ...] = (
    Rewrite(_inline, ensures=(NO_CALLS,)),
    Rewrite(_on(inline_bodies), requires=(NO_CALLS,), ensures=(ONE_GRAPH,)),
    Rewrite(_lift_constants, requires=(ONE_GRAPH,), ensures=(NO_CONSTANTS,)),
    Rewrite(_on(drop_identities), requires=(NO_CONSTANTS,), ensures=(NO_IDENTITIES,)),
    Rewrite(_on(spell_early), requires=(NO_CONSTANTS, NO_IDENTITIES)),
    Rewrite(_on(write_out_sums), requires=(NO_CONSTANTS,), ensures=(SUMS_OF_TWO,)),
    Rewrite(_on(gather_rows), requires=(NO_CONSTANTS,)),
    Rewrite(_on(name_dequantisation), requires=(NO_CONSTANTS, NO_IDENTITIES)),
    Rewrite(_read_scheme, requires=(ONE_GRAPH, NO_CONSTANTS)),
    Rewrite(_on(fold_reshapes), requires=(NO_CONSTANTS, NO_IDENTITIES)),
    Rewrite(_on(fold_casts), requires=(NO_CONSTANTS, NO_IDENTITIES)),
    Rewrite(_decompose_quantised, requires=(ONE_GRAPH, NO_CONSTANTS)),
    Rewrite(_decompose_fused, requires=(ONE_GRAPH, NO_CONSTANTS), ensures=(NOTHING_FUSED,)),
    Rewrite(_on(drop_zero_states), requires=(NO_CONSTANTS,)),  # those of layers that were quantised as well
    Rewrite(_keep_weights_inside, ensures=(WEIGHTS_INSIDE,)),
    Rewrite(_tidy, requires=(ONE_GRAPH,), ensures=(ALL_READ, IN_ORDER)),
    Rewrite(_name_weights, requires=(ALL_READ,)),
    Rewrite(_share_copies, requires=(SUMS_OF_TWO, ALL_READ, IN_ORDER)),
    Rewrite(_on(hold_small), requires=(NO_CONSTANTS,)),
    Rewrite(_on(clone_shared_constants), requires=(ONE_GRAPH, NO_CONSTANTS), ensures=(OWN_CONSTANTS,)),
)


def canonical_passes(draft: Draft) -> tuple[CanonicalPass, ...]:
    """The rewrites as passes that share a draft, for ``ir.passes.Sequential`` to run with their conditions."""
    return tuple(CanonicalPass(rewrite, draft) for rewrite in REWRITES)


def normalise(model: ir.Model) -> Form:
    """Normalise ``model`` in place; say what form it had.

    Afterwards what the rewrites ensure is true, and: no nodes that change nothing by what the file says, no initial
    states that are zero anyway, no second copies of a weight, and no quantised ops but those that cannot be followed.

    The conditions are not looked at here: that would take as long as the rewrites, and tests do it.

    Raises:
        GraphError: functions that do not suit their calls, bodies that cannot be followed.
    """
    draft = Draft()
    for rewrite in REWRITES:
        rewrite.run(model, draft)
    return Form(draft.scheme, draft.decomposed, draft.fused, draft.copies, tuple(model.meta.get(REPAIRS, ())))
