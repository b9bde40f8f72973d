"""What `sparqless etl` reaches, beside the machine's limit and other readers of the same file.

    python -m benchmarks.etl --json-bytes 1.2G --workers 2

makes a dump (kept in data/bench, made once) and measures on it, one after the other:

- the limit: inflate and typed parse, nothing else, in as many independent processes, each with
  its own part of the gzip members;
- sparqless: the dump into a complete store, a process started as a user starts it;
- a plain loop, gzip and ujson, on the first part of the file, in one process;
- qwikidata's WikidataJsonDump and WikidataItem on the same part, in one process.

The limit and sparqless run `--repeat` times in turn and the best run of each counts, because
other work on the machine only ever adds. The file is in the page cache for all of them. MB are
10^6 bytes of JSON. What is said of a whole Wikidata is a projection from the rate on this file.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import msgspec
import ujson
from isal import isal_zlib
from qwikidata.entity import WikidataItem
from qwikidata.json_dump import WikidataJsonDump

from benchmarks import watch
from benchmarks.dump import VERSION, Plan, parse_size, write
from etl.reader import EntityReader
from etl.kept import DEFAULT_LANGUAGES, Kept, read_properties

_ROOT = Path(__file__).parents[1]

#: Wikidata in 2026: entities, bytes of JSON (connorshea/mergers-and-acquisitions, README).
FULL_ENTITIES, FULL_JSON_BYTES = 118_000_000, 1_600_000_000_000

_READ = 64 << 10  # bytes of the compressed file at a time: what comes out stays in the cache


@dataclass(frozen=True)
class Member:
    """A gzip member: its place in the file and what it holds."""

    start: int
    end: int
    json_bytes: int
    newlines: int  # over the members from the first to a batch: the number of their entities


@dataclass(frozen=True)
class Rate:
    """``entities`` lines of ``json_bytes`` in all, read by ``processes`` in ``seconds``.

    ``cpu_seconds`` are those of all processes together: less disturbed by other work.
    """

    name: str
    processes: int
    json_bytes: int
    entities: int
    seconds: float
    cpu_seconds: float

    @property
    def megabytes(self) -> float:
        """MB of JSON a second."""
        return self.json_bytes / 1e6 / self.seconds

    @property
    def lines(self) -> float:
        """Entities a second."""
        return self.entities / self.seconds


# --- the file -----------------------------------------------------------------------------------


def members_of(path: Path) -> list[Member]:
    """The members of a .gz, found by inflating all of it, which also brings it into memory."""
    found = []
    with path.open("rb") as file:
        data, at = file.read(_READ), 0
        while data:
            inflate = isal_zlib.decompressobj(wbits=31)
            size, newlines, consumed = 0, 0, 0
            while not inflate.eof:
                if not data:
                    raise ValueError(f"{path}: ends inside the gzip member at byte {at:,}")
                text = inflate.decompress(data)
                size += len(text)
                newlines += text.count(b"\n")
                consumed += len(data)
                data = inflate.unused_data if inflate.eof else file.read(_READ)
            consumed -= len(data)
            found.append(Member(at, at + consumed, size, newlines))
            at += consumed
            data = data or file.read(_READ)
    return found


def _shares(members: Sequence[Member], count: int) -> list[tuple[int, int]]:
    """Ranges of the file, about equal, each from a member's start to a member's end."""
    size = members[-1].end
    bounds = [0]
    for n in range(1, count):
        starts = (member.start for member in members)
        bounds.append(next((at for at in starts if at >= size * n / count), size))
    return list(pairwise([*bounds, size]))


# --- the limit ----------------------------------------------------------------------------------


def _inflated(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        inflate = isal_zlib.decompressobj(wbits=31)
        while start < end:
            data = file.read(min(_READ, end - start))
            start += len(data)
            while data:
                yield inflate.decompress(data)
                data = inflate.unused_data
                if inflate.eof:
                    inflate = isal_zlib.decompressobj(wbits=31)


def _decode_all(lines: Sequence[bytes], decode: Callable[[bytes], object]) -> int:
    entities = 0
    for line in lines:
        if line[:1] == b"{":
            try:  # noqa: SIM105 — suppress() is a call a line
                decode(line[:-1] if line.endswith(b",") else line)
            except msgspec.ValidationError:
                pass  # an odd shape in a real dump, which sparqless reads in its slow way
            entities += 1
    return entities


def _parse(path: Path, start: int, end: int) -> tuple[float, float, float, int]:
    """Inflate, split and decode a range: begin, end, processor seconds, entities."""
    decode = EntityReader(Kept(DEFAULT_LANGUAGES, read_properties())).decode
    began, cpu = time.monotonic(), time.process_time()
    entities, rest = 0, b""
    for text in _inflated(path, start, end):
        lines = (rest + text).split(b"\n")
        rest = lines.pop()
        entities += _decode_all(lines, decode)
    entities += _decode_all([rest], decode)
    return began, time.monotonic(), time.process_time() - cpu, entities


def _start(together: Barrier) -> None:
    together.wait(60)


def limit(path: Path, members: Sequence[Member], workers: int) -> Rate:
    """Inflate and typed parse in ``workers`` processes that start at the same moment."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(workers)
    with ProcessPoolExecutor(workers, context, _start, (together,)) as pool:
        ranges = _shares(members, workers)
        times = [future.result() for future in [pool.submit(_parse, path, *r) for r in ranges]]
    begins, ends, cpu, entities = zip(*times, strict=True)
    seconds = max(ends) - min(begins)
    size = sum(member.json_bytes for member in members)
    return Rate("limit: inflate + typed parse", workers, size, sum(entities), seconds, sum(cpu))


