"""When the next request may go out: a rate for all threads together, and waits that can end."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable


class StoppedError(Exception):
    """The run is being ended: nothing more is to be asked."""


class Pace:
    """Spaces requests evenly: at most `rate` a second, from however many threads; 0 for no limit.

    `clock` gives seconds, `sleep` waits for some; both are there to be replaced in tests.  By
    default a wait ends early when the run is stopped.

    `answered` says whether the server has given an answer yet: until then, what keeps it from
    answering is no passing trouble.
    """

    def __init__(
        self,
        rate: float = 0.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.answered = False
        self._apart = 1 / rate if rate else 0.0
        self._clock = clock
        self._stopped = threading.Event()
        self._sleep = sleep or self._stopped.wait
        self._lock = threading.Lock()
        self._next = clock()  # when the next request may go out
        self._held_until = self._next  # a server that is too busy asks all of us to wait
        self._jitter = random.Random()

    def stop(self) -> None:
        """End all waits, now and from now on."""
        self._stopped.set()

    def is_stopped(self) -> bool:
        """Say whether nothing more is to be asked."""
        return self._stopped.is_set()

    def turn(self) -> None:
        """Wait until a request may go out.

        Raises
        ------
        StoppedError : the run has been stopped meanwhile.
        """
        with self._lock:
            at = max(self._clock(), self._next)
            self._next = at + self._apart
        while True:
            self._check()
            left = max(at, self._held_until) - self._clock()
            if left <= 0:
                return
            self._sleep(left)

    def hold(self, seconds: float) -> None:
        """Let no request go out for some seconds, whoever wants to send it."""
        with self._lock:
            self._held_until = max(self._held_until, self._clock() + seconds)

    def back_off(self, seconds: float) -> None:
        """Wait for half of `seconds` to all of it, so that threads don't come back all at once."""
        self._check()
        self._sleep(seconds * self._jitter.uniform(0.5, 1.0))
        self._check()

    def _check(self) -> None:
        if self.is_stopped():
            raise StoppedError
