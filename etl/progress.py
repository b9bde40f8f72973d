"""Progress of long work on standard error: a bar on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

#: Told how much has been done since it was last called.
Tick = Callable[[int], None]

_QUIET_SECONDS = 2.0  # what is done by then shows nothing
_TERMINAL_SECONDS = 0.2
_LOG_SECONDS = 60.0
_SHORTENED = 100_000  # from here on 1.20M is easier to read than all figures


class Progress:
    """``with Progress("reading", total) as p: p.add(n)``; rate and time left come from tqdm.

    ``total`` is in bytes (of the compressed file) or in ``unit``; None where it isn't known.
    It may change on the way.
    ``done`` is what an earlier run did: it counts in the bar and not in the rate. ``note`` is put
    at the end of the line, for what else the user wants to see.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        *,
        done: int = 0,
        unit: str = "B",
        quiet: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self.note = ""
        self.done = self._initial = done
        self._what = what
        self.total = total
        self._unit = unit
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._quiet = quiet
        self._started = time.monotonic()
        self._shown = self._started + _QUIET_SECONDS - self._interval

    @property
    def _interval(self) -> float:
        return _TERMINAL_SECONDS if self._terminal else _LOG_SECONDS

    def add(self, amount: int) -> None:
        """Counts ``amount`` as done and shows it when it is time to."""
        self.done += amount
        now = time.monotonic()
        if not self._quiet and now - self._shown >= self._interval and self._is_long(now):
            self._show(now)

    def _is_long(self, now: float) -> bool:
        return now - self._started >= _QUIET_SECONDS

    def _show(self, now: float) -> None:
        # only when there is something to show: it takes longer to import than short commands take
        from tqdm import tqdm

        self._shown = now
        line = tqdm.format_meter(
            min(self.done, self.total) if self.total else self.done,
            self.total or 0,
            now - self._started,
            initial=self._initial,
            ncols=100 if self._terminal else 0,
            prefix=self._what,
            unit=self._unit,
            unit_scale=self._unit == "B" or max(self.done, self.total or 0) >= _SHORTENED,
            postfix=self.note or None,
        )
        self._stream.write(f"\r{line}\033[K" if self._terminal else f"{line.strip()}\n")
        self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._quiet or not self._is_long(time.monotonic()):
            return
        if kind is None:
            self._show(time.monotonic())
        if self._terminal:
            self._stream.write("\n")
            self._stream.flush()