# --- sparqless ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Built:
    """A store as a command made it; sizes in bytes."""

    rate: Rate
    watched: watch.Watched
    store_bytes: int
    lmdb_bytes: int
    stages: dict[str, float]

    @property
    def bytes_per_record(self) -> float:
        """Size of the whole store for an entity."""
        return self.store_bytes / self.rate.entities


def build(path: Path, store: Path, size: int, workers: int) -> Built:
    """Run `sparqless etl` into an empty ``store``.

    Raises RuntimeError where it fails or leaves no manifest.
    """
    shutil.rmtree(store, ignore_errors=True)
    command = [sys.executable, "-m", "cli", "etl", str(path), "--store", str(store)]
    command += ["--workers", str(workers), "--quiet"]
    watched = watch.run(command, _ROOT)
    manifest = store / "manifest.json"
    if not manifest.exists():
        raise RuntimeError(f"{' '.join(command)} left no {manifest}")
    written = json.loads(manifest.read_text())
    files = [file for file in store.rglob("*") if file.is_file()]
    entities = written["counts"]["entities"]
    rate = Rate("sparqless etl", workers, size, entities, watched.seconds, watched.cpu_seconds)
    return Built(
        rate,
        watched,
        sum(file.stat().st_size for file in files),
        (store / "data.mdb").stat().st_size,
        {phase: written["seconds"][phase] for phase in ("read", "all")},
    )


# --- peers --------------------------------------------------------------------------------------


def _plain_loop(path: Path, count: int) -> int:
    """Id, English label, three properties and the number of sitelinks, with the usual means."""
    seen = 0
    with gzip.open(path, "rb") as lines:
        for line in lines:
            if len(line) < 3:
                continue
            entity = ujson.loads(line.rstrip(b",\n"))
            _ = entity["id"], entity["labels"].get("en"), len(entity.get("sitelinks", ()))
            for name in ("P31", "P279", "P171"):
                for statement in entity["claims"].get(name, ()):
                    _ = statement["mainsnak"].get("datavalue")
            seen += 1
            if seen == count:
                break
    return seen


def _qwikidata_loop(path: Path, count: int) -> int:
    """The loop of qwikidata's README: every item an object, its truthy P31."""
    seen = 0
    entities = (entity for entity in WikidataJsonDump(str(path)) if isinstance(entity, dict))
    for entity in islice(entities, count):
        if entity["type"] == "item":
            WikidataItem(entity).get_truthy_claim_group("P31")
        seen += 1
    return seen


def _timed(loop: Callable[[Path, int], int], path: Path, count: int) -> tuple[int, float, float]:
    started, cpu = time.perf_counter(), time.process_time()
    entities = loop(path, count)
    return entities, time.perf_counter() - started, time.process_time() - cpu


def peers(path: Path, members: Sequence[Member], part: int) -> Iterator[Rate]:
    """Rates of the other readers on about the first ``part`` bytes of JSON, in one process."""
    size = lines = 0
    for member in members:
        size, lines = size + member.json_bytes, lines + member.newlines
        if size >= part:
            break
    loops = {"gzip + ujson loop": _plain_loop, "qwikidata": _qwikidata_loop}
    for name, loop in loops.items():
        with ProcessPoolExecutor(1) as pool:
            entities, *times = pool.submit(_timed, loop, path, lines).result()
        yield Rate(name, 1, size, entities, *times)


