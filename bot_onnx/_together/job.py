"""The job: look at the files, agree on sizes, resize each, hand over, and give the whole folder its name at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bot_onnx import _engine, _html
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.lost_files import surviving
from bot_onnx._origins import Origin
from bot_onnx._progress import Progress, stage
from bot_onnx._progress import told as telling
from bot_onnx._request import InputsLike, PathOrName, ResizeRequest
from bot_onnx._results import Result
from bot_onnx._runs.read_overrides import as_given
from bot_onnx._structure import Stack
from bot_onnx._surgery.types import Plan
from bot_onnx._target import TargetSpec, solve
from bot_onnx._together.handover import hand_over, same_weights
from bot_onnx._together.links import (
    Link,
    SameDim,
    check_fit,
    check_joined,
    dims_of_shared,
    find_links,
    same_dims,
    shared_stacks,
    strangers,
)
from bot_onnx._together.places import FilesOutput, FolderOf, Place, one_report, place_of
from bot_onnx._together.sizes import Node, agreed, check_depths, spec_of_each
from bot_onnx._together.view import Member, View, named, view
from bot_onnx._verify import VerifyReport
from bot_onnx._verify.types import Check
from bot_onnx._verifying import verify_origin
from bot_onnx.errors import GraphError, ProofError, ResampleError, VerifyError

if TYPE_CHECKING:
    from bot_onnx._request import SpecLike

_KEY = 16  #: characters of a digest that is a key
_TRIES = 4  #: times that sizes are agreed on anew because the proof keeps some
T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Together:
    """Files that were resized together, or would be.

    Attributes:
        plans: by name of the file (its own, without the ending).
        links: what goes from one to another, as ``("encoder:out", "decoder:in")``.
        results: by name; empty where nothing was written.
        checks: of the files with one another.
        output: the folder, or None. seconds: that it took. notes: on the folder that was written.
    """

    plans: Mapping[str, Plan]
    links: tuple[tuple[str, str], ...]
    results: Mapping[str, Result]
    checks: tuple[Check, ...] = ()
    output: Path | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """The files, and where they went."""
        return f"<Together {', '.join(self.plans)}{'' if self.output is None else f' in {self.output}'}>"

    def _repr_html_(self) -> str:
        rows = [(check.name, check.status, check.detail) for check in self.checks]
        return _html.block(
            _html.facts(
                "Together", {"files": ", ".join(self.plans), "connections": "; ".join(map("=".join, self.links))}
            ),
            _html.table("With one another", ("check", "result", "seen"), rows),
            *(plan._repr_html_() for plan in self.plans.values()),
        )


class _Refit(Exception):
    """The proof keeps dims that others would have resized."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        super().__init__()
        self.nodes = tuple(nodes)


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Files with all that they have in common, and a spec each."""

    members: tuple[Member, ...]
    views: tuple[View, ...]
    links: tuple[Link, ...]
    same: tuple[SameDim, ...]
    shared: tuple[tuple[int, Stack, int, Stack], ...]
    asked: tuple[TargetSpec, ...]
    given: Given

    def given_to(self, number: int) -> Given:
        """What a file is run on, and which of its ports and tensors are of others as well."""
        return _given_to(self.given, self.links, number, self._tensors(number))

    def _tensors(self, number: int) -> dict[str, str]:
        both = [(n, stack) for one, left, other, right in self.shared for n, stack in ((one, left), (other, right))]
        digests = self.views[number].tensors
        return {name: digests[stack.tensors[0]][:_KEY] for n, stack in both if n == number for name in stack.tensors}

    def told(self) -> tuple[tuple[str, str], ...]:
        """The links, by names of files."""
        names = [member.name for member in self.members]
        return tuple((f"{names[lk.giver]}:{lk.output}", f"{names[lk.taker]}:{lk.input}") for lk in self.links)

    def kept_otherwise(self, number: int, plan: Plan, specs: Sequence[TargetSpec]) -> list[Node]:
        """Linked dims that the plan of a file keeps, and the specs do not."""
        sizes = {dim.id: dim.target for dim in plan.dims}
        linked = {node for link in self.same for node in (link.one, link.other)}
        wanted = _sizes(self.views[number], specs[number])
        return [node for node in sorted(linked) if node[0] == number and sizes[node[1]] != wanted[node[1]]]


def plan_together(
    models: Sequence[PathOrName] | PathOrName,
    request: ResizeRequest | SpecLike,
    *,
    connect: Iterable[str] = (),
    progress: Progress | None = None,
) -> Together:
    """Say everything that :func:`resize_together` would do, whose arguments these are; nothing is written."""
    asked = _request(request)

    def work() -> Together:
        started = time.perf_counter()
        place = place_of(models)
        fitted = _fitted(place, asked, connect)

        def carry_out(specs: Sequence[TargetSpec]) -> list[Plan]:
            plans = []
            for number, member in enumerate(fitted.members):
                plan, _ = _engine.make_plan(
                    Origin.of(member.path), asked, specs[number], fitted.given_to(number)
                )  # fmt: skip
                _hold(fitted, number, plan, specs)
                plans.append(plan)
            return plans

        plans = _until_agreed(fitted, carry_out)
        notes = place.notes(plans)
        return Together(_by_name(fitted, plans), fitted.told(), {}, (), None, time.perf_counter() - started, notes)

    return _running(progress, work)


def resize_together(
    models: Sequence[PathOrName] | PathOrName,
    request: ResizeRequest | SpecLike,
    output: PathOrName,
    *,
    connect: Iterable[str] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> Together:
    """Resize files that are used one after the other, so that they still fit.

    What an output of one gives to an input of another is one value, and its dims are one: they get one size, by one
    operator. Tensors that two files share come out the same. The files are verified one by one and then one after the
    other, and the folder appears when all of it has passed.

    Args:
        models: paths of two or more .onnx files, or of a folder that holds them.
        request: what is asked of all of them; a spec alone takes the defaults. Its keys go to the files that have what
            they speak of; entries by name may say the file: ``{"layers": {"encoder:layers": 6}}``.
        output: the folder to be.
        connect: what goes where, as ``encoder:OUTPUT=decoder:INPUT``, where the names do not say it.
        force: replace a folder that this tool wrote.
        progress: called with (what, done, in all) as it goes on.

    Raises:
        GraphError: the files are no pair; the message says which has nothing to do with the others.
        VerifyError: they do not fit any more. BotError: something else was refused or failed; nothing was left behind.
    """
    asked = _request(request)
    return _running(progress, lambda: _resized(models, asked, Path(output), tuple(connect), force))


def verify_together(
    models: Sequence[PathOrName] | PathOrName,
    against: Sequence[PathOrName] | PathOrName,
    *,
    spec: SpecLike | None = None,
    connect: Iterable[str] = (),
    inputs: InputsLike | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check files that were resized together: each of them, and one after the other.

    Args:
        models: the files, or their folder. against: what they were made from, file by file under the same names.
        spec: what their sizes should be. connect: see :func:`resize_together`.
        inputs, input_shapes: what the sources are run on.
        progress: called with (what, done, in all) as it goes on.

    Returns:
        All checks; those of one file begin with its name.

    Raises:
        GraphError: a file cannot be opened, or has no source of its name.
    """

    def work() -> VerifyReport:
        given = replace(as_given(inputs, input_shapes) or Given(), strict=False)
        made, found = place_of(models).members, {member.file: member for member in place_of(against).members}
        sources = [found[member.file] for member in made if member.file in found]
        if len(sources) < len(made):
            missing = next(member for member in made if member.file not in found)
            raise GraphError(f"{missing.path} has no source of its name; there are: {', '.join(found)}")
        links = find_links([named(member) for member in sources], connect)
        specs: Sequence[TargetSpec | None] = [None] * len(made)
        if spec is not None:
            views = [view(member, _given_to(given, links, number)) for number, member in enumerate(made)]
            specs = spec_of_each(views, ResizeRequest(spec).target())
        reports = [
            verify_origin(one.origin, target, other.origin, _given_to(given, links, number))
            for number, (one, other, target) in enumerate(zip(made, sources, specs, strict=True))
        ]
        checks = hand_over(sources, links, [member.path for member in made], given)
        return one_report(reports, checks)

    return _running(progress, work)


