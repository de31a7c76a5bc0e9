"""The transcripts of README.md say what the commands print."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from benchmarks.readme import README, blocks, differences, made_again, model

pytest.importorskip("onnxruntime")


def test_the_page_has_its_transcripts() -> None:
    assert [block.splitlines()[0].split()[2] for block in blocks(README.read_text())] == ["resize", "resize"]


def test_what_another_processor_changes_is_no_difference_and_all_else_is() -> None:
    old = "checker  pass  onnx 1.23.2 accepts it\nx  9.5e-07  0.509"
    assert not list(differences(old, "checker   pass onnx 1.21.0 accepts it\nx 2e-08 0.5091"))
    assert len(list(differences(old, "checker  pass  onnx 1.23.2 takes it\nx  9.5e-07  0.6"))) == 2
    assert len(list(differences(old, old + "\none more"))) == 1


@pytest.mark.thorough  # the other one is of 266 MB: python -m benchmarks.readme --check
def test_the_shrunk_model_is_told_as_it_is() -> None:
    try:
        model()
    except PackageNotFoundError:
        pytest.skip("needs the package with the model")
    block = blocks(README.read_text())[1]
    assert not list(differences(block, made_again(block)))
