"""Options of method ``bot``, and what they come to: the preset fills in what was not given."""

from __future__ import annotations

import difflib
from typing import Literal

import pywt
from pydantic import Field, field_validator, model_validator

from bot_onnx._resample.amplitude import Convention
from bot_onnx._resample.boundary import BoundaryMode
from bot_onnx._resample.depth import LayerAxis
from bot_onnx._resample.details import Details
from bot_onnx._resample.filters import COPIES
from bot_onnx._resample.operators import Filters
from bot_onnx._resample.registry import MethodOptions

QKV = Literal["one", "apart"]
Preset = Literal["paper", "paper-gpt"]

#: Wavelets of a preset, for axes that shrink and that grow: those that the paper found for BERT and for GPT.
PAPER: dict[Preset, tuple[str, str]] = {"paper": ("haar", "bior6.8"), "paper-gpt": ("coif3", "db2")}


class BotOptions(MethodOptions):
    """Options of method ``bot``."""

    wavelet: str | None = Field(
        None,
        description="Discrete wavelet of PyWavelets along width (and along filtered layers); by default haar; "
        "axes then grow by copies of neighbours, which is haar over powers of two and exact at any other ratio too.",
    )
    preset: Preset | None = Field(
        None,
        description="'paper': the literal method: convention ortho, zero details, layers filtered too, wavelet haar "
        "where an axis shrinks and bior6.8 where it grows, as found for BERT; 'paper-gpt': coif3 and db2, as found for "
        "GPT; queries, keys and values are one matrix; what is given besides wins.",
    )
    qkv: QKV | None = Field(
        None,
        description="'one': queries, keys and values are one matrix, kept apart or not, and the axes of heads one "
        "signal each; 'apart': each by itself, and heads stay whole; by default apart, and one with a preset.",
    )
    mode: BoundaryMode = Field(
        "periodization",
        description="How a signal goes on beyond its ends, as PyWavelets calls it; results longer than the target "
        "are cropped.",
    )
    level: int | None = Field(
        None,
        ge=1,
        description="Transform levels of an axis at most, the rest of its ratio being a DCT resize; by default the "
        "log2 of the ratio.",
    )
    convention: Convention | None = Field(
        None,
        description="Amplitudes: 'ortho' as the orthonormal transform gives them, 'value' keeps the function, "
        "'std-source' and 'std-fresh' rescale each stack of weights to the source's standard deviation or a fresh "
        "initialisation's; by default ortho where an axis shrinks and value where it grows.",
    )
    layer_axis: LayerAxis = Field(
        "auto",
        description="How layers are made: even, first (shrinking); interleave, stack, identity (growing); haar, "
        "wavelet (both); auto takes even, and growing identity where there is a residual stream, else interleave.",
    )
    details: Details | None = Field(
        None,
        description="Detail bands when growing: zero, noise with the standard deviation of the weights, or 'in-band': "
        "noise that the network's function does not see; or 'shares': copies share what reads them unequally; by "
        "default in-band where the convention keeps the function, else zero.",
    )
    noise_scale: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="Standard deviation of the noise, in those of the weights; of 'shares' how unequal they are.",
    )
    fresh_readers: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Standard deviation of random weights in the layers that layer axis 'identity' adds, in place of "
        "copies; what these layers write is zero, so that the function stays.",
    )
    tie_correction: bool = Field(
        True, description="Under 'value', divide the logits' growth out of the last norm before a tied head."
    )
    head_dim_correction: bool = Field(
        True, description="Under 'value', multiply queries and keys by (d_source/d_target)^(1/4) if head_dim changes."
    )

    @field_validator("wavelet")
    @classmethod
    def _known_wavelet(cls, value: str | None) -> str | None:
        if value is None:
            return None
        known = pywt.wavelist(kind="discrete")
        name = value.strip().lower()
        if name in known:
            return name
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        families = "haar, db1-db38, sym2-sym20, coif1-coif17, bior1.1-bior6.8, rbio1.1-rbio6.8, dmey"
        raise ValueError(f"'{value}' is no discrete wavelet; {hint}There are: {families}")

    @model_validator(mode="after")
    def _in_band_keeps_values(self) -> BotOptions:
        if self.details == "in-band" and self.amplitudes not in (None, "value"):
            raise ValueError(
                f"details 'in-band' keep the function, which convention '{self.amplitudes}' does not; use convention "
                "value, or gaussian details"
            )
        return self

    @model_validator(mode="after")
    def _one_matrix_keeps_no_values(self) -> BotOptions:
        if self.qkv == "one" and self.amplitudes in (None, "value"):
            raise ValueError(
                "qkv 'one' mixes queries with keys, which keeps no function; use a preset, or convention ortho, "
                "std-source or std-fresh"
            )
        return self

    @model_validator(mode="after")
    def _shares_are_of_copies(self) -> BotOptions:
        if self.details == "shares" and not self.keeps_function:
            raise ValueError(
                "details 'shares' are of copies that keep the function; leave out the preset, the wavelet, its mode, "
                "its level and the convention"
            )
        return self

    @model_validator(mode="after")
    def _fresh_readers_do_nothing(self) -> BotOptions:
        if self.fresh_readers is None:
            return self
        if self.depth_mode not in ("auto", "identity"):
            raise ValueError(
                f"fresh_readers are of layers that do nothing, and layer axis '{self.depth_mode}' adds none; use "
                "layer axis identity"
            )
        if self.amplitudes not in (None, "value"):
            raise ValueError(
                f"fresh_readers have a deviation of their own, and convention '{self.amplitudes}' sets one; use "
                "convention value"
            )
        return self

    @property
    def amplitudes(self) -> Convention | None:
        """The convention, the preset considered."""
        return "ortho" if self.convention is None and self.preset is not None else self.convention

    @property
    def joins_qkv(self) -> bool:
        """Whether queries, keys and values are one matrix, the preset considered."""
        if self.qkv is not None:
            return self.qkv == "one"
        return self.preset is not None and self.amplitudes != "value"

    @property
    def detail_kind(self) -> Details:
        """The detail bands: without noise the copies of a channel would stay copies in all training to come."""
        if self.details is not None:
            return self.details
        return "in-band" if self.preset is None and self.convention in (None, "value") else "zero"

    @property
    def depth_mode(self) -> LayerAxis:
        """The layer axis' mode, the preset considered."""
        return "wavelet" if self.preset is not None and self.layer_axis == "auto" else self.layer_axis

    @property
    def filters(self) -> Filters:
        """The operators of the width axes, the preset considered."""
        shrinking, growing = ("haar", "haar") if self.preset is None else PAPER[self.preset]
        growing = COPIES if self.keeps_function else self.wavelet or growing
        return Filters(self.wavelet or shrinking, growing, self.mode, self.level)

    @property
    def keeps_function(self) -> bool:
        """Whether growth is by whole indices, exact at any ratio: no filter, boundary or amplitude was asked for."""
        plain = self.preset is None and self.wavelet is None and self.mode == "periodization" and self.level is None
        return plain and self.convention in (None, "value") and self.detail_kind in ("zero", "in-band", "shares")
