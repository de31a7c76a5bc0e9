"""What a spec says of what stays: lists and runs of layers, tokens, and by what layers, heads, channels are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

#: The deepest published networks have a thousand layers; every layer costs nodes to make, check and run.
MAX_LAYERS: Final = 2048

#: How layers are chosen: see the spec's ``layers_by``.
LayersBy = Literal["even", "influence"]
#: What a head, a neuron or a channel is worth: see :mod:`bot_onnx._align.worth` and :mod:`bot_onnx._align.taylor`.
Criterion = Literal["energy", "magnitude", "activation", "wanda", "taylor"]
#: What makes up for the units that go: see :mod:`bot_onnx._align.refit`.
Refit = Literal["bias", "readers"]

_Layer = Annotated[int, Field(strict=True, ge=0, lt=MAX_LAYERS)]
_End = Annotated[int, Field(strict=True, gt=0, le=MAX_LAYERS)]
_Token = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
_FORMS: Final = ("keep", "repeat")
_ENDS: Final = 2  #: numbers of a run: its first layer, and the one after its last


class KeptLayers(BaseModel):
    """Which layers of the source the target has, one after the other: ``keep`` a list, or ``repeat`` runs of them.

    Attributes:
        keep: layers in ascending order, each once.
        repeat: runs ``[first, end)`` in a row; a layer may stand in several of them (the depth up-scaling of SOLAR,
            Kim et al. 2024, arXiv:2312.15166).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep: tuple[_Layer, ...] | None = None
    repeat: tuple[tuple[_Layer, _End], ...] | None = None

    @property
    def places(self) -> tuple[int, ...]:
        """Per layer of the target the layer of the source."""
        if self.keep is not None:
            return self.keep
        return tuple(layer for first, end in self.repeat or () for layer in range(first, end))


class KeptTokens(BaseModel):
    """Which rows of the token embedding the target has: the row of a token is its new id.

    Attributes:
        keep: ids of the source's tokens in ascending order, each once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep: Annotated[tuple[_Token, ...], Field(min_length=1)]


def check_kept_tokens(value: object) -> None:
    """Check which tokens stay by hand, so that the message names what is wrong.

    Raises:
        ValueError: it is no list of ids in ascending order.
    """
    assert isinstance(value, Mapping)
    given = value.get("keep")
    if set(value) != {"keep"} or not isinstance(given, list | tuple):
        raise ValueError(f'takes a number, or {{"keep": [ids]}} and nothing beside it, not {value!r:.80}')
    if not given:
        raise ValueError("'keep' is empty; at least one token stays")
    wrong = next((token for token in given if not _is_number(token) or not 0 <= token < 2**31), None)
    if wrong is not None:
        raise ValueError(f"'keep' lists ids of tokens, whole numbers from 0 on, not {wrong!r:.80}")
    fallen = next((after for before, after in pairwise(given) if after <= before), None)
    if fallen is not None:
        raise ValueError(
            f"'keep' lists ids of tokens in ascending order, each once: {fallen} stands behind one as large"
        )


def names_kept_layers(value: object) -> bool:
    """Whether a value is meant to say which layers stay: an object of lists under its keys, and no sizes of chains."""
    if not isinstance(value, Mapping):
        return isinstance(value, KeptLayers)
    return any(key in _FORMS and isinstance(value[key], list | tuple) for key in value)


def check_kept_layers(value: object, place: str) -> None:
    """Check which layers stay by hand, so that the message names what is wrong.

    Raises:
        ValueError: it is neither a list of layers in ascending order nor one of runs.
    """
    if isinstance(value, KeptLayers):
        return
    assert isinstance(value, Mapping)
    if len(value) != 1:
        raise ValueError(f"{place}takes one of 'keep' and 'repeat', and nothing beside it, not {list(value)!r:.80}")
    key, given = next(iter(value.items()))
    if not given:
        raise ValueError(f"{place}'{key}' is empty; at least one layer stays")
    if key == "keep":
        _check_list(given, place)
    else:
        _check_runs(given, place)


def _check_list(given: object, place: str) -> None:
    layers = list(given) if isinstance(given, list | tuple) else []
    wrong = next((layer for layer in layers if not _is_number(layer) or not 0 <= layer < MAX_LAYERS), None)
    if wrong is not None:
        raise ValueError(f"{place}'keep' lists layers by number, from 0 to {MAX_LAYERS - 1}, not {wrong!r:.80}")
    if any(after <= before for before, after in pairwise(layers)):
        raise ValueError(
            f"{place}'keep' names layers in ascending order, each once, not {layers!r:.80}; "
            "'repeat' takes runs that may come again, such as [[0, 8], [4, 12]]"
        )


def _check_runs(given: object, place: str) -> None:
    total = 0
    for run in given if isinstance(given, list | tuple) else ():
        if not isinstance(run, list | tuple) or len(run) != _ENDS or not all(map(_is_number, run)):
            raise ValueError(f"{place}'repeat' takes runs of two numbers such as [0, 8], not {run!r:.80}")
        first, end = run
        if not 0 <= first < end <= MAX_LAYERS:
            raise ValueError(f"{place}'repeat': run {[first, end]} holds no layers: [first, end) with first below end")
        total += end - first
    if total > MAX_LAYERS:
        raise ValueError(f"{place}'repeat' comes to {total} layers; at most {MAX_LAYERS} (the ceiling for layers)")


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
