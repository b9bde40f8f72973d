"""How fast a run goes, how long it will, and what it costs: the rates in its metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from training import metrics
from training.config import TrainOptions
from training.model import flops_per_image, is_counted, macs_per_image
from training.processes import Processes

#: The context that EntityNet counts the cost of all networks with.
COMMON_CONTEXT: Final = 77


class Pace:
    """Time and cost of a run from ``step`` on, those before it was interrupted included.

    ``network`` is open_clip's ``model_cfg``, ``texts`` how many an image has, ``steps`` those of
    the whole run, and ``seconds`` those that it has taken so far.
    """

    def __init__(
        self,
        train: TrainOptions,
        network: Mapping[str, Any],
        processes: Processes,
        *,
        texts: int,
        steps: int,
        step: int,
        seconds: float,
    ) -> None:
        self._train, self._network, self._processes = train, network, processes
        self._texts, self._steps = texts, steps
        self._began = time.monotonic() - seconds
        self._last = step, time.monotonic(), 0.0

    def leave_out(self, seconds: float) -> None:
        """Time that was spent on something else than steps."""
        step, then, waited = self._last
        self._last = step, then + seconds, waited

    def rates(self, step: int, waited: float) -> dict[str, Any]:
        """Figures of the steps since last asked; ``waited`` for batches in all, in seconds."""
        seconds, each, wait = self._since(step, waited)
        rate = self._train.batch / each
        found = {
            "images_per_second": rate,
            "data_wait": wait,
            "seconds": seconds,
            "seconds_left": each * (self._steps - step),
        }
        return {**found, **self._costs(step, rate)} if is_counted(self._network) else found

    def _since(self, step: int, waited: float) -> tuple[float, float, float]:
        """Seconds in all; seconds a step, and the share spent waiting, since last asked."""
        now = time.monotonic()
        step_then, then, waited_then = self._last
        self._last = step, now, waited
        spent = max(now - then, 1e-9)
        each = spent / max(step - step_then, 1)
        return now - self._began, each, (waited - waited_then) / spent

    def _costs(self, step: int, rate: float) -> dict[str, Any]:
        batch, found = self._train.batch, {}
        for name, length in (("macs", None), ("macs_77", COMMON_CONTEXT)):
            each = macs_per_image(
                self._network,
                batch=batch,
                context_length=length,
                texts=self._texts,
                siglip=self._train.loss == "siglip",
            )
            found[name] = step * batch * each
        peak = metrics.peak_of(self._processes.device)
        if not peak:
            return found
        flops = flops_per_image(self._network, batch=batch, texts=self._texts)
        return {**found, "mfu": rate * flops / self._processes.world / peak}
