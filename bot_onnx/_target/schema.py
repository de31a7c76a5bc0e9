"""The target spec: what the resized model shall be, as a frozen and strict pydantic model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    Tag,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from bot_onnx._structure import SPEC_ROLES, Role
from bot_onnx._target import formula, huggingface, library
from bot_onnx._target.keep import (
    MAX_LAYERS,
    Criterion,
    KeptLayers,
    KeptTokens,
    LayersBy,
    Refit,
    check_kept_layers,
    check_kept_tokens,
    names_kept_layers,
)
from bot_onnx._target.messages import BY_CHAIN, ONE_SIZE, explain, suggested, suggestion
from bot_onnx._target.reader import parse_object, read_text
from bot_onnx.errors import SpecError

#: No dim of a real network is larger; the bound keeps products of sizes far from int64's end.
MAX_SIZE = 2**31 - 1

Size = Annotated[int, Field(strict=True, gt=0, le=MAX_SIZE)]
RoleKey = Literal["hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab", "positions"]
Layers = Size | list[Size] | KeptLayers | dict[str, Size | KeptLayers]


def _layer_count(value: object, place: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{place}must be a whole number, not {value!r:.80}")
    if not 0 < value <= MAX_LAYERS:
        raise ValueError(f"{place}must be above 0 and at most {MAX_LAYERS} (the ceiling for layers), not {value!r:.80}")


def _check_layers(value: object) -> object:
    """Check all forms by hand: pydantic's union errors would name all of them at once."""
    if isinstance(value, KeptLayers):
        return value
    if isinstance(value, list | dict):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        if not value:
            raise ValueError("is empty; give a number, a list in graph order or an object by chain name")
        if names_kept_layers(value):
            check_kept_layers(value, "")
            return value
        for key, count in items:
            place = f"entry '{key}' " if isinstance(value, dict) else f"entry {key} "
            if isinstance(value, dict) and names_kept_layers(count):
                check_kept_layers(count, place)
            else:
                _layer_count(count, place)
    elif value is not None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(
                f"must be a whole number, a list of them in graph order, or an object by chain name, not {value!r:.80}"
            )
        _layer_count(value, "")
    return value


def _check_vocab(value: object) -> object:
    """Check a list of tokens by hand: there may be a hundred thousand, and pydantic's errors would name each."""
    if isinstance(value, Mapping):
        check_kept_tokens(value)
    return value


def _form(value: object) -> str:
    """Which form of a size a value has; the names are left out of messages."""
    return BY_CHAIN if isinstance(value, Mapping) else ONE_SIZE


def _vocab_form(value: object) -> str:
    return BY_CHAIN if isinstance(value, Mapping | KeptTokens) else ONE_SIZE


def _check_constants(value: object) -> object:
    """Check that every constant is a finite number or a readable formula."""
    if not isinstance(value, dict):
        raise ValueError('must be an object of node names, such as {"/encoder/Div": "1/sqrt(head_dim)"}')
    for node, constant in value.items():
        if isinstance(constant, str):
            try:
                formula.parse(constant)
            except SpecError as error:
                raise ValueError(f"node '{node}': {error}") from error
        elif isinstance(constant, bool) or not isinstance(constant, int | float) or not math.isfinite(constant):
            raise ValueError(f"node '{node}' needs a formula or a finite number, not {constant!r:.80}")
    return value


#: How many rows the token embedding has, or which.
Vocab = Annotated[
    Annotated[Annotated[Size, Tag(ONE_SIZE)] | Annotated[KeptTokens, Tag(BY_CHAIN)], Discriminator(_vocab_form)] | None,
    BeforeValidator(_check_vocab),
]

#: A size for all chains of layers, or one each by chain name (two towers).
Sizes = (
    Annotated[
        Annotated[Size, Tag(ONE_SIZE)] | Annotated[dict[str, Size], Field(min_length=1), Tag(BY_CHAIN)],
        Discriminator(_form),
    ]
    | None
)


