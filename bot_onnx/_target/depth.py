"""The new number of layers of every chain."""

from __future__ import annotations

from bot_onnx._structure import Chain, Role, Structure
from bot_onnx._target.keep import KeptLayers
from bot_onnx._target.messages import suggested, suggestion
from bot_onnx._target.schema import TargetSpec
from bot_onnx.errors import SpecError, said

_ATTENTION = (Role.HEADS, Role.KV_HEADS, Role.HEAD_DIM)


def solve_layers(structure: Structure, spec: TargetSpec, notes: list[str]) -> dict[str, int]:
    """Size every chain of layers.

    One number goes to every chain that can be resized, where those have equal depths; else to the chains that hold
    attention, where those have. A list gives every chain in graph order, an object some chains by name.

    Args:
        structure: the analysed graph.
        spec: ``layers`` None keeps all depths.
        notes: receives a sentence for every chain that one number leaves out.

    Returns:
        Layers by chain name, for every chain.

    Raises:
        SpecError: no chains, a wrong length, an unknown name, a chain that cannot be resized, or one number for
            chains of different depths.
    """
    chains = structure.chains
    target = {chain.name: chain.count for chain in chains}
    if spec.layers is None:
        return target
    if not chains:
        raise SpecError("key 'layers': this graph has no repeated layers; drop the key and size dims instead.")
    if isinstance(spec.layers, dict):
        given = _named(chains, spec.layers)
    elif isinstance(spec.layers, list):
        given = _listed(chains, spec.layers)
    else:
        given = _single(structure, number_of(spec.layers), notes)
    target.update(given)
    notes += [_turns(chain, given[chain.name]) for chain in chains if chain.within > 1 and chain.name in given]
    notes += [chain.beside() for chain in chains if chain.strays and target[chain.name] != chain.count]
    return _followed(chains, target)


def _followed(chains: tuple[Chain, ...], target: dict[str, int]) -> dict[str, int]:
    """Give chains that share their weights the same depth: the one asked for."""
    counts = {chain.name: chain.count for chain in chains}
    for chain in chains:
        if chain.follows is None or target[chain.name] == target[chain.follows]:
            continue
        asked = [name for name in (chain.name, chain.follows) if target[name] != counts[name]]
        wanted = target[asked[0]]
        other = chain.follows if asked[0] == chain.name else chain.name
        if len(asked) > 1 or next(c for c in chains if c.name == other).resizable is not None:
            raise SpecError(
                f"key 'layers': chains '{chain.name}' and '{chain.follows}' share their weights, so they keep the same "
                f"depth, but {target[chain.name]} and {target[chain.follows]} are asked; give both the same number."
            )
        target[other] = wanted
    return target


def _turns(chain: Chain, count: int) -> str:
    """What a number means for a chain whose layers are several that take turns."""
    becomes = (
        f"stays at {chain.in_turns()}" if count == chain.count else f"{chain.in_turns()} -> {chain.in_turns(count)}"
    )
    return (
        f"'layers' counts turns of chain '{chain.name}', in which {chain.within} layers that are not alike take turns: "
        f"{becomes}."
    )


def _overview(chains: tuple[Chain, ...]) -> str:
    return ", ".join(f"{chain.name} ({chain.in_turns()})" for chain in chains)


def _checked(chain: Chain, count: int) -> int:
    if count != chain.count and chain.resizable is not None:
        raise SpecError(
            f"key 'layers': chain '{chain.name}' keeps its {chain.count} layers, {count} cannot be had: "
            f"{said(chain.resizable)}. Leave this chain out or give {chain.count}.",
            alternatives=(chain.count,),
        )
    if count != chain.count and chain.leading and count <= chain.leading:
        raise SpecError(
            f"key 'layers': chain '{chain.name}' cannot have {count}: its first layer is unlike the others (it lacks a "
            f"norm) and stays, and at least one of the others must; give {chain.leading + 1} or more.",
            alternatives=(chain.leading + 1,),
        )
    return count


def number_of(layers: int | KeptLayers) -> int:
    """How many layers an entry of a spec asks for."""
    return len(layers.places) if isinstance(layers, KeptLayers) else layers


def _named(chains: tuple[Chain, ...], layers: dict[str, int | KeptLayers]) -> dict[str, int]:
    by_name = {chain.name: chain for chain in chains}
    for name in layers:
        if name not in by_name:
            raise SpecError(
                f"key 'layers.{name}': no chain has this name{suggestion(name, by_name) or '.'} "
                f"The graph has: {_overview(chains)}",
                alternatives=suggested(name, by_name) or by_name,
            )
    return {name: _checked(by_name[name], number_of(count)) for name, count in layers.items()}


def _listed(chains: tuple[Chain, ...], layers: list[int]) -> dict[str, int]:
    if len(layers) != len(chains):
        raise SpecError(
            f"key 'layers': {len(layers)} numbers for {len(chains)} chains; the graph has, in order: "
            f"{_overview(chains)}. Give one number for each, or name some in an object."
        )
    return {chain.name: _checked(chain, count) for chain, count in zip(chains, layers, strict=True)}


def _single(structure: Structure, count: int, notes: list[str]) -> dict[str, int]:
    chains = structure.chains
    chosen = [chain for chain in chains if chain.resizable is None]
    if not chosen:
        return {chain.name: _checked(chain, count) for chain in chains}
    if len({chain.count for chain in chosen}) > 1:
        attention = attention_chains(structure)
        chosen = [chain for chain in chosen if chain.name in attention]
    if len({chain.count for chain in chosen}) != 1:
        example = ", ".join(f'"{chain.name}": {count}' for chain in chains)
        raise SpecError(
            f"key 'layers': {count} could mean any of the chains {_overview(chains)}; "
            f'write for instance "layers": {{{example}}}.'
        )
    names = {chain.name for chain in chosen}
    for chain in chosen:
        if chain.strays > 1:
            raise SpecError(
                f"key 'layers': {count} could mean the {chain.count} layers of chain '{chain.name}' or the "
                f"{chain.count + chain.strays} of the network: {chain.strays} like them stand outside the chain and "
                f'stay; write "layers": {{"{chain.name}": NUMBER}} for those of the chain.'
            )
    for chain in chains:
        if chain.name not in names:
            sized = f"'layers' sizes the chains that hold attention: {', '.join(sorted(names))}"
            reason = sized if chain.resizable is None else said(chain.resizable)
            notes.append(f"chain {chain.name} stays at {chain.count} layers: {reason}.")
    return {chain.name: _checked(chain, count) for chain in chosen}


def attention_chains(structure: Structure) -> set[str]:
    """Return the names of the chains in whose parameters heads or their channels appear."""
    found: set[str] = set()
    for stack in structure.stacks:
        todo = [ident for ident in stack.axes if ident is not None]
        while stack.chain is not None and todo:
            dim = structure.dims[todo.pop()]
            todo.extend(dim.parts)
            if dim.role in _ATTENTION:
                found.add(stack.chain)
    return found
