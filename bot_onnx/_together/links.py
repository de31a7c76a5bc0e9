"""What goes from one file to another, by the names of their outputs and inputs, and which dims that makes one.

An output goes to the input of its name in another file. Where an input finds none, two customs of exporters are known:
``present.…`` comes back as ``past_key_values.…`` (in the same file as well), and what an encoder calls
``last_hidden_state`` is called ``encoder_hidden_states`` where it is read. All else is said: ``enc:out=dec:in``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from bot_onnx._structure import Stack
from bot_onnx._together.view import PortAxis, Ports, View
from bot_onnx.errors import GraphError

_LINK = re.compile(r"(?P<giver>[^:=]+):(?P<output>[^=]+)=(?P<taker>[^:=]+):(?P<input>.+)")
#: Customs of exporters: how an input is called, how the output that it is, whether files that read it give it as well.
_CUSTOMS = (
    (re.compile(r"^past_key_values"), "present", True),
    (re.compile(r"^encoder_hidden_states$"), "last_hidden_state", False),
)


@dataclass(frozen=True, slots=True)
class Link:
    """What an output of one file is to another: its input. Files are numbered as they were given."""

    giver: int
    output: str
    taker: int
    input: str


@dataclass(frozen=True, slots=True)
class SameDim:
    """Two dims of two files that always have one size, and why.

    Attributes:
        one, other: number of the file, and id of the dim in it. why: where they meet, for messages.
    """

    one: tuple[int, str]
    other: tuple[int, str]
    why: str


def find_links(views: Sequence[Ports], said: Iterable[str] = ()) -> list[Link]:
    """What goes from file to file.

    Args:
        views: of the files. said: links such as ``encoder:out=decoder:in``; other outputs do not go to these inputs.

    Raises:
        GraphError: a link that is said names no file or no port.
    """
    links = [_said(views, text) for text in said]
    taken = {(link.taker, link.input) for link in links}
    for taker, reader in enumerate(views):
        for name in reader.inputs:
            if (taker, name) not in taken:
                links.extend(givers_of(views, taker, name))
    return links


def check_joined(views: Sequence[View], links: Sequence[Link], shared: Sequence[SameDim]) -> None:
    """Refuse a file that has nothing to do with the others.

    Raises:
        GraphError: names it, and what it gives and takes.
    """
    met = {n for link in links if link.giver != link.taker for n in (link.giver, link.taker)}
    met |= {n for same in shared for n, _ in (same.one, same.other)}
    for number, seen in enumerate(views):
        if number not in met:
            others = ", ".join(other.name for other in views if other is not seen)
            raise GraphError(
                f"{seen.name} is not connected with {others}: none of its inputs ({', '.join(seen.inputs)}) has the "
                f"name of an output of theirs, none of its outputs ({', '.join(seen.outputs)}) that of an input, and "
                "no matrix is the same; say what goes where with --connect A:OUTPUT=B:INPUT (connect=), or resize "
                "it alone (of a folder: --file)"
            )


def same_dims(views: Sequence[View], links: Sequence[Link]) -> list[SameDim]:
    """Dims that are one because a value goes from file to file, or because both hold one matrix."""
    found: list[SameDim] = []
    for link in links:
        giver, taker = views[link.giver], views[link.taker]
        axes = zip(giver.outputs[link.output], taker.inputs[link.input], strict=True)
        why = f"output {link.output!r} of {giver.name} is input {link.input!r} of {taker.name}"
        for one, other in axes:
            for left, right in _paired(one, other):
                found.append(SameDim((link.giver, left), (link.taker, right), why))
    return found


def shared_stacks(views: Sequence[View]) -> list[tuple[int, Stack, int, Stack]]:
    """Stacks of two files that hold the same matrices: numbers of the files, and the stacks."""
    found = []
    for (one, left), (other, right) in combinations(enumerate(views), 2):
        held = {key: stack for stack in left.structure.stacks if (key := _content(left, stack))}
        for stack in right.structure.stacks:
            twin = held.get(_content(right, stack))
            if twin is not None and len(twin.axes) == len(stack.axes):
                found.append((one, twin, other, stack))
    return found


def dims_of_shared(views: Sequence[View], stacks: Iterable[tuple[int, Stack, int, Stack]]) -> list[SameDim]:
    """Dims that are one because matrices that two files hold have them."""
    return [
        SameDim((one, a), (other, b), f"{views[one].name} and {views[other].name} share {left.tensors[0]!r}")
        for one, left, other, right in stacks
        for a, b in zip(left.axes, right.axes, strict=True)
        if a is not None and b is not None
    ]


def _content(seen: View, stack: Stack) -> tuple[str, ...]:
    """Digests of a stack's tensors; empty where one of them is told from no other."""
    found = tuple(seen.tensors.get(name, "") for name in stack.tensors)
    return found if all(found) else ()


