"""A PyTorch module at the sizes of a resized file: its layers are resized in place, and the weights put in.

Half a ResNet or a BERT of two thirds is no architecture that a library has by name. The module that was exported is
taken, every layer gets the shape that the file's weights have, and it is held against onnxruntime on the same inputs:
what is not the file's network is refused, and the module is as it was.

    >>> import bot_onnx.torch
    >>> bot_onnx.torch.load_into(model, "small.onnx")  # doctest: +SKIP
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from bot_onnx._checkpoint.assign import Hints
from bot_onnx._checkpoint.config import resized_config
from bot_onnx._checkpoint.export import analysed, collect
from bot_onnx._checkpoint.files import ArrayCheckpoint
from bot_onnx._checkpoint.types import Array
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._recover.extras import torch as the_torch
from bot_onnx._request import InputsLike, PathOrName
from bot_onnx._runs.read_overrides import as_given
from bot_onnx._structure import Role, Structure
from bot_onnx._verify.trial import run_model
from bot_onnx.errors import CheckpointError, VerifyError

__all__ = ["Loaded", "load_into"]

#: What layers say of their own sizes: attribute -> the parameter, and the axis of it that has the size.
_SIZES: Mapping[str, tuple[tuple[str, str, int], ...]] = {
    "Linear": (("out_features", "weight", 0), ("in_features", "weight", 1)),
    "Embedding": (("num_embeddings", "weight", 0), ("embedding_dim", "weight", 1)),
    "EmbeddingBag": (("num_embeddings", "weight", 0), ("embedding_dim", "weight", 1)),
    "Bilinear": (("out_features", "weight", 0), ("in1_features", "weight", 1), ("in2_features", "weight", 2)),
    "_BatchNorm": (("num_features", "running_mean", 0), ("num_features", "weight", 0)),
    "_InstanceNorm": (("num_features", "weight", 0),),
    "GroupNorm": (("num_channels", "weight", 0),),
    "PReLU": (("num_parameters", "weight", 0),),
    "MultiheadAttention": (("embed_dim", "out_proj.weight", 0),),
    "RNNBase": (("input_size", "weight_ih_l0", 1), ("hidden_size", "weight_hh_l0", 1)),
    "RNNCellBase": (("input_size", "weight_ih", 1), ("hidden_size", "weight_hh", 1)),
}
_HEADS = ("num_heads", "num_attention_heads", "n_head", "n_heads", "nhead")
_HEAD_DIM = ("head_dim", "attention_head_size", "head_size")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a module.

    Attributes:
        resized: keys whose shapes changed. loaded: how many keys got the file's values.
        kept: keys of the module that the file has nothing for, which are as they were.
        layers: containers of layers that have another number of them: name, before, after.
        difference: largest difference of the outputs from onnxruntime's, as a part of the largest value; None where it
            was not looked at.
    """

    resized: tuple[str, ...]
    loaded: int
    kept: tuple[str, ...]
    layers: tuple[tuple[str, int, int], ...]
    difference: float | None


