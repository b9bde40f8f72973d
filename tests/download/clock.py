"""A clock on which waiting takes no time."""

from __future__ import annotations

import asyncio


class Clock:
    """Seconds that pass when somebody sleeps, and in no other way.

    Sleepers wake in the order of their times, once nobody else has anything to do.
    """

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []
        self._wakes: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Returns when it is so much later."""
        self.slept.append(seconds)
        wake = self.now + max(seconds, 0.0)
        self._wakes.append(wake)
        try:
            while True:
                for _ in range(5):  # whoever can go on does, and may sleep for less
                    await asyncio.sleep(0)
                if wake <= min(self._wakes):
                    break
        finally:
            self._wakes.remove(wake)
        self.now = max(self.now, wake)