def _resized(
    models: Sequence[PathOrName] | PathOrName, asked: ResizeRequest, output: Path, connect: tuple[str, ...], force: bool
) -> Together:
    started = time.perf_counter()
    place = place_of(models)
    with place.writing(output, force=force) as out:
        fitted = _fitted(place, asked, connect)

        def carry_out(specs: Sequence[TargetSpec]) -> list[Result]:
            return [_written(fitted, number, asked, specs, out.path(one)) for number, one in enumerate(fitted.members)]

        results = _until_agreed(fitted, carry_out)
        checks = _checked(fitted, out, [result.plan for result in results])
        results = [
            replace(result, output=output / member.file, report=replace(result.report, path=str(output / member.file)))
            for result, member in zip(results, fitted.members, strict=True)
        ]
        notes = out.publish(results, checks)
    plans = [result.plan for result in results]
    by_name = {member.name: result for member, result in zip(fitted.members, results, strict=True)}
    seconds = time.perf_counter() - started
    return Together(_by_name(fitted, plans), fitted.told(), by_name, tuple(checks), output, seconds, notes)


def _written(fitted: _Fitted, number: int, asked: ResizeRequest, specs: Sequence[TargetSpec], path: Path) -> Result:
    return _engine.carry_out(
        fitted.members[number].origin, asked, specs[number], fitted.given_to(number), path,
        force=True,  # of a try before: the folder has no name yet
        settled=lambda plan: _hold(fitted, number, plan, specs),
        reads=tuple(one.path for one in fitted.members),
    )  # fmt: skip


