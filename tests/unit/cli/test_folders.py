"""Files that are written beside an output never replace what is read, or the output."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot_onnx._cli.folders import check_beside
from bot_onnx.errors import OutputError
from tests.graphs import residual_mlp_model, save


def test_what_may_not_be_replaced(tmp_path: Path) -> None:
    model, out, spec = save(residual_mlp_model(), tmp_path), tmp_path / "out.onnx", tmp_path / "spec.json"
    spec.write_text("{}")
    check_beside("--plan-out", tmp_path / "plan.json", model=model, output=out, force=False)
    with pytest.raises(OutputError, match=r"--plan-out .*: that is the output's name; give it a file of its own"):
        check_beside("--plan-out", tmp_path / "." / "out.onnx", model=model, output=out, force=True)
    with pytest.raises(OutputError, match="--spec-out: "):
        check_beside("--spec-out", model, model=model, output=None, force=True)
    with pytest.raises(OutputError, match="--spec-out: "):
        check_beside("--spec-out", spec, model=model, output=None, force=False)
    check_beside("--spec-out", spec, model=model, output=None, force=True)
    with pytest.raises(OutputError, match="which is never written to"):
        check_beside("--plan-out", tmp_path / "in" / "plan.json", model=tmp_path, output=None, force=True)
