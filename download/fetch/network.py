"""Is it the hosts, or is this machine off line? Told by hosts that have answered before.

A laptop loses its network for a night, a router restarts: without this, every host of a list would
be down within minutes, and a run of weeks at its end. Nobody is asked who isn't of the list: a
connection to a host that has answered in this run is made, and closed.
"""

from __future__ import annotations

import asyncio
from typing import Final

from download.fetch.addresses import Access, RefusedError, Resolver, origin_of, target_of

#: What ends an attempt when the network is away, or its host is.
UNREACHED: Final = frozenset(("dns", "no_such_host", "connect"))

#: Attempts in a row, of all hosts, that reach nobody, before the network is doubted. Where seven
#: of ten hosts are dead, as in old lists, one run of them in 1,300 is so long.
DOUBTED_AFTER: Final = 20
_HOSTS: Final = 3
_CONNECT_SECONDS: Final = 10.0


class Network:
    """What the last attempts say of the network; for one event loop."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._answered: dict[str, None] = {}  # scheme and host of the last ones that did
        self._unreached = 0

    def ended(self, url: str, reason: str, *, answered: bool) -> None:
        """Counts an attempt at an address."""
        if reason in UNREACHED:
            self._unreached += 1
        elif answered:
            self._unreached = 0
            origin = origin_of(url)
            if origin not in self._answered:
                while len(self._answered) >= _HOSTS:
                    del self._answered[next(iter(self._answered))]
                self._answered[origin] = None

    @property
    def is_doubted(self) -> bool:
        """Whether it is time to ask :meth:`is_up`."""
        return self._unreached >= DOUBTED_AFTER and bool(self._answered)

    async def is_up(self) -> bool:
        """Whether one of the hosts that answered last can be connected to."""
        origins = [*self._answered]
        self._unreached = 0
        resolver = Resolver(self._access)  # without the answers that another one keeps
        try:
            tries = [_connects(resolver, origin) for origin in origins]
            return any(await asyncio.gather(*tries))
        finally:
            await resolver.close()


async def _connects(resolver: Resolver, origin: str) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            found = await resolver.resolve(*target_of(origin))
            _, writer = await asyncio.open_connection(found[0]["host"], found[0]["port"])
            writer.close()
    except (OSError, TimeoutError, RefusedError):
        return False
    return True
