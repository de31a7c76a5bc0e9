"""Where files that are resized together lie, and the folder that comes of them: whole, or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import bot_onnx
from bot_onnx._folders import Folder, FolderOutput, find_folder, planned_notes
from bot_onnx._folders.layout import MARK
from bot_onnx._folders.output import own_files
from bot_onnx._onnxfile.atomic_output import worded
from bot_onnx._onnxfile.folder_output import StagedFolder, check_folder
from bot_onnx._request import PathOrName
from bot_onnx._results import Result
from bot_onnx._surgery.proven import Promise
from bot_onnx._surgery.types import Plan
from bot_onnx._together.view import Member
from bot_onnx._verify import VerifyReport
from bot_onnx._verify.types import Check
from bot_onnx.errors import GraphError


@dataclass(frozen=True, slots=True)
class Place:
    """The files: of a folder, or given one by one."""

    members: tuple[Member, ...]
    folder: Folder | None = None

    def writing(self, output: Path, *, force: bool) -> FilesOutput | FolderOf:
        """What is filled and gets its name in the end."""
        if self.folder is None:
            return FilesOutput(self.members, output, force=force)
        return FolderOf(self.folder, output, force=force)

    def check(self, unlinked: Sequence[str]) -> None:
        """Refuse a folder some of whose files are not used with the others: they may be one model in several forms.

        Raises:
            GraphError: says which there are.
        """
        if self.folder is None or not unlinked:
            return
        found = [member.file for member in self.members]
        raise GraphError(
            f"{self.folder.path} has several .onnx files ({', '.join(found)}), and {', '.join(unlinked)} neither gives "
            "an input to the others nor reads an output of theirs: say which is meant with --file (file=), for example "
            f"--file {found[0]}, or what goes where with --connect",
            alternatives=found,
        )

    def notes(self, plans: Sequence[Plan]) -> tuple[str, ...]:
        """What the folder that comes of it cannot say."""
        return () if self.folder is None else planned_notes(self.folder, one_plan(plans))


def place_of(models: Sequence[PathOrName] | PathOrName) -> Place:
    """The files that are meant.

    Raises:
        GraphError: fewer than two, two of one name, or a folder without several.
    """
    given = [models] if isinstance(models, str | os.PathLike) else list(models)
    if len(given) == 1:
        folder = find_folder(given[0], together=True)
        if folder is None or len(folder.models) < 2:
            raise GraphError(f"{given[0]} is one file: files that are resized together are two or more, or a folder")
        return Place(_named([(path, path.relative_to(folder.path).as_posix()) for path in folder.models]), folder)
    if any(Path(one).is_dir() for one in given):
        raise GraphError("several folders cannot be resized together: give the files, or one folder with all of them")
    return Place(_named([(Path(one), Path(one).name) for one in given]))


def _named(files: Sequence[tuple[Path, str]]) -> tuple[Member, ...]:
    members = [Member(Path(place).with_suffix("").name, path, place) for path, place in files]
    if len({member.name for member in members}) < len(members):
        members = [replace(member, name=Path(member.file).with_suffix("").as_posix()) for member in members]
    if len({member.file for member in members}) < len(members):
        names = ", ".join(str(member.path) for member in members)
        raise GraphError(f"two of the files have one name ({names}): they go into one folder, rename one")
    return tuple(members)


class FilesOutput:
    """A folder on its way for files that were given one by one."""

    def __init__(self, members: Sequence[Member], target: Path, *, force: bool) -> None:
        self._members, self._target, self._force = members, target, force
        self._check()
        self._staging, self._folder = StagedFolder(target), target

    def __enter__(self) -> Self:
        """Make it, under another name."""
        self._folder = self._staging.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was not published."""
        self._staging.__exit__(kind, error, trace)

    def path(self, member: Member) -> Path:
        """Where a file is to be written."""
        return self._folder / member.file

    def publish(self, results: Sequence[Result], checks: Sequence[Check]) -> tuple[str, ...]:
        """Give the folder its name, when all files are in it.

        Raises:
            OutputError: something cannot be written.
        """
        files = sorted(path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*") if path.is_file())
        told = {
            "sources": {member.file: result.plan.source_sha256
                        for member, result in zip(self._members, results, strict=True)},
            "version": bot_onnx.__version__, "method": results[0].plan.method,
            "checks": {check.name: check.status for check in checks}, "files": sorted([*files, MARK]),
        }  # fmt: skip
        with worded(self._folder / MARK):
            (self._folder / MARK).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        self._check()
        self._staging.publish(over=self._force)
        return ()

    def _check(self) -> None:
        for member in self._members:
            own = own_files(self._target)
            check_folder(self._target, force=self._force, apart_from=member.path, own=own)


class FolderOf:
    """A folder on its way for one that holds several models."""

    def __init__(self, source: Folder, target: Path, *, force: bool) -> None:
        self._out = FolderOutput(source, target, force=force)

    def __enter__(self) -> Self:
        """Make it, under another name."""
        self._out.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was not published."""
        self._out.__exit__(kind, error, trace)

    def path(self, member: Member) -> Path:
        """Where a file is to be written."""
        return self._out.at(member.file)

    def publish(self, results: Sequence[Result], checks: Sequence[Check]) -> tuple[str, ...]:
        """Put what goes along beside the models, and give the folder its name."""
        report = one_report([result.report for result in results], checks)
        return self._out.publish(one_plan([result.plan for result in results]), report)


def one_plan(plans: Sequence[Plan]) -> Plan:
    """All plans in one, for configs and cards: what changes, of what size all are together."""
    kept = {plan.promise.kept for plan in plans}
    told = kept.pop() if len(kept) == 1 else None if None in kept else False
    why = "; ".join(dict.fromkeys(plan.promise.why for plan in plans if plan.promise.why))
    return replace(
        plans[0],
        dims=tuple(dim for plan in plans for dim in plan.dims),
        layers=tuple(layer for plan in plans for layer in plan.layers),
        notes=tuple(dict.fromkeys(note for plan in plans for note in plan.notes)),
        parameters=(sum(plan.parameters[0] for plan in plans), sum(plan.parameters[1] for plan in plans)),
        size_bytes=(sum(plan.size_bytes[0] for plan in plans), sum(plan.size_bytes[1] for plan in plans)),
        promise=Promise(told, why),
        align=", ".join(dict.fromkeys(plan.align for plan in plans)),
    )


def one_report(reports: Sequence[VerifyReport], checks: Sequence[Check]) -> VerifyReport:
    """All reports in one, for the card."""
    own = [
        replace(check, name=f"{Path(report.path).name}: {check.name}") for report in reports for check in report.checks
    ]
    return replace(
        reports[0],
        checks=(*own, *checks),
        comparisons=tuple(one for report in reports for one in report.comparisons),
        parameters=sum(report.parameters for report in reports),
        size_bytes=sum(report.size_bytes for report in reports),
    )
