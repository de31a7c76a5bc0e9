"""One self-contained HTML page of a network: its blocks, its costs, and sliders that say what other sizes cost.

Import from here: ``report``, ``Report``. The sliders compute with polynomials that the count functions of ``_costs``
give of themselves (``polynomials.py``, ``formulas.py``); ``assets`` holds the template, the style and the script.
"""

from bot_onnx._page.job import report
from bot_onnx._page.types import Report

__all__ = ["Report", "report"]
