"""Which layers of the source stay, where a spec names them."""

from __future__ import annotations

from collections.abc import Mapping

from bot_onnx._structure import Chain, Structure
from bot_onnx._target.keep import KeptLayers
from bot_onnx._target.schema import TargetSpec
from bot_onnx.errors import SpecError, said

Picks = Mapping[str, tuple[int, ...]]  #: per chain, the source's layer for every layer of the target


def solve_picks(structure: Structure, spec: TargetSpec, layers: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The layers that a spec names, by chain; chains whose layers it only counts, or leaves as they are, are missing.

    Args:
        structure: the analysed graph.
        spec: the target.
        layers: new depth of every chain.

    Raises:
        SpecError: a layer that the chain does not have, one that cannot move, chains that share weights and are given
            different layers, or layers that are named and are to be chosen as well.
    """
    named = _named(structure, spec)
    if spec.layers_by is not None:
        if named:
            raise SpecError(
                f"key 'layers_by': 'layers' says which layers of '{min(named)}' stay, so there is nothing to choose; "
                "drop one of the two keys"
            )
        if all(layers[chain.name] >= chain.count for chain in structure.chains):
            raise SpecError("key 'layers_by' chooses among the layers of a chain that shrinks, and none does; drop it")
    chains = {chain.name: chain for chain in structure.chains}
    picks = {name: _checked(chains[name], places) for name, places in named.items()}
    for chain in structure.chains:
        _share(chain, picks)
    return {name: places for name, places in picks.items() if places != tuple(range(chains[name].count))}


def _named(structure: Structure, spec: TargetSpec) -> dict[str, tuple[int, ...]]:
    given = spec.layers
    if isinstance(given, dict):
        return {name: one.places for name, one in given.items() if isinstance(one, KeptLayers)}
    if not isinstance(given, KeptLayers):
        return {}
    own = [chain for chain in structure.chains if chain.follows is None]
    meant = [chain for chain in own if chain.resizable is None] or own
    if len(meant) != 1:
        names = ", ".join(f"{chain.name} ({chain.count})" for chain in structure.chains)
        example = given.model_dump_json(exclude_none=True)
        raise SpecError(
            f"key 'layers': these layers could be those of any chain of {names}; "
            f'write for instance "layers": {{"{structure.chains[0].name}": {example}}}.'
        )
    return {meant[0].name: given.places}


def _checked(chain: Chain, places: tuple[int, ...]) -> tuple[int, ...]:
    wrong = next((place for place in places if place >= chain.count), None)
    if wrong is not None:
        raise SpecError(
            f"key 'layers': chain '{chain.name}' has no layer {wrong}: its {chain.count} layers are 0 to "
            f"{chain.count - 1} (a run ends before its second number)."
        )
    if places == tuple(range(chain.count)):
        return places
    if chain.resizable is not None:
        raise SpecError(f"key 'layers': chain '{chain.name}' keeps its {chain.count} layers: {said(chain.resizable)}.")
    first = tuple(range(chain.leading))
    if places[: chain.leading] != first or any(place < chain.leading for place in places[chain.leading :]):
        raise SpecError(
            f"key 'layers': the first layer of chain '{chain.name}' is unlike the others (it lacks a norm): it stays, "
            "as the first one and nowhere else; begin with layer 0 and name it once."
        )
    return places


def _share(chain: Chain, picks: dict[str, tuple[int, ...]]) -> None:
    """Chains with the same weights keep the same layers."""
    if chain.follows is None:
        return
    mine, theirs = picks.get(chain.name), picks.get(chain.follows)
    if mine is not None and theirs is not None and mine != theirs:
        raise SpecError(
            f"key 'layers': chains '{chain.name}' and '{chain.follows}' share their weights, so they keep the same "
            "layers; give both the same."
        )
    shared = mine if mine is not None else theirs
    if shared is not None:
        picks[chain.name] = picks[chain.follows] = shared