class Reference(BaseModel):
    """Facts about a published architecture that resizing does not need: informational only, never applied.

    A spec can so be used on a model with another vocabulary or image size than the publication's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str | None = Field(default=None, description="Where the architecture was published.")
    image: Size | None = Field(default=None, description="Image height and width in pixels.")
    patch: Size | None = Field(default=None, description="Patch height and width in pixels.")
    sequence: Size | None = Field(default=None, description="Sequence length in tokens that it was trained with.")
    vocab: Size | None = Field(default=None, description="Rows of the token embedding.")
    positions: Size | None = Field(default=None, description="Rows of the position table.")


class TargetSpec(BaseModel):
    """Target sizes of a model; every key left out is derived from the source model.

    Sizes are numbers of indices, all above 0. See :func:`bot_onnx._target.solve` for how missing keys are derived.

    Raises:
        SpecError: from every way of construction (constructor, :meth:`parse`, ``model_validate``), with one message
            that names the key, its place and a way out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", title="bot-onnx target spec")

    name: Annotated[str, Field(min_length=1)] | None = Field(default=None, description="Name of the spec, for reports.")
    layers: Annotated[Layers | None, BeforeValidator(_check_layers)] = Field(
        default=None,
        description="Number of layers: one number, a list in graph order, or an object by chain name. In place of a "
        'number, {"keep": [0, 2, 5]} says which layers stay, {"repeat": [[0, 8], [4, 12]]} which runs follow.',
    )
    layers_by: LayersBy | None = Field(
        default=None,
        description="How the layers that stay are chosen where 'layers' is a number: 'even', or 'influence' on "
        "calibration samples; left out: as the method does it, and bot by 'influence' where there are samples.",
    )
    hidden: Sizes = Field(default=None, description="Width of the residual stream.")
    heads: Sizes = Field(default=None, description="Query heads of attention.")
    kv_heads: Sizes = Field(default=None, description="Key and value heads of attention (grouped queries).")
    head_dim: Sizes = Field(default=None, description="Channels of one head.")
    intermediate: Sizes = Field(default=None, description="Channels between the two matrices of an MLP.")
    vocab: Vocab = Field(
        default=None,
        description="Rows of the token embedding and width of the logits: a number (the first ones), or "
        '{"keep": [0, 5, 7]}: the ids of the tokens that stay.',
    )
    positions: Size | None = Field(default=None, description="Rows of the position table.")
    width: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Factor on every free dim that no other key sets: channels of convolutions, hidden, heads, "
        "intermediate (not head_dim, vocab, positions).",
    )
    round_to: Size | None = Field(default=None, description="Multiple that derived channel counts are rounded to.")
    dims: dict[str, Size] = Field(default_factory=dict, description="Size by dim name or id as inspect prints them.")
    constants: Annotated[dict[str, float | str], BeforeValidator(_check_constants)] = Field(
        default_factory=dict,
        description="Value by node name, for constants that no known formula explains: a number or a formula of "
        "dim names such as '1/sqrt(head_dim*3)'.",
    )
    keep: Criterion | None = Field(
        default=None,
        description="What heads, neurons and channels are worth where some are chosen: 'energy', 'magnitude', or "
        "'activation' and 'taylor' (gradients) on calibration samples; left out: 'energy', for heads and neurons, or "
        "'activation' where there are samples and no stream is turned.",
    )
    refit: Refit | None = Field(
        default=None,
        description="What makes up for the heads, neurons and channels that go, on calibration samples: 'bias' (the "
        "biases of what reads them take their mean), or 'readers' (its weights are fitted to what stays).",
    )
    soft: tuple[RoleKey, ...] = Field(
        default=(),
        description="Keys that are skipped with a note, instead of refused, where the graph has no such dim, or "
        "'dims' gives it another size.",
    )
    reference: Reference | None = Field(
        default=None, description="Facts about a published architecture; never applied."
    )

    @model_validator(mode="wrap")
    @classmethod
    def _one_message(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        where = (info.context or {}).get("where", "spec")
        try:
            return handler(data)
        except ValidationError as error:
            nested = {"reference": tuple(Reference.model_fields)}
            raise SpecError(explain(error, where, tuple(cls.model_fields), nested)) from error

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str = "spec") -> Self:
        """Make a spec from plain JSON data: ours, or a HuggingFace config (recognised by its keys).

        Args:
            data: the object.
            where: file or name it came from, for messages.

        Raises:
            SpecError: an unknown key, or a value that is no size.
        """
        if huggingface.recognises(data, tuple(cls.model_fields)):
            data = huggingface.convert(data, where)
        return cls.model_validate(dict(data), context={"where": where})

    @classmethod
    def load(cls, source: str | Path) -> Self:
        """Load a spec by the name of a published one, from a JSON file, or from a HuggingFace config.

        A published name always means that spec; write ``./bert-s`` for a file of the same name. A folder stands for
        the ``config.json`` in it.

        Raises:
            SpecError: no such file or name, invalid JSON (with line and column), or a value that is refused.
        """
        if isinstance(source, str) and source in library.names():
            return cls.parse(library.read(source), where=source)
        path = Path(source)
        if path.is_dir() and (path / "config.json").is_file():
            path = path / "config.json"
        if not path.exists():
            known = library.names()
            raise SpecError(
                f"spec '{source}': no such file, and no published spec has this name"
                f"{suggestion(str(source), known) or '.'} Published: {', '.join(known)}",
                alternatives=suggested(str(source), known),
            )
        return cls.parse(parse_object(read_text(path), str(path)), where=str(path))

    def merge(self, flags: Mapping[str, Any], where: str = "command line") -> Self:
        """Return this spec with other values put over it.

        ``dims`` and ``constants`` are merged entry by entry, all other keys are replaced. A soft key that was only
        derived from a key replaced here (a config's ``head_dim`` = hidden / heads) is dropped, to be derived anew.

        Args:
            flags: value by key; None means "not given".
            where: where the flags came from, for messages.

        Raises:
            SpecError: an unknown key, or a value that is no size.
        """
        given = {key: value for key, value in flags.items() if value is not None}
        merged = self.model_dump(exclude_none=True)
        if given.keys() & {"hidden", "heads"}:
            stale = {"head_dim"} | ({"intermediate"} if "hidden" in given else set())
            for key in stale & set(self.soft):
                merged.pop(key, None)
        for key, value in given.items():
            nested = key in ("dims", "constants") and isinstance(value, Mapping)
            merged[key] = {**merged[key], **value} if nested else value
        if "soft" not in given:
            merged["soft"] = tuple(key for key in self.soft if key not in given and key in merged)
        return type(self).model_validate(merged, context={"where": where})

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON schema (draft 2020-12) of a spec file."""
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **cls.model_json_schema()}

    def requested(self) -> dict[str, int]:
        """Return the role keys that are given as one size, with it, in the order of ``SPEC_ROLES``."""
        sizes = {role: getattr(self, role) for role in SPEC_ROLES}
        if self.tokens:
            sizes[Role.VOCAB] = len(self.tokens)
        return {role: size for role, size in sizes.items() if isinstance(size, int)}

    @property
    def relative(self) -> tuple[str, ...]:
        """The keys that are given and relate sizes to a source: of a file by itself they say nothing."""
        return tuple(key for key in ("width", "round_to") if getattr(self, key) is not None)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Ids of the source's tokens that stay, where they are named; empty where they are only counted."""
        return self.vocab.keep if isinstance(self.vocab, KeptTokens) else ()

    def requested_by_chain(self) -> dict[str, dict[str, int]]:
        """Return the role keys that are given chain by chain, with sizes by chain name."""
        return {role: dict(sizes) for role in SPEC_ROLES if isinstance(sizes := getattr(self, role), Mapping)}
