"""A written file held against the budget that it was made for."""

from __future__ import annotations

from pathlib import Path

from bot_onnx._costs import Costs
from bot_onnx._fit.latency import median_seconds
from bot_onnx._fit.types import Fit
from bot_onnx.errors import VerifyError


def check_written(fit: Fit, path: Path, size_bytes: int, costs: Costs | None) -> str:
    """Say what of the budget the pick takes as it was written.

    Args:
        fit: whose pick it is.
        path: of the file. size_bytes: of it.
        costs: as they were counted in it.

    Returns:
        A sentence.

    Raises:
        VerifyError: it takes more of a limit than there is, or other costs than planned. A time is told and raises
            nothing: it differs from run to run.
    """
    pick = fit.pick
    if costs is None or (costs.parameters, costs.macs) != (pick.costs.parameters, pick.costs.macs):
        raise VerifyError(
            f"{path} does not cost what was planned: {costs and (costs.parameters, costs.macs)}; remove it"
        )
    size = size_bytes - costs.weight_bytes + pick.costs.weight_bytes if fit.budget.quantize else size_bytes
    spent = {"size": size, "params": costs.parameters, "macs": costs.macs, "latency": None}
    used = fit.budget.used(spent)
    if used > 1:
        raise VerifyError(f"{path} takes {used:.1%} of the budget: remove it, and give a smaller one")
    if fit.budget.latency is None:
        return f"{path} is within the budget: it takes {used:.1%} of it."
    taken = median_seconds(path, fit.source.costs.inputs, fit.threads)
    late = "" if taken <= fit.budget.latency else ": LONGER than asked, for times differ from run to run"
    return f"{path} runs in {taken * 1e3:.3g} ms, {taken / fit.budget.latency:.1%} of what is allowed{late}."
