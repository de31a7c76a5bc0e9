"""The written files, one after the other: do they fit, is what they share the same, do they compute what theirs did.

Both sides of a link must have been resized by the same operator: then an index of the output is the input's index of
that number, whatever the sizes. And both chains are run: the sources on inputs that are made up, each with what the one
before it gives, and the files on the same, with what *theirs* gives. Where all of them keep their function, the outputs
at the end must be the sources', brought to the new size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np

from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.reader import Source, open_model
from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._resample.axes import leaves
from bot_onnx._stack.types import Axis
from bot_onnx._structure import Role, Stack
from bot_onnx._surgery.provenance import Axes
from bot_onnx._surgery.types import Plan
from bot_onnx._together.links import Link, givers_of
from bot_onnx._together.view import Member, named
from bot_onnx._verify.carrying import Incomparable
from bot_onnx._verify.comparison import compare
from bot_onnx._verify.descent import Descent, find_descent
from bot_onnx._verify.runner import Runner
from bot_onnx._verify.trial import run_model
from bot_onnx._verify.types import Check

Arrays = dict[str, Any]
Shared = Sequence[tuple[int, Stack, int, Stack]]


@dataclass(frozen=True, slots=True)
class Pair:
    """A file and what it was made from, open."""

    member: Member
    source: Source
    target: Source
    path: Path
    descent: Descent

    @property
    def name(self) -> str:
        """How it is called."""
        return self.member.name


def hand_over(
    members: Sequence[Member], links: Sequence[Link], written: Sequence[Path], given: Given, *, said: bool = False
) -> list[Check]:
    """Check written files against one another.

    Args:
        members: the sources. links: between them. written: what was made of each.
        given: what the sources are run on, where it is said.
        said: all links are said by name, none found.
    """
    with ExitStack() as stack:
        pairs = []
        for member, path in zip(members, written, strict=True):
            source, target = stack.enter_context(open_model(member.path)), stack.enter_context(open_model(path))
            pairs.append(Pair(member, source, target, path, find_descent(target, source)))
        now, checks = _links_now(pairs, links)
        checks += [_operators(pairs, links, now)]
        if all(check.status != "fail" for check in checks):
            checks += _run(pairs, links, now, given)
        return checks


def same_weights(members: Sequence[Member], plans: Sequence[Plan], shared: Shared, written: Sequence[Path]) -> Check:
    """What two sources share, their files share: tensor by tensor, to the byte."""
    with ExitStack() as stack:
        files = [stack.enter_context(open_model(path)) for path in written]
        targets = [{s.task.stack: s.targets for s in plan.stacks} for plan in plans]
        count = 0
        for one, left, other, right in shared:
            both = targets[one].get(left.id, ()), targets[other].get(right.id, ())
            for a, b in zip(*both, strict=False):
                count += 1
                if len(both[0]) != len(both[1]) or not _equal(files[one], a, files[other], b):
                    return Check(
                        "shared weights", "fail",
                        f"{a!r} of {members[one].name} and {b!r} of {members[other].name} were one matrix, and came "
                        "out differently: take --align none, or a method that draws nothing at random",
                    )  # fmt: skip
    return Check("shared weights", "pass", f"{count} tensors that two files share are the same in both")


def _equal(one: Source, a: str, other: Source, b: str) -> bool:
    left, right = one.tensor(a), other.tensor(b)
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def _links_now(pairs: Sequence[Pair], links: Sequence[Link]) -> tuple[list[Link], list[Check]]:
    """The links between the written files: by the same names, also where layers came or went."""
    ports = [named(pair.member, pair.path) for pair in pairs]
    found: list[Link] = []
    lost: list[str] = []
    for taker, pair in enumerate(pairs):
        before = {link.input: link for link in links if link.taker == taker}
        for name in ports[taker].inputs:
            partner = pair.descent.partner(name)
            by_name = list(givers_of(ports, taker, name))
            if partner is not None and partner not in before:
                continue
            if by_name:
                found += by_name
            elif partner is not None:
                link = before[partner]
                kept = [n for n in ports[link.giver].outputs if pairs[link.giver].descent.partner(n) == link.output]
                found += [Link(link.giver, n, taker, name) for n in kept]
                lost += [] if kept else [f"{pair.name} reads {name!r}, and {pairs[link.giver].name} gives none such"]
    if lost:
        return found, [Check("connections", "fail", "; ".join(lost[:3]))]
    told = sorted({f"{pairs[link.giver].name} to {pairs[link.taker].name}" for link in found})
    return found, [Check("connections", "pass", f"{len(found)} values: {', '.join(told)}" if found else "none")]


def _operators(pairs: Sequence[Pair], links: Sequence[Link], now: Sequence[Link]) -> Check:
    """Both sides of every link are resized alike."""
    for link in now:
        giver, taker = pairs[link.giver].descent.lineage, pairs[link.taker].descent.lineage
        if giver is None or taker is None:
            return Check("operators", "fail", "a file does not say what it was made from")
        sides = giver.outputs.get(link.output, ()), taker.inputs.get(link.input, ())
        factors = dict(giver.promise.factors).get(link.output, 1.0), dict(taker.promise.factors).get(link.input, 1.0)
        known = giver.promise.kept and taker.promise.kept  # of a file that promises nothing no factor is known
        alike = _alike(*sides) and (not known or isclose(*factors, rel_tol=1e-6))
        if not alike or (giver.method, giver.options, giver.seed) != (taker.method, taker.options, taker.seed):
            return Check(
                "operators", "fail",
                f"output {link.output!r} of {pairs[link.giver].name} and input {link.input!r} of "
                f"{pairs[link.taker].name} would be resized in two ways ({_told(sides[0])} by {factors[0]:g}, "
                f"{_told(sides[1])} by {factors[1]:g}), so that their indices would not meet: keep that size",
            )  # fmt: skip
    return Check("operators", "pass", "both sides of every connection are resized alike")


def _alike(one: Axes, other: Axes) -> bool:
    if not any(one) and not any(other):
        return True
    return len(one) == len(other) and all(
        (a is None) == (b is None) and (a is None or b is None or _form(a) == _form(b))
        for a, b in zip(one, other, strict=True)
    )


def _form(axis: Axis) -> tuple[Any, ...]:
    """What decides how an axis is resized: its leaves, in order, and how they are put together."""
    if not axis.parts:
        return "leaf", axis.source, axis.target, axis.law, axis.role == Role.VOCAB
    return axis.kind, *map(_form, axis.parts)


def _told(axes: Axes) -> str:
    changing = [axis for axis in axes if axis is not None]
    parts = [" x ".join(f"{leaf.source} to {leaf.target} ({leaf.law})" for leaf in leaves(axis)) for axis in changing]
    return ", ".join(parts) or "as it is"


def _run(pairs: Sequence[Pair], links: Sequence[Link], now: Sequence[Link], given: Given) -> Iterator[Check]:
    made: dict[int, tuple[Arrays, Arrays]] = {}
    kept: dict[int, bool] = {}
    for number in _order(len(pairs), links):
        pair = pairs[number]
        before = {lk.input: made[lk.giver][0][lk.output] for lk in links if lk.taker == number and lk.giver in made}
        after = {lk.input: made[lk.giver][1][lk.output] for lk in now if lk.taker == number and lk.giver in made}
        upstream = {lk.giver for lk in links if lk.taker == number and lk.giver in made}
        name = f"run of {pair.name}"
        fed = _source_run(pair, {**given.arrays, **before}, given)
        if isinstance(fed, str):
            yield Check(name, "fail", f"its source does not run on what the others give: {fed}")
            return
        feeds, outputs = fed
        try:
            results = _target_run(pair, feeds, after)
        except Exception as error:  # onnxruntime's errors have no public base class
            yield Check(name, "fail", f"it does not run on what the others give: {one_line(error)}")
            return
        made[number] = outputs, results
        promise = pair.descent.promise
        kept[number] = bool(promise and promise.kept) and all(kept[n] for n in upstream)
        yield _judged(name, pair, outputs, results, kept[number])


def _order(count: int, links: Sequence[Link]) -> list[int]:
    """Files in the order in which they can be run; where they go in circles, as they were given."""
    order: list[int] = []
    while len(order) < count:
        rest = [n for n in range(count) if n not in order]
        waits = {lk.taker for lk in links if lk.giver in rest and lk.taker in rest and lk.giver != lk.taker}
        order.append(next((n for n in rest if n not in waits), rest[0]))
    return order


def _source_run(pair: Pair, arrays: Mapping[str, Any], given: Given) -> tuple[Arrays, Arrays] | str:
    with open_model(pair.member.path, given=Given(arrays, given.shapes, strict=False)) as source:
        trial, checks = run_model(source, str(pair.member.path), observed=None, reference=None, seed=0)
        if trial is None:
            return checks[-1].detail
        return trial.feeds[0], trial.results[0]


def _target_run(pair: Pair, feeds: Arrays, linked: Arrays) -> Arrays:
    """What a file gives for its source's inputs, and what the files before it gave."""
    own = {}
    for name in named(pair.member, pair.path).inputs:
        partner = pair.descent.partner(name)
        if name not in linked and partner is not None:
            own[name] = feeds[partner]
    runner = Runner(pair.target, str(pair.path))
    try:
        return runner.run({**pair.descent.feeds(pair.descent.given(own)), **linked})
    finally:
        runner.close()


