"""The registry, the option models, and refusals."""

from __future__ import annotations

import pkgutil

import numpy as np
import pytest
from pydantic import ValidationError

import bot_onnx._resample
from bot_onnx._resample import all_methods, get_method, make_options, operator
from bot_onnx.errors import ResampleError


def test_methods_are_found_and_described() -> None:
    assert {"bot", "scratch"} <= set(all_methods())
    for name, method in all_methods().items():
        assert method.name == name
        assert method.title and method.reference and method.promises
        for key, field in method.Options.model_fields.items():
            assert field.description, f"{name}.{key}"


def test_unknown_names_are_refused_with_a_hint() -> None:
    with pytest.raises(ResampleError, match="did you mean 'bot'"):
        get_method("bott")
    with pytest.raises(ResampleError, match=r"wavelet: .*did you mean.*coif3"):
        make_options("bot", wavelet="coiff3")
    with pytest.raises(ResampleError, match="wavelet"):
        make_options("bot", wavelet="morl")  # continuous
    with pytest.raises(ResampleError, match="unknown option; there are: wavelet"):
        make_options("bot", wavelets="haar")
    with pytest.raises(ResampleError, match="layer_axis"):
        make_options("bot", layer_axis="sideways")


def test_options_are_frozen_and_wavelet_names_are_normalised() -> None:
    options = make_options("bot", wavelet=" Haar ")
    assert options.model_dump()["wavelet"] == "haar"
    with pytest.raises(ValidationError):
        options.wavelet = "db2"  # type: ignore[attr-defined]


def test_operator_conventions() -> None:
    np.testing.assert_allclose(operator("bot", 4, 2, convention="value"), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(
        operator("bot", 4, 2, convention="value", direction="in"), [[1, 1, 0, 0], [0, 0, 1, 1]], atol=1e-15
    )
    root = np.sqrt(0.5)
    np.testing.assert_allclose(operator("bot", 2, 1), [[root, root]])  # ortho by default
    np.testing.assert_allclose(operator("bot", 1, 2), [[1], [1]])  # value by default
    np.testing.assert_allclose(operator("bot", 3, 2, convention="value"), [[0.5, 0.5, 0], [0, 0, 1]])
    np.testing.assert_array_equal(operator("bot", 5, 5, wavelet="db4"), np.eye(5))


def test_operator_refusals() -> None:
    with pytest.raises(ResampleError, match="at least one"):
        operator("bot", 0, 3)
    with pytest.raises(ResampleError, match="direction"):
        operator("bot", 4, 2, direction="up")  # type: ignore[arg-type]
    with pytest.raises(ResampleError, match="no linear operator"):
        operator("scratch", 4, 2)


def test_no_public_name_is_that_of_a_submodule() -> None:
    """Importing the submodule would put it in the name's place."""
    submodules = {info.name for info in pkgutil.iter_modules(bot_onnx._resample.__path__)}
    assert not submodules.intersection(bot_onnx._resample.__all__)
