"""Ops on images and signals: pools, boxes, grids, spectra."""

from __future__ import annotations

from bot_onnx._ops.record import MICROSOFT, Reduction, Slot
from bot_onnx._ops.registry import register

_BOXES = {1: Slot.SETTING}

register("AveragePool", reduction=Reduction("mean", counts=False, spatial=True, windows=True))
register("MaxPool", reduction=Reduction("extreme", counts=False, spatial=True, windows=True), alike=True)
register("LpPool", reduction=Reduction("other", spatial=True, windows=True))
register("MaxUnpool")
register("RoiAlign MaxRoiPool", slots=_BOXES)
register("CropAndResize", domains=(MICROSOFT,), slots=_BOXES)
register("AffineGrid GridSample")
register("GridSample NhwcMaxPool MaxpoolWithMask", domains=(MICROSOFT,))
register("DFT STFT")
register("Rfft Irfft Inverse", domains=(MICROSOFT,))
