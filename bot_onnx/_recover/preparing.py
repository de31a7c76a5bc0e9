"""How an image becomes what a vision model takes: by a model's ``preprocessor_config.json``, or as most models do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx.errors import RecoverError

#: Of ImageNet, as most vision models are trained: means and deviations of red, green and blue between 0 and 1.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CHANNELS: Final = (1, 3)
_BICUBIC: Final = 3  #: Pillow's number of it
_MOST_FILTER: Final = 5
#: Steps that are known, with what they do where a config does not say; of others only that they are off.
_STEPS: Final = {
    "do_resize": True, "do_center_crop": False, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
    "do_flip_channel_order": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resize:
    """How the sides change.

    Attributes:
        kind: ``cover``: until both sides are at least those of ``size``; ``exact``: to ``size``; ``shortest``: the
            shorter side to the first number, the longer at most to the second, where it is not 0; ``none``.
        size: (height, width), or see there.
    """

    kind: Literal["cover", "exact", "shortest", "none"]
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Preparing:
    """What is done to an image.

    Attributes:
        spec: the model's input. channel: its axis of channels.
        size: (height, width) that the model takes.
        resize: first; then ``crop`` (height, width) is cut out of the middle. resample: Pillow's number of the filter.
        scale: that pixels are multiplied with; None: they stay. mean, deviation: of what comes out; None: they stay.
        flip: blue comes first.
        place: of the config that says so; None: nobody does.
    """

    spec: InputSpec
    channel: int
    size: tuple[int, int]
    resize: Resize
    crop: tuple[int, int] | None
    resample: int = _BICUBIC
    scale: float | None = 1 / 255
    mean: tuple[float, ...] | None = MEAN
    deviation: tuple[float, ...] | None = DEVIATION
    flip: bool = False
    place: Path | None = None

    @property
    def grey(self) -> bool:
        """Whether the model takes one channel."""
        return self.spec.shape[self.channel] == 1

    def told(self) -> dict[str, Any]:
        """For the metadata of what learns from it."""
        told: dict[str, Any] = {"pixels": [list(self.mean or ()), list(self.deviation or ())]}
        if self.place is not None:
            told["preparing"] = [self.resize.kind, *self.resize.size, self.crop, self.resample, self.scale, self.flip]
        return told

    @classmethod
    def of(
        cls,
        specs: Sequence[InputSpec],
        side: int | None,
        mean: tuple[float, ...],
        deviation: tuple[float, ...],
        config: Path | None,
    ) -> Preparing:
        """Find out what to do.

        Args:
            specs: inputs of the model; one of four axes, ``[batch, channels, height, width]`` or channels last.
            side: of the images, where the model leaves it open.
            mean, deviation: per channel, or one for all; other numbers than ImageNet's go before a config's.
            config: a ``preprocessor_config.json``, or None.

        Raises:
            RecoverError: the model takes something else, or the config asks for what is not known or does not fit.
        """
        if len(specs) != 1 or len(specs[0].shape) != 4:
            told = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in specs)
            raise RecoverError(f"images go into one input of four axes, and the model takes {told}; give an .npz file")
        spec = specs[0]
        channel = next((axis for axis in (1, 3) if spec.shape[axis] in _CHANNELS), None)
        if channel is None:
            raise RecoverError(
                f"input {spec.name!r} {list(spec.shape)} has no axis of 1 or 3 channels; give an .npz file"
            )
        sides = [spec.shape[axis] for axis in (1, 2, 3) if axis != channel]
        given = _Config.read(config) if config is not None else None
        made = given.result() if given is not None and side is None else None
        height, width = (
            known if isinstance(known, int) else side or (made[place] if made is not None else None)
            for place, known in enumerate(sides)
        )
        if height is None or width is None:
            raise RecoverError(f"input {spec.name!r} takes images of any size: say which with --image-size")
        size, own = (height, width), (mean, deviation) != (MEAN, DEVIATION)
        count = 1 if spec.shape[channel] == 1 else 3
        if given is None:
            mean, deviation = ((0.5,), (0.5,)) if count == 1 and not own else (mean, deviation)
            way = cls(spec, channel, size, Resize("cover", size), size, mean=mean, deviation=deviation)
        else:
            way = given.way(spec, channel, size, (mean, deviation) if own else None)
        for values in (way.mean or (0.0,), way.deviation or (1.0,)):
            if len(values) not in (1, count) or (values is way.deviation and min(values) <= 0):
                raise RecoverError(f"--mean and --std take one number or {count}, and deviations above 0")
        return way


@dataclass(frozen=True, slots=True)
class _Config:
    path: Path
    told: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> _Config:
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RecoverError(f"{path} cannot be read ({error}): give the model's preprocessor_config.json") from error
        if not isinstance(told, dict):
            raise RecoverError(f"{path} is no object: give the model's preprocessor_config.json")
        odd = next((key for key, value in told.items() if key.startswith("do_") and value and key not in _STEPS), None)
        if odd is not None:
            raise cls(path, told)._refusal(f"asks for '{odd}', which is not known")
        return cls(path, told)

    def _refusal(self, what: str) -> RecoverError:
        return RecoverError(f"{self.path} {what}: make the inputs with the model's own processor, as an .npz file")

    def _does(self, step: str) -> bool:
        told = self.told.get(step)
        return _STEPS[step] if told is None else bool(told)

    def result(self) -> tuple[int, int] | None:
        """(height, width) of what comes out, where the config says it."""
        if self._does("do_center_crop"):
            return self._pair("crop_size")
        resize = self._resize()
        return resize.size if resize.kind == "exact" else None

    def way(
        self,
        spec: InputSpec,
        channel: int,
        size: tuple[int, int],
        own: tuple[tuple[float, ...], tuple[float, ...]] | None,
    ) -> Preparing:
        """What it says.

        Raises:
            RecoverError: images come out in another size than the model takes.
        """
        resize, crop = self._resize(), self._pair("crop_size") if self._does("do_center_crop") else None
        made = crop or (resize.size if resize.kind == "exact" else None)
        if made != size and not (made is None and resize.kind == "none"):
            told = "of any" if made is None else f"{made[0]} x {made[1]}"
            raise RecoverError(
                f"{self.path} makes images {told}, and the model takes {size[0]} x {size[1]}: give the config of this "
                "model, or --image-size where it takes any"
            )
        resample = self.told.get("resample", _BICUBIC if resize.kind == "shortest" else 2)
        if not isinstance(resample, int) or not 0 <= resample <= _MOST_FILTER:
            raise self._refusal(f"has the filter (resample) {resample!r:.40}")
        factor = self.told.get("rescale_factor", 1 / 255)
        mean, deviation = own or (self._numbers("image_mean", MEAN), self._numbers("image_std", DEVIATION))
        normal, flip = self._does("do_normalize"), self._does("do_flip_channel_order")
        return Preparing(
            spec, channel, size, resize, crop, resample,
            float(factor) if self._does("do_rescale") else None,
            mean if normal else None, deviation if normal else None, flip, self.path,
        )  # fmt: skip

    def _resize(self) -> Resize:
        if not self._does("do_resize"):
            return Resize("none")
        told = self.told.get("size")
        if isinstance(told, int) and not self._does("do_center_crop") and self.told.get("crop_pct") is None:
            return Resize("exact", (told, told))
        if isinstance(told, Mapping) and self.told.get("crop_pct") is None:
            numbers = {key: value for key, value in told.items() if isinstance(value, int) and value > 0}
            if numbers.keys() == {"height", "width"}:
                return Resize("exact", (numbers["height"], numbers["width"]))
            if "shortest_edge" in numbers and numbers.keys() <= {"shortest_edge", "longest_edge"}:
                return Resize("shortest", (numbers["shortest_edge"], numbers.get("longest_edge", 0)))
        raise self._refusal(
            f"has the size {told!r:.60}"
            + (" and a crop_pct" if self.told.get("crop_pct") is not None else "")
            + ', of which it is not known what it means; {"height", "width"} and {"shortest_edge"} are'
        )

    def _pair(self, key: str) -> tuple[int, int]:
        told = self.told.get(key)
        if isinstance(told, int) and not isinstance(told, bool):
            return told, told
        if isinstance(told, Mapping) and all(isinstance(told.get(side), int) for side in ("height", "width")):
            return told["height"], told["width"]
        raise self._refusal(f"has the {key} {told!r:.60}")

    def _numbers(self, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
        told = self.told.get(key, list(default))
        values = told if isinstance(told, list) else [told]
        if not values or not all(isinstance(value, int | float) for value in values):
            raise self._refusal(f"has the {key} {told!r:.60}")
        return tuple(map(float, values))
