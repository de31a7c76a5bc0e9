"""How a training is shown while it runs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from bot_onnx import _progress as progress
from bot_onnx._cli.output import Activity

if TYPE_CHECKING:
    from bot_onnx._recover.types import Settings

_LINES_APART = 30.0  # seconds between lines of progress where there is no terminal


class Told:
    """Progress: on the bar, or a line now and then where there is no terminal."""

    def __init__(self, bar: Activity | None, silent: bool, settings: Settings) -> None:
        self.done = 0
        self._bar, self._silent, self._settings = bar, silent, settings
        self._started: tuple[float, int] | None = None
        self._last = time.monotonic()
        self._held_out = ""

    def validated(self, done: int, loss: float) -> None:
        """Take up the loss on samples held out."""
        self._held_out = f", held out {loss:.4f}"

    def step(self, done: int, steps: int, loss: float) -> None:
        """Tell that a step is done."""
        from bot_onnx._recover.training import rate_at

        self.done = done
        now = time.monotonic()
        if self._started is None:
            self._started = now, done
        at = f"loss {loss:.4f}{self._held_out}, rate {self._settings.rate * rate_at(done - 1, steps):.2g}"
        if self._bar is not None:  # shows the time left
            self._bar.update(f"training, {at}", done, steps)
        elif self._silent:  # a recipe's bar, where there is one
            progress.step(f"training, {at}", done, steps)
        elif now - self._last >= _LINES_APART:
            from bot_onnx._report.units import seconds

            self._last = now
            pace = (now - self._started[0]) / max(1, done - self._started[1])
            print(f"step {done} of {steps}, {at}, {seconds(pace * (steps - done))} left", file=sys.stderr)
