"""What a folder holds, and what becomes of each of its files."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bot_onnx._folders.hub import fetched, is_hub_name
from bot_onnx._onnxfile.data_files import named_files
from bot_onnx._target.reader import parse_object, read_text
from bot_onnx.errors import GraphError

CARD: Final = "README.md"
MARK: Final = "bot-onnx.json"  #: what the tool writes into its folders

_MODELS: Final = ("model.onnx", "onnx/model.onnx")
_WEIGHTS: Final = re.compile(
    r"\.(bin|safetensors|pt|pth|ckpt|h5|msgpack|ot|gguf|tflite|npz|pkl|mlmodel|onnx|ort|onnx_data(_\d+)?|data)$"
    r"|\.(bin|safetensors)\.index(\.\w+)?\.json$|^pytorch_model|^tf_model|^flax_model",
    re.IGNORECASE,
)
_KNOWN: Final = re.compile(
    r"^(tokenizer.*|vocab\..*|merges\.txt|special_tokens_map\.json|added_tokens\.json|.*\.(model|spm|tiktoken|jinja)|"
    r"(generation|preprocessor|processor|image_processor|feature_extractor|ort)_config\.json|modules\.json|"
    r"sentence_.*_config\.json|config_sentence_transformers\.json|(license|licence|notice|copying).*)$",
    re.IGNORECASE,
)
_SMALL: Final = 1 << 20  #: bytes of an unknown text that goes along
_DEEPEST: Final = 4


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder with a model in it.

    Attributes:
        path: of the folder. label: how messages and cards call it.
        model: the file in it that is resized. others: files that are resized together with it.
    """

    path: Path
    label: str
    model: Path
    others: tuple[Path, ...] = ()

    @property
    def models(self) -> tuple[Path, ...]:
        """All files that are resized."""
        return self.model, *self.others

    @property
    def shown(self) -> str:
        """How reports call the model: its path, or its place in a folder of the hub."""
        return f"{self.label}/{self.inner}" if is_hub_name(self.label) else str(self.model)

    @property
    def inner(self) -> str:
        """The model's place in the folder, with slashes."""
        return self.model.relative_to(self.path).as_posix()

    def configs(self) -> dict[str, str]:
        """Texts of the configs that tell of sizes, by their place: beside the model, at the top, of a pooling."""
        found = {"config.json", (Path(self.inner).parent / "config.json").as_posix()}
        found |= {place for place in self.files() if re.fullmatch(r"[^/]*Pooling/config\.json", place)}
        return {place: read_text(self.path / place) for place in sorted(found) if (self.path / place).is_file()}

    def parsed(self, place: str, text: str) -> dict[str, Any]:
        """What a config says.

        Raises:
            SpecError: it is no JSON object.
        """
        return parse_object(text, place)

    def card(self) -> str:
        """The text of the source's card, or empty."""
        path = self.path / CARD
        return read_text(path) if path.is_file() else ""

    def modules(self) -> list[str]:
        """Folders of the modules that a sentence encoder is made of, as ``modules.json`` lists them."""
        path = self.path / "modules.json"
        try:
            told = json.loads(read_text(path)) if path.is_file() else []
        except (ValueError, RecursionError):
            return []
        entries = told if isinstance(told, list) else []
        paths = [entry.get("path") for entry in entries if isinstance(entry, dict)]
        return [path for path in paths if isinstance(path, str) and path]

    def files(self) -> list[str]:
        """Places of everything in the folder, sorted; folders that are links, or lie deep, end with a slash."""
        return sorted(_walk(self.path, "", 0))

    def copied(self) -> list[str]:
        """Places of the files that go along as they are."""
        own = {*self._models(), CARD, MARK, *self.configs(), *self._data()}
        return [place for place in self.files() if place not in own and self._goes_along(place)]

    def left_behind(self) -> tuple[list[str], list[str]]:
        """Places of files that do not go along: weights, which would have the old sizes, and others."""
        own = {*self._models(), CARD, MARK, *self.configs(), *self._data(), *self.copied()}
        left = [place for place in self.files() if place not in own]
        return [place for place in left if _is_weights(place)], [place for place in left if not _is_weights(place)]

    def _data(self) -> set[str]:
        """Places of the files that hold the models' own weights."""
        files = [model.parent / file.name for model in self.models for file in named_files(model)]
        return {file.relative_to(self.path).as_posix() for file in files}

    def _models(self) -> set[str]:
        return {model.relative_to(self.path).as_posix() for model in self.models}

    def _goes_along(self, place: str) -> bool:
        name = place.rsplit("/", 1)[-1]
        if place.endswith("/") or name.startswith(".") or _is_weights(place):
            return False
        if not stat.S_ISREG((self.path / place).stat().st_mode):
            return False
        return _KNOWN.match(name) is not None or _is_small_text(self.path / place)


