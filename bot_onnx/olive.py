"""A pass for Olive, which then resizes a model among its other passes; only Olive imports this module.

``python -m bot_onnx.olive > passes.json`` writes the package configuration, Olive's own passes and this one, for
``olive run --config run.json --package-config passes.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from olive.hardware.accelerator import AcceleratorSpec
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.package_config import OlivePackageConfig
from olive.passes import Pass
from olive.passes.pass_config import BasePassConfig, PassConfigParam

import bot_onnx

_EVERY = {"supported_providers": ["*"], "supported_accelerators": ["*"], "supported_precisions": ["*"]}


class BotOnnxResize(Pass):  # type: ignore[misc]
    """Resize a model; every parameter is an argument of :func:`bot_onnx.resize`. Only ``spec`` has to be given."""

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        given = {
            "spec": (dict[str, Any] | str, None, "Sizes to resize to, or the path or the name of a spec."),
            "method": (str, "bot", "Method, of `bot-onnx methods list`."),
            "options": (dict[str, Any] | None, None, "Options of the method, of `bot-onnx methods show METHOD`."),
            "seed": (int, 0, "Seed of what a method draws."),
            "align": (str | None, None, "Alignment before the resampling; null: as the method likes it."),
            "calibration": (str | None, None, "An .npz file of samples that activations are looked at on."),
            "unproven": (bool, False, "Take sizes that cannot be proven."),
        }
        return {
            name: PassConfigParam(type_=kind, default_value=default, required=name == "spec", description=told)
            for name, (kind, default, told) in given.items()
        }

    def _run_for_config(
        self, model: ONNXModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> ONNXModelHandler:
        asked: dict[str, Any] = {name: getattr(config, name) for name in self._default_config(self.accelerator_spec)}
        output = Path(resolve_onnx_path(output_model_path, Path(model.model_path).name))
        output.parent.mkdir(parents=True, exist_ok=True)
        made = bot_onnx.resize(model.model_path, asked.pop("spec"), output, force=True, **asked)
        if made.plan.external:  # Olive takes the folder along
            return ONNXModelHandler(model_path=str(output.parent), onnx_file_name=output.name)
        return ONNXModelHandler(model_path=str(output))


def package_config() -> dict[str, Any]:
    """Olive's package configuration, with the pass of this module in it."""
    found: dict[str, Any] = json.loads(Path(OlivePackageConfig.get_default_config_path()).read_text(encoding="utf-8"))
    found["passes"][BotOnnxResize.__name__] = {"module_path": f"bot_onnx.olive.{BotOnnxResize.__name__}", **_EVERY}
    return found


if __name__ == "__main__":
    print(json.dumps(package_config(), indent=1))
