"""The folder that comes of a folder: put together under another name, and named as one when all of it is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import bot_onnx
from bot_onnx._folders import config, timm_config
from bot_onnx._folders.card import Lineage, card, licence_lines
from bot_onnx._folders.jsontext import rewritten
from bot_onnx._folders.layout import CARD, MARK, Folder
from bot_onnx._folders.sizes import Sizes, Written
from bot_onnx._folders.vocabulary import Cut, cut_files
from bot_onnx._onnxfile.atomic_output import worded
from bot_onnx._onnxfile.data_files import metadata_of
from bot_onnx._onnxfile.folder_output import StagedFolder, check_folder, copy_file
from bot_onnx._structure import Role
from bot_onnx._surgery.provenance import read_provenance
from bot_onnx._surgery.types import Plan
from bot_onnx._verify import VerifyReport
from bot_onnx.errors import SpecError


def planned_notes(folder: Folder, plan: Plan) -> tuple[str, ...]:
    """What the folder that a plan leads to cannot say, and what does not go along.

    Raises:
        SpecError: a config is none, or would tell of another network than the model's.
    """
    cut = cut_files(folder, plan)
    configs = _configs(folder, plan, cut)
    return tuple(note for text in configs.values() for note in text[1]) + _told(folder, plan, cut)


class FolderOutput:
    """A folder on its way. Leaving the block without :meth:`publish` leaves everything as it was.

    Args:
        source: the folder that it comes from. target: the folder to be.
        force: replace one that this tool wrote, or that is empty.

    Raises:
        OutputError: the target may not be written.
    """

    def __init__(self, source: Folder, target: Path, *, force: bool) -> None:
        self._source, self._target, self._force = source, target, force
        self._check()
        self._staging = StagedFolder(target)
        self._folder = target

    def __enter__(self) -> FolderOutput:
        """Make it, under another name."""
        self._folder = self._staging.__enter__()
        try:
            with worded(self.model):
                self.model.parent.mkdir(parents=True, exist_ok=True)
        except BaseException:
            self._staging.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was not published."""
        self._staging.__exit__(kind, error, trace)

    @property
    def model(self) -> Path:
        """Where the model is to be written."""
        return self._folder / self._source.inner

    def at(self, place: str) -> Path:
        """Where a file of the folder is to be written."""
        path = self._folder / place
        with worded(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, plan: Plan, report: VerifyReport) -> tuple[str, ...]:
        """Put what goes along beside the model, which is written, and give the folder its name.

        Args:
            plan: what was done. report: what was checked.

        Returns:
            What :func:`planned_notes` says.

        Raises:
            SpecError: see :func:`planned_notes`. OutputError: something cannot be written.
        """
        source = self._source
        cut = cut_files(source, plan)
        for place in source.copied():
            if place not in cut.texts and place not in cut.dropped:
                copy_file(source.path / place, self._folder / place)
        configs = _configs(source, plan, cut)
        for place, text in {**cut.texts, **{place: text for place, (text, _) in configs.items()}}.items():
            self._write(place, text)
        notes = [note for _, told in configs.values() for note in told] + list(_told(source, plan, cut))
        digest = str(read_provenance(metadata_of(self.model)).get("source_sha256", ""))
        lineage = Lineage(source.label, source.inner, digest, bot_onnx.__version__)
        licence = licence_lines(source.card())
        self._write(CARD, card(lineage, plan, report, licence=licence, notes=notes))
        self._mark(lineage, plan, notes)
        self._check()
        self._staging.publish(over=self._force)
        return tuple(notes)

    def _write(self, place: str, text: str) -> None:
        path = self._folder / place
        with worded(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")

    def _mark(self, lineage: Lineage, plan: Plan, notes: list[str]) -> None:
        files = [path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*") if path.is_file()]
        told = {**asdict(lineage), "method": plan.method, "spec": plan.name, "notes": notes}
        self._write(MARK, json.dumps({**told, "files": sorted([*files, MARK])}, indent=2, ensure_ascii=False) + "\n")

    def _check(self) -> None:
        check_folder(self._target, force=self._force, apart_from=self._source.path, own=own_files(self._target))


def own_files(target: Path) -> set[str] | None:
    """Places of the files that this tool wrote into a folder; None where it wrote none."""
    try:
        told = json.loads((target / MARK).read_text(encoding="utf-8"))
        files = told["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return {str(place) for place in files} if isinstance(files, list) else None


def _configs(folder: Folder, plan: Plan, cut: Cut) -> dict[str, tuple[str, list[str]]]:
    """New texts of the configs by place, and what they cannot say."""
    sizes = Sizes.of(plan)
    made: dict[str, tuple[str, list[str]]] = {}
    for place, text in folder.configs().items():
        before = folder.parsed(place, text)
        written = _resized(before, sizes, place)
        data = cut.config(dict(written.data), place)
        after = rewritten(text, before, data)
        if folder.parsed(place, after) != data:
            raise SpecError(f"{place} cannot be written without changing more than its sizes; correct its JSON")
        made[place] = after, written.notes
    return made


def _resized(before: Mapping[str, Any], sizes: Sizes, place: str) -> Written:
    if place.endswith("Pooling/config.json"):
        return _pooling(before, sizes, place)
    if timm_config.recognises(before):
        return timm_config.resized(before, sizes, place)
    return config.resized(before, sizes, place)


def _pooling(before: Mapping[str, Any], sizes: Sizes, place: str) -> Written:
    """How vectors of words become one of the sentence: it tells their width."""
    key = "word_embedding_dimension"
    written, old = Written(dict(before)), before.get(key)
    if isinstance(old, bool) or not isinstance(old, int):
        return written
    new = sizes.of_any(old)
    if new is not None or sizes.changes(old):
        written.data[key] = new
    if new is None and sizes.changes(old):
        written.notes.append(f"{place}: '{key}' was {old}, of which there are several now: it is null.")
    return written


def _told(folder: Folder, plan: Plan, cut: Cut) -> tuple[str, ...]:
    """What does not go along, and what goes along but may not fit."""
    weights, others = folder.left_behind()
    notes: list[str] = []
    if weights:
        notes.append(f"Not copied, for it holds weights of the old sizes: {', '.join(weights)}.")
    if others:
        notes.append(f"Left behind, for it is not known what it is: {', '.join(others)}.")
    notes += [
        f"modules.json names '{module}', whose weights are of the old width: train it again or take it out."
        for module in folder.modules()
        if any(place.startswith(f"{module}/") for place in weights) and not folder.inner.startswith(f"{module}/")
    ]
    sizes = Sizes.of(plan)
    notes += cut.notes
    if sizes.changes_role(Role.VOCAB) and not cut.ids:
        notes.append("The tokenizer's files are the source's, and the vocabulary has another size: they do not fit.")
    if sizes.changes_role(Role.POSITIONS):
        notes.append("The tokenizer's files are the source's: how long a text may be is told there as it was.")
    return tuple(notes)