# --- the report ---------------------------------------------------------------------------------


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def measure(path: Path, store: Path, workers: int, repeat: int, part: int) -> dict[str, Any]:
    """All figures, as plain data."""
    load = os.getloadavg()[0]
    members = members_of(path)
    size = sum(member.json_bytes for member in members)
    limits, builds = [], []
    for _ in range(repeat):
        limits.append(limit(path, members, workers))
        builds.append(build(path, store, size, workers))
    best = max(limits, key=lambda rate: rate.megabytes)
    built = min(builds, key=lambda b: b.rate.seconds)
    rates = [best, built.rate, *peers(path, members, part)]
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": load,
    }
    return {
        "machine": machine,
        "dump": {
            "path": str(path),
            "entities": best.entities,
            "json_bytes": size,
            "file_bytes": path.stat().st_size,
            "mean_line": size / best.entities,
            "ratio": size / path.stat().st_size,
            "members": len(members),
        },
        "rates": [
            {
                **asdict(rate),
                "megabytes_per_second": rate.megabytes,
                "entities_per_second": rate.lines,
                "of_the_limit": rate.megabytes / best.megabytes,
            }
            for rate in rates
        ],
        "runs": {
            "limit": [rate.seconds for rate in limits],
            "sparqless": [b.rate.seconds for b in builds],
        },
        "store": {
            "bytes": built.store_bytes,
            "lmdb_bytes": built.lmdb_bytes,
            "bytes_per_record": built.bytes_per_record,
            "stages": built.stages,
            **asdict(built.watched),
        },
        "projection": {
            "entities": FULL_ENTITIES,
            "json_bytes": FULL_JSON_BYTES,
            "seconds": FULL_JSON_BYTES / 1e6 / built.rate.megabytes,
            "store_bytes": FULL_ENTITIES * built.bytes_per_record,
        },
    }


def report(figures: dict[str, Any]) -> str:
    """The figures as a table for a terminal."""
    machine, dump, store = figures["machine"], figures["dump"], figures["store"]
    projection = figures["projection"]
    limit_rate, ours, *others = figures["rates"]
    rows = [
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}; load at "
        f"the start {machine['load']:.1f}: other work on the machine makes every rate too low",
        f"{dump['path']}: {dump['entities']:,} entities, {dump['json_bytes'] / 1e6:,.0f} MB of "
        f"JSON, mean line {dump['mean_line']:,.0f} B, {dump['ratio']:.2f} : 1, "
        f"{dump['members']:,} members",
        "",
        f"{'':30}{'processes':>10}{'JSON MB':>10}{'s':>8}{'CPU s':>8}{'MB/s':>8}{'entities/s':>12}"
        f"{'of the limit':>14}{'ours is':>9}",
    ]
    for rate in (limit_rate, ours, *others):
        times = ours["megabytes_per_second"] / rate["megabytes_per_second"]
        rows.append(
            f"{rate['name']:30}{rate['processes']:>10}{rate['json_bytes'] / 1e6:>10,.0f}"
            f"{rate['seconds']:>8.2f}{rate['cpu_seconds']:>8.2f}{rate['megabytes_per_second']:>8,.0f}"
            f"{rate['entities_per_second']:>12,.0f}{rate['of_the_limit']:>14.2f}{times:>8.1f}×"
        )
    mega = 1e6
    rows += [
        "",
        f"store: {store['bytes'] / mega:,.1f} MB (LMDB {store['lmdb_bytes'] / mega:,.1f}), "
        f"{store['bytes_per_record']:,.0f} B a record; "
        + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in store["stages"].items())
        + ", the rest is the start of the process",
        f"memory: {store['worker_peak'] / mega:,.0f} MB a worker "
        f"({store['worker_private'] / mega:,.0f} private), "
        f"{store['main_peak'] / mega:,.0f} MB the main process "
        f"({store['main_private'] / mega:,.0f} private, the rest is mostly LMDB's page cache)",
        f"a whole Wikidata ({projection['json_bytes'] / 1e12:.1f} TB, "
        f"{projection['entities'] / 1e6:.0f} M entities) on {ours['processes']} such cores, a "
        f"projection: {projection['seconds'] / 3600:.2f} h, "
        f"{projection['store_bytes'] / 1e9:,.0f} GB of store",
    ]
    return "\n".join(rows)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.etl",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--json-bytes", type=parse_size, default=parse_size("1.2G"), metavar="SIZE")
    add("--dump", type=Path, metavar="FILE", help="a .json.gz to measure on instead")
    add("--work", type=Path, default=_ROOT / "data" / "bench", metavar="DIR")
    add("--workers", type=int, default=os.cpu_count() or 1)
    add("--seed", type=int, default=0)
    add("--repeat", type=int, default=2, help="runs of the limit and of sparqless  [2]")
    add("--peer-bytes", type=parse_size, default=parse_size("150M"), metavar="SIZE")
    add("--json", action="store_true", help="print figures as JSON")
    options = parser.parse_args(arguments)
    if options.dump and not options.dump.name.endswith(".json.gz"):
        parser.error(f"--dump {options.dump}: only a .json.gz has members to share out")
    return options


def _made(options: argparse.Namespace) -> Path:
    """The dump of the size asked for, from an earlier run where there is one."""
    name = f"dump-{options.json_bytes}-seed{options.seed}-v{VERSION}.json.gz"
    path: Path = options.work / name
    if not path.exists():
        write(Plan.of_size(options.json_bytes, options.seed), path, options.workers, quiet=False)
    return path


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    options = _options(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    path = (options.dump or _made(options)).resolve()
    store = options.work / "store"
    figures = measure(path, store, options.workers, options.repeat, options.peer_bytes)
    print(json.dumps(figures, indent=1) if options.json else report(figures))


if __name__ == "__main__":
    main()