def load_into(
    module: Any,
    model: PathOrName,
    *,
    source: PathOrName | None = None,
    names: Mapping[str, Any] | PathOrName | None = None,
    strip: str = "",
    inputs: InputsLike | None = None,
    call: Callable[[Any, Mapping[str, Any]], Any] | None = None,
    tolerance: float | None = 1e-5,
) -> Loaded:
    """Resize a module in place to a file's sizes, and put the file's weights in.

    Parameters that keep their shape keep their identity; the others are new, so make the optimizer afterwards.

    Args:
        module: the ``torch.nn.Module`` that was exported, with the source's weights: they tell which tensor is which.
        model: the resized file. source: the model that it was resized from, where the file has lost names (folded
            batch norms): see :func:`bot_onnx.state_dict`, which ``names`` and ``strip`` are of as well.
        inputs: what to compare on, by input of the file; None: made up.
        call: how the module is called with tensors by the file's input names; None: ``module(**tensors)`` where its
            ``forward`` has these names, else one after the other.
        tolerance: the largest difference from onnxruntime's outputs that is allowed, as a part of the largest value.
            None: nothing is compared, and nothing is known.

    Returns:
        What became of it.

    Raises:
        CheckpointError: a tensor's key is not certain, or a layer cannot have the file's shape.
        VerifyError: the module does not compute what the file does. It is as it was, after any error.
    """
    torch = the_torch()
    with ExitStack() as stack:
        opened = stack.enter_context(open_model(model))
        before = {key: _array(value) for key, value in module.state_dict().items()}
        hints = Hints(
            like=ArrayCheckpoint(before),
            source=None if source is None else analysed(stack.enter_context(open_model(source))),
            names=names if names is None or isinstance(names, Mapping) else _read(names),
            names_from="names",
            strip=strip,
            partial=True,
        )
        analysis = analysed(opened)
        assignment, arrays = collect(analysis, hints)
        state = {key: np.array(values) for key, values in arrays.items()}
        opened.check_unchanged()
        with _as_it_was(module):
            config: Any = getattr(module, "config", None)
            made: tuple[tuple[str, int, int], ...] = ()
            if hasattr(config, "to_dict") and hasattr(type(module), "config_class"):
                _rebuild(module, resized_config(config.to_dict(), analysis.structure, assignment, "module.config"))
            else:
                made = _with_layers(torch, module, state)
                _resize(torch, module, state, analysis.structure)
            resized, kept = _fill(torch, module, state, before)
            difference = None if tolerance is None else _compared(torch, module, str(model), inputs, call, tolerance)
    return Loaded(resized, len(state), kept, made, difference)


def _read(names: PathOrName) -> Mapping[str, Any]:
    from pathlib import Path

    from bot_onnx._target.reader import parse_object, read_text

    return parse_object(read_text(Path(names)), str(names))


def _array(value: Any) -> Array:
    value = value.detach().cpu()
    return np.asarray((value.float() if value.dtype.is_floating_point and value.element_size() < 4 else value).numpy())


@contextmanager
def _as_it_was(module: Any) -> Iterator[None]:
    """Give the module and all in it back what they were, after an error."""
    held = [(one, _copied(one.__dict__)) for one in module.modules()]
    values = [(one, one.detach().clone()) for one in (*module.parameters(), *module.buffers())]
    try:
        yield
    except BaseException:
        for one, inside in held:
            one.__dict__.clear()
            one.__dict__.update(inside)
        for tensor, value in values:
            tensor.data = value
        raise


def _copied(inside: Mapping[str, Any]) -> dict[str, Any]:
    shallow = ("_parameters", "_buffers", "_modules")
    return {key: copy.copy(value) if key in shallow else value for key, value in inside.items()}


def _rebuild(module: Any, config: Mapping[str, Any]) -> None:
    """A module that its config says whole is built anew from the config at the new sizes."""
    made = type(module.config).from_dict(dict(config))
    chosen = getattr(module.config, "_attn_implementation", None)
    if chosen is not None:
        made._attn_implementation = chosen
    kind = next(iter(module.parameters())).dtype
    device, training = next(iter(module.parameters())).device, module.training
    fresh = type(module)(made).to(device=device, dtype=kind).train(training)
    hooks = {key: value for key, value in module.__dict__.items() if key.endswith("_hooks")}
    module.__dict__.clear()
    module.__dict__.update({**fresh.__dict__, **hooks})


def _with_layers(torch: Any, module: Any, state: Mapping[str, Array]) -> tuple[tuple[str, int, int], ...]:
    """Containers of layers get as many as the file has: the last go, or copies of the last one follow."""
    made = []
    for name, inside in list(module.named_modules()):
        if not isinstance(inside, torch.nn.ModuleList | torch.nn.Sequential) or not len(inside):
            continue
        prefix = f"{name}." if name else ""
        numbers = {int(key[len(prefix) :].split(".")[0]) for key in state
                   if key.startswith(prefix) and key[len(prefix) :].split(".")[0].isdigit()}  # fmt: skip
        own = {n for n, child in enumerate(inside) if next(child.parameters(), None) is not None}
        if not numbers or numbers == own or len({type(inside[n]) for n in own}) != 1 or own != set(range(len(inside))):
            continue
        if numbers != set(range(len(numbers))):
            raise CheckpointError(f"the file has layers {sorted(numbers)} of {name!r}: name its tensors with names=")
        made.append((name, len(inside), len(numbers)))
        while len(inside) > len(numbers):
            del inside[-1]
        while len(inside) < len(numbers):
            inside.append(copy.deepcopy(inside[-1]))
    return tuple(made)