def _judged(name: str, pair: Pair, outputs: Arrays, results: Arrays, kept: bool) -> Check:
    shown = [(n, value) for n, value in results.items() if isinstance(value, np.ndarray)]
    told = ", ".join(f"{n} {'x'.join(map(str, value.shape)) or 'scalar'}" for n, value in shown[:2])
    bad = [n for n, value in shown if value.dtype.kind == "f" and not np.isfinite(value).all()]
    sound = [n for n in bad if np.isfinite(outputs.get(pair.descent.partner(n) or "", 0)).all()]
    if sound:
        return Check(name, "fail", f"NaN or infinite values in {sound[0]!r}, after the others")
    if not kept:
        return Check(name, "pass", f"runs on what the others give: {told}")
    worst = 0.0
    for output, value in shown:
        partner, way = pair.descent.partner(output), pair.descent.way(output)
        if partner not in outputs or way.tolerance is None:
            continue
        try:
            seen = compare(output, [value], [outputs[partner]], way, least_scale=1e-2)
        except Incomparable as why:
            return Check(name, "fail", f"{output!r} cannot be held against the sources': {why}")
        if seen.agrees is False:
            return Check(
                name, "fail",
                f"every file keeps its function, and one after the other they do not: {output!r} is off by "
                f"{seen.max_difference:.3g} of {seen.scale:.3g}",
            )  # fmt: skip
        worst = max(worst, (seen.max_difference or 0.0) / max(seen.scale or 1.0, 1e-30))
    return Check(name, "pass", f"one after the other they compute what the sources do, to {worst:.1g}: {told}")