def _said(views: Sequence[Ports], text: str) -> Link:
    told = _LINK.fullmatch(text)
    if told is None:
        raise GraphError(f"{text!r} is no connection: give ENCODER:OUTPUT=DECODER:INPUT, with names of files")
    numbers = [_number(views, told[key]) for key in ("giver", "taker")]
    link = Link(numbers[0], told["output"], numbers[1], told["input"])
    for number, port, kind in ((link.giver, link.output, "outputs"), (link.taker, link.input, "inputs")):
        ports = getattr(views[number], kind)
        if port not in ports:
            raise GraphError(
                f"connection {text!r}: {views[number].member.name} has no {kind[:-1]} {port!r}; its {kind}: "
                f"{', '.join(ports)}",
                alternatives=tuple(ports),
            )
    return link


def _number(views: Sequence[Ports], name: str) -> int:
    for number, seen in enumerate(views):
        if name in (seen.member.name, seen.member.file, str(seen.member.path)):
            return number
    names = [seen.member.name for seen in views]
    raise GraphError(f"no file is called {name!r}; there are: {', '.join(names)}", alternatives=tuple(names))


def givers_of(views: Sequence[Ports], taker: int, name: str) -> Iterator[Link]:
    """Links to one input: of outputs that have its name, else of those that are called as is the custom."""
    named = [Link(n, name, taker, name) for n, seen in enumerate(views) if n != taker and name in seen.outputs]
    if named:
        yield from named
        return
    for pattern, output, by_readers in _CUSTOMS:
        other = pattern.sub(output, name)
        if other == name:
            continue
        for number, seen in enumerate(views):
            if other in seen.outputs and (by_readers or name not in seen.inputs):
                yield Link(number, other, taker, name)


def check_fit(views: Sequence[View], link: Link) -> None:
    """Refuse a link between ports of other types or sizes.

    Raises:
        GraphError: names both.
    """
    giver, taker = views[link.giver], views[link.taker]
    given, taken = giver.outputs[link.output], taker.inputs[link.input]
    kinds = giver.kinds[link.output], taker.kinds[link.input]
    fits = len(given) == len(taken) and all(
        a.size == b.size or not a.size or not b.size or a.dim is None or b.dim is None
        for a, b in zip(given, taken, strict=False)
    )
    if not fits or kinds[0] != kinds[1]:
        raise GraphError(
            f"output {link.output!r} of {giver.name} ({kinds[0]} {_shape(given)}) does not fit input {link.input!r} of "
            f"{taker.name} ({kinds[1]} {_shape(taken)}): these files are no pair"
        )


def _shape(axes: Sequence[PortAxis]) -> str:
    return "x".join(str(axis.size or "?") for axis in axes) or "scalar"


def _paired(one: PortAxis, other: PortAxis) -> Iterator[tuple[str, str]]:
    """Ids of dims on two sides of an axis: leaf by leaf where there are as many, else whole."""
    if one.dim is None or other.dim is None:
        return
    if one.dim and other.dim:
        yield one.dim, other.dim
    if len(one.leaves) == len(other.leaves) > 1:
        yield from zip(one.leaves, other.leaves, strict=True)