def _resize(torch: Any, module: Any, state: Mapping[str, Array], structure: Structure) -> None:
    """Every layer gets the file's shapes, and says so."""
    new_of: dict[int, Any] = {}
    for name, layer in module.named_modules():
        prefix = f"{name}." if name else ""
        for held in (layer._parameters, layer._buffers):
            for key, old in list(held.items()):
                values = state.get(prefix + key)
                if old is None or values is None or tuple(old.shape) == values.shape:
                    continue
                if old.ndim != values.ndim:
                    raise CheckpointError(
                        f"{prefix}{key} has {old.ndim} axes in the module and {values.ndim} in the file"
                    )
                if id(old) not in new_of:
                    made = old.detach().new_zeros(values.shape)
                    new_of[id(old)] = (
                        torch.nn.Parameter(made, old.requires_grad) if isinstance(old, torch.nn.Parameter) else made
                    )
                held[key] = new_of[id(old)]
    for name, layer in module.named_modules():
        _tell(torch, layer)
        _tell_heads(torch, name, layer, state, structure)


def _tell(torch: Any, layer: Any) -> None:
    """A layer of PyTorch's own says its sizes in attributes."""
    for kind in type(layer).__mro__:
        for attribute, parameter, axis in _SIZES.get(kind.__name__, ()):
            tensor = _inner(layer, parameter)
            if tensor is not None and hasattr(layer, attribute):
                setattr(layer, attribute, int(tensor.shape[axis]))
    weight: Any = getattr(layer, "weight", None)
    if isinstance(layer, torch.nn.modules.conv._ConvNd):
        turned = layer.transposed
        given, grouped = (0, 1) if turned else (1, 0)
        if layer.groups > 1 and layer.groups == layer.in_channels:  # one channel a group, whatever their number
            layer.groups = int(weight.shape[0]) if turned or layer.out_channels == layer.in_channels else layer.groups
        layer.in_channels = int(weight.shape[given]) * (1 if turned else layer.groups)
        layer.out_channels = int(weight.shape[grouped]) * (layer.groups if turned else 1)
    if hasattr(layer, "normalized_shape") and weight is not None:
        layer.normalized_shape = tuple(weight.shape)
    if type(layer).__name__ == "Conv1D" and hasattr(layer, "nf"):
        layer.nx, layer.nf = map(int, weight.shape)
    if isinstance(layer, torch.nn.RNNBase):
        layer.flatten_parameters()


def _inner(layer: Any, path: str) -> Any:
    for part in path.split("."):
        layer = getattr(layer, part, None)
    return layer


def _tell_heads(torch: Any, name: str, layer: Any, state: Mapping[str, Array], structure: Structure) -> None:
    """An attention says how many heads it has, of how many channels, and the factor of its scores."""
    heads = next((key for key in _HEADS if isinstance(getattr(layer, key, None), int)), None)
    if heads is None:
        return
    prefix = f"{name}." if name else ""
    if not any(key.startswith(prefix) for key in state):
        return
    sizes = {role: {dim.size for dim in structure.dims.values() if dim.role == role}
             for role in (Role.HEADS, Role.HEAD_DIM)}  # fmt: skip
    if any(len(found) != 1 for found in sizes.values()):
        raise CheckpointError(
            f"{name or 'the module'} has heads, and the file has attentions of several sizes: build the module at its "
            "sizes, and load bot_onnx.state_dict(…)"
        )
    (count,), (channels,) = sizes[Role.HEADS], sizes[Role.HEAD_DIM]
    setattr(layer, heads, count)
    for key in _HEAD_DIM:
        old = getattr(layer, key, None)
        if isinstance(old, int):
            setattr(layer, key, channels)
            scale = getattr(layer, "scale", None)
            if isinstance(scale, float) and math.isclose(scale, old**-0.5):
                layer.scale = channels**-0.5
    for key in ("all_head_size", "attn_dim"):
        if isinstance(getattr(layer, key, None), int):
            setattr(layer, key, count * channels)
    if isinstance(layer, torch.nn.MultiheadAttention):
        layer.kdim = layer.vdim = layer.embed_dim


