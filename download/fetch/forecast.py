"""Before a fetch: how much there is to ask for, of whom, how long at least, how much disk.

A host's time follows from its manners alone: its URLs over the requests a second that it is asked
at most, or over the bytes a second that it may send, whichever takes longer. Answers take time,
too, hosts ask for patience and robots.txt may slow a queue down, so a run takes no less than its
longest host and mostly more.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from download.fetch.bodies import Index
from download.fetch.log import STORE_FOLDER
from download.fetch.manners import Rules
from download.fetch.plan import URLS_FILE, Plan
from download.fetch.state import Mask, State
from etl.show import counted, in_bytes

#: Bytes of an image while nothing has been fetched: a thumbnail of 500 pixels on Commons
#: (an example of 92 kB). Originals there have 4.4 MB in the mean.
BYTES: Final = 92_000
#: Images of which the mean size says something.
_ENOUGH: Final = 100
_HOSTS: Final = 50  # as in a fetch's manifest
_HOSTS_SHOWN: Final = 8


def best(plan: Plan, limit: int) -> Mask:
    """The URLs of a first look: the ``limit`` best, and the fallbacks of who wants one of them.

    Best is what candidates with the highest scores begin with: the first image of each entity
    before any second one. Which of equals follows from their hashes, so all hosts have their share.
    """
    begins = np.zeros(plan.urls, bool)
    for _, place, url in plan.links():
        begins[url[place == 0]] = True
    rows = np.flatnonzero(begins)
    if len(rows) > limit:
        priority, chance = _orders(plan)
        order = np.lexsort((chance[rows], -priority[rows]))
        begins[rows[order[limit:]]] = False
    chosen = begins.copy()
    for candidate, place, url in plan.links():
        wants = np.unique(candidate[(place == 0) & begins[url]])
        chosen[url[np.isin(candidate, wants)]] = True
    return chosen


def _orders(plan: Plan) -> tuple[Any, Any]:
    """(priority, the hash's first eight bytes) of each URL."""
    file = pa.ipc.open_file(pa.memory_map(str(plan.folder / URLS_FILE)))
    priority = np.empty(plan.urls, np.float32)
    chance = np.empty(plan.urls, np.uint64)
    at = 0
    for number in range(file.num_record_batches):
        batch = file.get_batch(number)
        here = slice(at, at + len(batch))
        priority[here] = batch["priority"].to_numpy()
        hashes = batch["url_hash"]
        whole = np.frombuffer(hashes.buffers()[1], "<u8", 2 * len(hashes), 16 * hashes.offset)
        chance[here] = whole[::2]
        at += len(batch)
    return priority, chance


def forecast(
    plan: Plan, state: State, wanted: Mask, rules: Rules, fetches: Path, candidates: int
) -> dict[str, Any]:
    """What a fetch of ``wanted`` would ask for, as plain data; seconds are the least it takes.

    ``hosts`` are those that take longest (50 at most), with ``urls`` to ask for.
    """
    stored, images = _stored(fetches)
    size = stored / images if images >= _ENOUGH else BYTES
    hosts = [_host(rules, name, urls, size) for name, urls in _by_group(plan, wanted)]
    hosts.sort(key=lambda host: (-host["seconds"], host["host"]))
    asked = int(np.count_nonzero(wanted))
    return {
        "candidates": candidates,
        "urls": plan.urls,
        "done": int(np.count_nonzero(state.of)) - int(np.count_nonzero(state.of[wanted])),
        "to_ask": asked,
        "hosts_to_ask": len(hosts),
        "seconds": hosts[0]["seconds"] if hosts else 0.0,
        "bytes": round(asked * size),
        "bytes_an_image": round(size),
        "bytes_measured": images >= _ENOUGH,
        "bytes_free": shutil.disk_usage(fetches).free,
        "hosts": hosts[:_HOSTS],
    }


def _by_group(plan: Plan, wanted: Mask) -> Iterator[tuple[str, int]]:
    groups = plan.groups()
    if not groups.num_rows:
        return
    counts = np.add.reduceat(wanted, groups["start"].to_numpy(), dtype=np.int64)
    for at in np.flatnonzero(counts):
        yield groups["group"][int(at)].as_py(), int(counts[at])


def _host(rules: Rules, name: str, urls: int, size: float) -> dict[str, Any]:
    pace = rules.pace_of(name)
    seconds = max(urls - pace.burst, 0) / pace.per_second
    if pace.bytes_per_second:
        seconds = max(seconds, urls * size / pace.bytes_per_second)
    return {
        "host": name,
        "urls": urls,
        "seconds": round(seconds, 1),
        "per_second": pace.per_second,
        "connections": pace.connections,
        "bytes_per_second": pace.bytes_per_second,
    }


def _stored(fetches: Path) -> tuple[int, int]:
    """(bytes, images) that earlier runs stored."""
    size = sum(file.stat().st_size for file in (fetches / STORE_FOLDER).glob("*.bodies"))
    with Index(fetches) as index:
        return size, len(index)


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A forecast for a terminal."""
    done = f", {found['done']:,} done" if found["done"] else ""
    yield (
        f"{counted(found['candidates'], 'candidate')} with {counted(found['urls'], 'URL')}{done}; "
        f"to ask for now: {found['to_ask']:,} of {counted(found['hosts_to_ask'], 'host')}"
    )
    if not found["to_ask"]:
        return
    longest = found["hosts"][0]
    yield f"time: {lasting(found['seconds'])} or more, which is what {longest['host']} takes"
    measured = "as those that are here" if found["bytes_measured"] else "a guess: large thumbnails"
    size = in_bytes(found["bytes_an_image"])
    yield (
        f"disk: about {in_bytes(found['bytes'])}, at {size} an image ({measured}); "
        f"{in_bytes(found['bytes_free'])} are free"
    )
    yield "hosts that take longest:     URLs   at least"
    for host in found["hosts"][:_HOSTS_SHOWN]:
        pace = [f"{host['per_second']:g} a second", counted(host["connections"], "connection")]
        if host["bytes_per_second"]:
            pace.append(f"{in_bytes(host['bytes_per_second'])} a second")
        name = host["host"] or "(none)"
        yield (
            f"  {name:<20} {host['urls']:>11,}  {lasting(host['seconds']):>9}  "
            f"at most {', '.join(pace)}"
        )
    more = found["hosts_to_ask"] - min(found["hosts_to_ask"], _HOSTS_SHOWN)
    if more:
        yield f"  and {counted(more, 'other host')}"
    yield "Nothing was asked for (--dry-run)."


def announcement(found: Mapping[str, Any]) -> str:
    """A forecast in a sentence, for the beginning of a run."""
    urls, hosts = counted(found["to_ask"], "URL"), counted(found["hosts_to_ask"], "host")
    return (
        f"Asking for {urls} of {hosts}: {lasting(found['seconds'])} or more at their pace, about "
        f"{in_bytes(found['bytes'])} of disk ({in_bytes(found['bytes_free'])} free)."
    )


def lasting(seconds: float) -> str:
    """``8 s``, ``12 min``, ``3.5 h``, ``2.9 days``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5_400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:,.1f} days"
