"""Fetches a body without end several times at once; prints by how much the process grew, in bytes.

python -m tests.download.endless_fetch URL TIMES FOLDER
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

from download.fetch.addresses import access
from download.fetch.http import Fetcher, Limits
from download.fetch.manners import Manners, Pace, Rules


async def main(url: str, times: int, folder: Path) -> None:
    rules = Rules(Pace(64, 1e6, 1_000, 0.0, 900.0, 8, 300.0), {}, {})
    limits = Limits(max_bytes=32 << 20)
    told = access(["127.0.0.1"])
    async with Fetcher("a", Manners(rules), folder, limits=limits, access=told) as fetcher:
        await fetcher.fetch(url.rpartition("/")[0] + "/jpeg")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        attempts = await asyncio.gather(*(fetcher.fetch(url) for _ in range(times)))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reasons = [attempt.reason for attempt in attempts]
    came = sum(attempt.size for attempt in attempts)
    print(json.dumps({"grew": (after - before) << 10, "reasons": reasons, "came": came}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