def find_folder(model: Any, file: str | None = None, *, together: bool = False) -> Folder | None:
    """The folder that a model was given as: a path of one, or ``hf://organisation/name``.

    Args:
        model: whatever a model may be given as. file: place of the model in the folder, where there are several.
        together: take all of them.

    Returns:
        The folder; None where it is something else.

    Raises:
        GraphError: no model in it, or several, or ``file`` is none of its files or was given without a folder.
    """
    if isinstance(model, str | os.PathLike):
        name = os.fspath(model)
        if is_hub_name(name):
            label, path = fetched(name)
            return Folder(path, label, *_models_in(path, label, file, together))
        if "\0" not in name and os.path.isdir(name):
            path = Path(name)
            return Folder(path, path.resolve().name, *_models_in(path, str(path), file, together))
    if file is not None:
        raise GraphError(f"'{file}' is to be taken out of a folder, but no folder is given: give it, or the file alone")
    return None


def holds_several(model: str | os.PathLike[str]) -> bool:
    """Whether a folder, here or on the hub, holds several models."""
    try:
        folder = find_folder(model, together=True)
    except GraphError:  # it is told where the folder is opened
        return False
    return folder is not None and len(folder.models) > 1


def _places(folder: Path) -> list[str]:
    return [place for place in sorted(_walk(folder, "", 0)) if place.lower().endswith(".onnx")]


def _models_in(folder: Path, label: str, file: str | None, together: bool) -> tuple[Path, tuple[Path, ...]]:
    found = _places(folder)
    if together and len(found) > 1:
        first, *others = (folder / place for place in found)
        return first, tuple(others)
    return _model_in(folder, label, file, found), ()


def _model_in(folder: Path, label: str, file: str | None, found: list[str]) -> Path:
    if file is not None:
        place = Path(file).as_posix()
        if place not in found:
            raise GraphError(
                f"{label} has no '{file}'; .onnx files in it: {', '.join(found) or 'none'}", alternatives=found
            )
        return folder / place
    if not found:
        raise GraphError(
            f"{label} is a folder without an .onnx file: export the model into it first ({' or '.join(_MODELS)}), or "
            "give the file"
        )
    if len(found) > 1:
        raise GraphError(
            f"{label} has several .onnx files ({', '.join(found)}): say which with --file (file=), for example "
            f"--file {next((place for place in _MODELS if place in found), found[0])}",
            alternatives=found,
        )
    return folder / found[0]


def _walk(folder: Path, inside: str, depth: int) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise GraphError(f"{folder} cannot be read ({error.strerror}); check its permissions") from error
    for entry in entries:
        place = f"{inside}{entry.name}"
        if not entry.is_dir():
            if entry.is_file() or not entry.is_symlink():  # a link to nothing has nothing to lose
                yield place
        elif entry.is_symlink() or depth == _DEEPEST or entry.name.startswith("."):
            yield f"{place}/"
        else:
            yield from _walk(Path(entry.path), f"{place}/", depth + 1)


def _is_weights(place: str) -> bool:
    return not place.endswith("/") and _WEIGHTS.search(place.rsplit("/", 1)[-1]) is not None


def _is_small_text(path: Path) -> bool:
    if path.stat().st_size > _SMALL:
        return False
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in content
