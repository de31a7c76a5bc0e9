"""Reading what the student learns from: whatever the paths name, or samples that a program gives."""

from __future__ import annotations

import glob
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, cast

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._recover.dataset import Dataset
from bot_onnx._recover.gathered import Makers, gather
from bot_onnx._recover.images import DEVIATION, MEAN, Preparing, find_images, read_images
from bot_onnx._recover.records import Record, is_table, records_of
from bot_onnx._recover.sounds import find_sounds, read_sounds
from bot_onnx._recover.text import TOKENIZER, read_text
from bot_onnx._runs.sample_arrays import read_samples
from bot_onnx.errors import RecoverError

_MASK = "attention_mask"
PREPROCESSOR = "preprocessor_config.json"  #: what it is called beside a model
_GIVE = "give a folder of images, a text file or an .npz file"
#: Samples of a program: an object of fields each, or a text; or what gives them when it is called.
Samples = Iterable[Mapping[str, Any] | str]
DataLike = str | PathLike[str] | Sequence[str | PathLike[str]] | Samples | Callable[[], Samples]


@dataclass(frozen=True, slots=True)
class DataOptions:
    """How data are read.

    Attributes:
        tokenizer: a ``tokenizer.json``; None: that beside one of the models.
        length: most tokens a line of text.
        image_size: side of images where the model leaves it open.
        mean, deviation: of pixels between 0 and 1, per channel or one for all.
        field: of objects (JSON, tables): the one with the text or the image; None: the only one that may be.
        preprocessor: a ``preprocessor_config.json``; None: that beside one of the models.
        seconds: of sounds, most a sample.
    """

    tokenizer: Path | None = None
    length: int = 64
    image_size: int | None = None
    mean: tuple[float, ...] = MEAN
    deviation: tuple[float, ...] = DEVIATION
    field: str | None = None
    preprocessor: Path | None = None
    seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where samples come from.

    Attributes:
        paths: files and folders. given: samples of a program, where there are no paths.
    """

    paths: tuple[Path, ...] = ()
    given: Samples | Callable[[], Samples] | None = None

    @classmethod
    def of(cls, data: DataLike | Origin) -> Origin:
        """What may be given as data: a path, several, patterns of paths (``text-*.txt``), or samples.

        Raises:
            RecoverError: there is no such file, or a pattern has none.
        """
        if isinstance(data, Origin):
            return data
        if isinstance(data, str | PathLike):
            return cls(tuple(_matching(data)))
        if isinstance(data, list | tuple) and data and all(isinstance(one, str | PathLike) for one in data):
            return cls(tuple(path for one in data for path in _matching(one)))
        if callable(data) or isinstance(data, Iterable):
            return cls(given=cast("Samples | Callable[[], Samples]", data))
        raise RecoverError(f"{type(data).__name__} is no data: give paths, or samples (objects of fields) one by one")

    @property
    def label(self) -> str:
        """How notes and messages call it; empty where there are no paths."""
        if not self.paths:
            return ""
        return self.paths[0].name + (f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else "")

    def files(self) -> list[Path]:
        """Files that no output may replace."""
        return [path for path in self.paths if path.is_file()]

    def holds(self, path: Path) -> bool:
        """Whether a file lies in a folder of it."""
        return any(path.resolve().is_relative_to(one.resolve()) for one in self.paths)

    def records(self) -> Iterator[Record]:
        """All samples, one after the other."""
        if self.paths:
            yield from records_of(self.paths)
            return
        given = self.given() if callable(self.given) else self.given
        for number, sample in enumerate(given or ()):
            if not isinstance(sample, Mapping | str):
                raise RecoverError(
                    f"sample {number} is {type(sample).__name__}: give an object of fields (an array per input), or a "
                    "text"
                )
            yield sample, f"sample {number}"


def _matching(given: str | PathLike[str]) -> list[Path]:
    path = Path(given)
    if path.exists():
        return [path]
    found = sorted(glob.glob(fspath(given), recursive=True)) if glob.has_magic(fspath(given)) else []
    if not found:
        raise RecoverError(f"there is no data at {path}: {_GIVE}")
    return list(map(Path, found))


def read_data(
    data: DataLike | Origin,
    specs: Sequence[InputSpec],
    options: DataOptions,
    beside: Sequence[Path],
    rows: Mapping[str, int],
) -> Dataset:
    """Read inputs for a model.

    Args:
        data: see :meth:`Origin.of`; what they are, :class:`_Reading` tells by their names and contents.
        specs: inputs of the model.
        options: of the reading.
        beside: the models, beside which a tokenizer or a preprocessor's config may lie.
        rows: number of rows of the table that an input addresses, by input.

    Raises:
        RecoverError, DataError: there is nothing there, or it does not suit the model.
        MissingRuntimeError: a library is needed to read it.
    """
    return _Reading(Origin.of(data), specs, options, beside, rows).dataset()


@dataclass(frozen=True, slots=True)
class _Reading:
    origin: Origin
    specs: Sequence[InputSpec]
    options: DataOptions
    beside: Sequence[Path]
    rows: Mapping[str, int]

    def dataset(self) -> Dataset:
        paths, label = self.origin.paths, self.origin.label
        for given in (*paths, self.options.tokenizer, self.options.preprocessor):
            if given is not None and given.exists() and not (given.is_file() or given.is_dir()):
                raise RecoverError(f"{given} is no regular file: pipes and devices are not read")
        folders = [path for path in paths if path.is_dir() and not is_table(path)]
        if folders:
            return self._folders(folders)
        archives = [path for path in paths if path.is_file() and zipfile.is_zipfile(path)]
        if archives:
            if len(paths) > 1:
                raise RecoverError(f"{archives[0]} is one of several: join the arrays of .npz files in one")
            return self._arrays(archives[0])
        makers = Makers(self._texts, self._pictures)
        return gather(self.origin.records(), self.specs, self.options.field, makers, self.rows, label)

    def _folders(self, folders: list[Path]) -> Dataset:
        odd = next((path for path in self.origin.paths if path not in folders), None)
        images, sounds = find_images(folders), find_sounds(folders)
        if odd is not None or (images and sounds):
            told = f"{odd} beside a folder" if odd is not None else "images beside sounds"
            raise RecoverError(f"{told}: give samples of one kind")
        if sounds:
            preprocessor = self._found(self.options.preprocessor, PREPROCESSOR)
            return read_sounds(sounds, self.specs, preprocessor, self.options.seconds, self.origin.label)
        return self._pictures((path, str(path)) for path in images)

    def _pictures(self, given: Iterable[tuple[Any, str]]) -> Dataset:
        options = self.options
        preprocessor = self._found(options.preprocessor, PREPROCESSOR)
        way = Preparing.of(self.specs, options.image_size, options.mean, options.deviation, preprocessor)
        return read_images(given, self.specs, way, self.origin.label)

    def _texts(self, lines: Iterable[tuple[str, str]]) -> Dataset:
        tokenizer = self._found(self.options.tokenizer, TOKENIZER)
        if tokenizer is None:
            raise RecoverError(f"a text needs the model's tokenizer: name its {TOKENIZER} with --tokenizer")
        rows = self.rows.get("input_ids")
        return read_text(lines, self.specs, tokenizer, self.options.length, rows, self.origin.label)

    def _found(self, named: Path | None, name: str) -> Path | None:
        """A file that was named, or that lies beside one of the models."""
        if named is not None:
            return named
        return next((place for model in self.beside if (place := model.resolve().parent / name).is_file()), None)

    def _arrays(self, path: Path) -> Dataset:
        """Arrays named as the inputs, samples along axis 0; an input without axes is the same for all samples."""
        samples = read_samples(path, self.specs, self.rows)
        mask = _MASK if _MASK in samples.arrays and samples.arrays[_MASK].ndim == 2 else None
        return Dataset(samples.arrays, samples.constant, mask=mask, notes=samples.notes)
