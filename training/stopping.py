"""Signals that end a run after the step at hand."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """The signal that has come, 0 if none."""

    number: int = 0


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """SIGTERM and Ctrl-C are noted, to stop by after the step; a second Ctrl-C is Python's."""
    stop = Stop()

    def note(number: int, _: FrameType | None) -> None:
        if stop.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.number = number

    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals are the main thread's
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