def _fill(
    torch: Any, module: Any, state: Mapping[str, Array], before: Mapping[str, Array]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Values into the module; keys of other shapes than before, and keys without values."""
    now = module.state_dict(keep_vars=True)
    unknown = [key for key in state if key not in now]
    if unknown:
        raise CheckpointError(f"the module has no {unknown[0]!r}: is it the one that was exported?")
    for key, values in state.items():
        if tuple(now[key].shape) != values.shape:
            raise CheckpointError(
                f"{key} is {tuple(now[key].shape)} in the module and {values.shape} in the file: its layer cannot be "
                "resized in place"
            )
        with torch.no_grad():
            now[key].copy_(torch.from_numpy(np.array(values)))
    resized = tuple(key for key in state if key not in before or before[key].shape != state[key].shape)
    return resized, tuple(key for key in now if key not in state)


def _compared(
    torch: Any,
    module: Any,
    path: str,
    inputs: InputsLike | None,
    call: Callable[[Any, Mapping[str, Any]], Any] | None,
    tolerance: float,
) -> float:
    given = as_given(inputs, None) or Given()
    with open_model(path, given=given) as source:
        trial, checks = run_model(source, path, observed=None, reference=None, seed=0)
    if trial is None:
        raise VerifyError(f"{path} does not run, so that nothing can be compared: {checks[-1].detail}")
    worst = 0.0
    modes = [(one, one.training) for one in module.modules()]
    device = next(iter(module.parameters())).device
    try:
        module.eval()
        for feeds, results in zip(trial.feeds, trial.results, strict=True):
            tensors = {name: torch.from_numpy(np.array(array)).to(device) for name, array in feeds.items()}
            with torch.no_grad():
                made = _flat(torch, (call or _called)(module, tensors))
            worst = max(worst, _difference(results, made, tolerance, path))
    finally:
        for one, training in modes:
            one.training = training
    return worst


def _called(module: Any, tensors: Mapping[str, Any]) -> Any:
    import inspect

    known = inspect.signature(module.forward).parameters
    return module(**tensors) if all(name in known for name in tensors) else module(*tensors.values())


def _flat(torch: Any, made: Any) -> list[Array]:
    """All tensors of what a module gave, in order."""
    if isinstance(made, torch.Tensor):
        return [_array(made)]
    if isinstance(made, Mapping):
        made = list(made.values())
    return [array for one in made for array in _flat(torch, one)] if isinstance(made, Sequence) else []


def _difference(results: Mapping[str, Any], made: Sequence[Array], tolerance: float, path: str) -> float:
    wanted = {name: array for name, array in results.items() if isinstance(array, np.ndarray)}
    if len(made) < len(wanted):
        raise VerifyError(
            f"{path} has {len(wanted)} outputs, and the module gives {len(made)} tensors: say how with call="
        )
    worst = 0.0
    for (name, array), own in zip(wanted.items(), made, strict=False):
        if own.shape != array.shape:
            raise VerifyError(f"output {name!r} is {array.shape} in the file, and {own.shape} in the module")
        scale = max(float(np.abs(array).max(initial=0.0)), 1e-12)
        apart = float(np.abs(own.astype(np.float64) - array.astype(np.float64)).max(initial=0.0)) / scale
        if not apart <= tolerance:
            raise VerifyError(
                f"the module does not compute what {path} does: {name!r} is off by {apart:.2g} of its largest value"
            )
        worst = max(worst, apart)
    return worst