def _checked(fitted: _Fitted, out: FilesOutput | FolderOf, plans: Sequence[Plan]) -> list[Check]:
    """The files with one another, before they get their names.

    Raises:
        VerifyError: a check failed.
    """
    stage("running them one after the other")
    written = [out.path(member) for member in fitted.members]
    checks = hand_over(fitted.members, fitted.links, written, fitted.given)
    if fitted.shared:
        checks.append(same_weights(fitted.members, plans, fitted.shared, written))
    failed = [f"{check.name}: {check.detail}" for check in checks if check.status == "fail"]
    if failed:
        raise VerifyError(f"the files do not fit together any more: {'; '.join(failed)}")
    return checks


def _fitted(place: Place, request: ResizeRequest, connect: Iterable[str]) -> _Fitted:
    members = place.members
    if request.calibration is not None:
        raise ResampleError("samples to look at (--calibration) are of one file: files together take none")
    given = as_given(request.inputs, request.input_shapes) or Given()
    given = replace(given, strict=False)
    ports = [named(member) for member in members]
    links = tuple(find_links(ports, connect))
    place.check([members[number].file for number in strangers(ports, links)])
    views = tuple(view(member, _given_to(given, links, number)) for number, member in enumerate(members))
    for link in links:
        check_fit(views, link)
    stacks = tuple(shared_stacks(views))
    same = (*same_dims(views, links), *dims_of_shared(views, stacks))
    check_joined(views, links, same)
    asked = tuple(spec_of_each(views, request.target()))
    fitted = _Fitted(members, views, links, same, stacks, asked, given)
    check_depths(views, asked, stacks)
    return fitted


def _given_to(given: Given, links: Sequence[Link], number: int, shared: Mapping[str, str] | None = None) -> Given:
    ports = [link.output for link in links if link.giver == number]
    ports += [link.input for link in links if link.taker == number]
    return replace(given, linked=frozenset(ports), shared=shared or {})


def _until_agreed(fitted: _Fitted, carry_out: Callable[[Sequence[TargetSpec]], list[T]]) -> list[T]:
    kept: list[Node] = []
    for _ in range(_TRIES):
        specs = agreed(fitted.views, fitted.asked, fitted.same, kept)
        try:
            return carry_out(specs)
        except _Refit as found:
            kept += found.nodes
    names = ", ".join(f"{fitted.members[n].name}: {fitted.views[n].structure.dims[dim].name}" for n, dim in kept)
    raise ProofError(f"the files find no sizes that all of them can be proven at; kept were {names}")


def _hold(fitted: _Fitted, number: int, plan: Plan, specs: Sequence[TargetSpec]) -> None:
    nodes = fitted.kept_otherwise(number, plan, specs)
    if nodes:
        raise _Refit(nodes)


def _sizes(seen: View, spec: TargetSpec) -> Mapping[str, int]:
    return solve(seen.structure, spec).sizes


def _by_name(fitted: _Fitted, made: Sequence[T]) -> dict[str, T]:
    return {member.name: one for member, one in zip(fitted.members, made, strict=True)}


def _request(request: ResizeRequest | SpecLike) -> ResizeRequest:
    return request if isinstance(request, ResizeRequest) else ResizeRequest(request)


@surviving()
def _running(progress: Progress | None, work: Callable[[], T]) -> T:
    with telling(progress):
        return work()
