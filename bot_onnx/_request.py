"""What is asked of a resize, once for the command line and for Python: a frozen value, cheap to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bot_onnx._names import AlignKind, DeviceName, MethodName
from bot_onnx._shards import ExternalLike, as_external

if TYPE_CHECKING:
    from bot_onnx._target import TargetSpec

    SpecLike = TargetSpec | Mapping[str, Any] | str | PathLike[str]

PathOrName = str | PathLike[str]
InputsLike = Mapping[str, Any] | PathOrName  #: arrays by input, or an ``.npz`` file of them


def _cli(flag: str, told: str) -> dict[str, str]:
    """Of a field that the command line has as well: under ``flag``, with ``told`` for its help."""
    return {"flag": flag, "help": told}


@dataclass(frozen=True, slots=True)
class Learning:
    """A training of the operators of a resize, before they make its weights (``docs/learn.md``).

    Attributes:
        steps: number of updates.
        data: a folder of images, a text file, or an ``.npz`` file with an array per input. No labels are needed.
        rate: largest learning rate. batch: samples an update.
        mix: mix the weight matrices of a layer among one another, too (Mango).
        held_out: part of the samples that is left alone.
        reading: how the data are read: the fields of :class:`bot_onnx._recover.data.DataOptions`.
    """

    RATE: ClassVar[float] = 1e-2

    steps: int
    data: PathOrName
    rate: float = RATE
    batch: int = 32
    mix: bool = False
    held_out: float = 0.1
    reading: Mapping[str, Any] | None = None

    def files(self) -> list[Path]:
        """Files that it names and that exist."""
        reading = self.reading or {}
        given = (self.data, reading.get("tokenizer"), reading.get("preprocessor"))
        return [Path(name) for name in given if isinstance(name, str | PathLike) and Path(name).is_file()]


@dataclass(frozen=True, slots=True, repr=False)
class ResizeRequest:
    """What is asked of a resize. Use ``dataclasses.replace`` for another one like it.

    Attributes:
        spec: the target: a :class:`TargetSpec`, a mapping with its keys, a path (ours or a HuggingFace
            ``config.json``), or the name of a published one.
        method: name of a resampling method. options: its options.
        seed: of what the method draws at random.
        align: make the source's tensors resample better, without changing its function, before the method sees them;
            None: as the method likes it.
        calibration: an ``.npz`` file with an array per input of the source, samples along the first axis: method
            ``bot`` then chooses layers by their influence on them, takes the basis of ``rotate`` from the stream on
            them, and chooses channels that are not turned by their activations; ``keep`` and ``refit`` of a spec look
            at them, too.
        external: store the weights beside the model; None: as the source does; a text such as ``2GB``: in several
            files, of at most that size.
        unproven: go on where the sizes cannot be proven right; the plan and the file say so.
        inputs: what to run the models on: arrays by input, or an ``.npz`` file of them; None: as the model was opened.
        input_shapes: shapes by input; what is fed is made up, or repeated from ``inputs``; None: likewise.
        device: where the weights are computed.
        allow_nonfinite: accept NaN and infinite weights.
        against: also compare the outputs with the source's; those that the plan promises to keep must agree.
        requantize: quantise the result in the scheme of the source, which must be a quantised one; otherwise a
            quantised source gives floats. Calibrated activation scales stay where they hold at the new sizes.
        learn: train the method's operators before they make the weights: :class:`Learning`, or a mapping with its
            fields; None: they are the method's own.
    """

    spec: TargetSpec | Mapping[str, Any] | PathOrName
    method: MethodName | str = "bot"
    options: Mapping[str, Any] | None = None
    seed: int = field(default=0, metadata=_cli("--seed", "Of methods that draw random numbers."))
    align: AlignKind | None = field(
        default=None,
        metadata=_cli(
            "--align",
            "Reorder or turn the source first, without changing what it computes; default: as the method likes it.",
        ),
    )
    calibration: PathOrName | None = field(
        default=None,
        metadata=_cli(
            "--calibration",
            "Samples (an array per input) of what the network will see: which layers and channels matter, in which "
            "basis hidden is cut (--align rotate), --keep activation or taylor, --refit what makes up for what goes.",
        ),
    )
    external: ExternalLike | None = None
    unproven: bool = field(
        default=False, metadata=_cli("--unproven", "Go on where the sizes cannot be proven right; the file says so.")
    )
    inputs: InputsLike | None = None
    input_shapes: Mapping[str, Sequence[int]] | None = None
    device: DeviceName = field(default="auto", metadata=_cli("--device", "Where the weights are computed."))
    allow_nonfinite: bool = field(
        default=False, metadata=_cli("--allow-nonfinite", "Accept a source with NaN or infinite weights.")
    )
    against: bool = field(default=True, metadata=_cli("--no-compare", "Do not compare the outputs with the source's."))
    requantize: bool = field(
        default=False, metadata=_cli("--requantize", "Quantise the result as the source is; else it has float weights.")
    )

    learn: Learning | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        as_external(self.external)  # a text that is none is refused here, not after the analysis
        if isinstance(self.learn, Mapping):
            object.__setattr__(self, "learn", Learning(**self.learn))
        if self.options is not None:
            object.__setattr__(self, "options", dict(self.options))  # what the caller does to its own is no concern

    def target(self) -> TargetSpec:
        """The spec, read.

        Raises:
            SpecError: no such file or name, an unknown key, or a value that is no size.
        """
        from bot_onnx._target import TargetSpec

        if isinstance(self.spec, TargetSpec):
            return self.spec
        if isinstance(self.spec, Mapping):
            return TargetSpec.parse(self.spec)
        return TargetSpec.load(str(self.spec))

    def files(self) -> list[Path]:
        """Files that it names and that exist: no output may replace them."""
        given = (self.spec, self.calibration, self.inputs)
        found = [Path(name) for name in given if isinstance(name, str | PathLike) and Path(name).is_file()]
        return found + (self.learning.files() if self.learning is not None else [])

    @property
    def learning(self) -> Learning | None:
        """The training of the operators."""
        assert not isinstance(self.learn, Mapping)
        return self.learn

    def __repr__(self) -> str:
        """The spec, and what is not as it is by default."""
        told = [repr(self.spec)]
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.default is not MISSING and value != entry.default and value != {}:
                told.append(f"{entry.name}={'…' if entry.name == 'inputs' else repr(value)}")
        return f"ResizeRequest({', '.join(told)})"


@dataclass(frozen=True, slots=True)
class LeftOpen:
    """What a saved plan leaves open, of a :class:`ResizeRequest`, whose fields these are.

    Attributes:
        calibration: the samples that the plan was made with, where it was.
        external: None: as the plan does.
        unproven: take a factor or an epsilon that was changed in the plan as it is; nothing is promised then.
        inputs, input_shapes, device, allow_nonfinite, against: as of any request.
    """

    calibration: PathOrName | None = None
    external: ExternalLike | None = None
    unproven: bool = False
    inputs: InputsLike | None = None
    input_shapes: Mapping[str, Sequence[int]] | None = None
    device: DeviceName = "auto"
    allow_nonfinite: bool = False
    against: bool = True

    @classmethod
    def of(cls, request: ResizeRequest) -> LeftOpen:
        """That part of a request."""
        return cls(**{entry.name: getattr(request, entry.name) for entry in fields(cls)})
