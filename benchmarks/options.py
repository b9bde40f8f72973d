"""What a user may set of the benchmarks: one set of options for all of them."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dump import parse_size

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Options:
    """Sizes are in bytes of JSON; ``repeat`` runs are made of which the best counts."""

    json_bytes: int = 2_000_000_000
    dump: Path | None = None
    work: Path = ROOT / "data" / "bench"
    workers: int = os.cpu_count() or 1
    seed: int = 0
    repeat: int = 2
    peer_bytes: int = 300_000_000
    install_peers: bool = False
    sizes: tuple[int, ...] = (10**9, 2 * 10**9, 4 * 10**9, 8 * 10**9)
    lines: int = 20_000
    records: int = 5_000_000
    items: int = 10_000_000
    images: int = 20_000_000
    likenesses: int = 5_000_000
    changed: float = 0.05
    kills: int = 50
    photos: int = 4000
    candidates: int = 50_000
    pairs: int = 33_000
    probes: tuple[str, ...] = ()


def add_to(parser: argparse.ArgumentParser) -> None:
    """The options as a command line has them; which benchmark reads which is in their help."""
    add, default = parser.add_argument, Options()
    add(
        "--json-bytes",
        type=parse_size,
        default=default.json_bytes,
        metavar="SIZE",
        help="size of the made dump  [2G]",
    )
    add(
        "--dump",
        type=Path,
        metavar="FILE",
        help="etl, merge, stages: a .json.gz to measure on instead",
    )
    add("--work", type=Path, default=default.work, metavar="DIR", help="[data/bench]")
    add("--workers", type=int, default=default.workers, metavar="N", help="[as many as cores]")
    add("--seed", type=int, default=default.seed, metavar="N")
    add(
        "--repeat",
        type=int,
        default=default.repeat,
        metavar="N",
        help="runs of which the best counts, because other work on a machine only adds  [2]",
    )
    add(
        "--peer-bytes",
        type=parse_size,
        default=default.peer_bytes,
        metavar="SIZE",
        help="etl: the first part of the dump, which the other readers read  [300M]",
    )
    add(
        "--install-peers",
        action="store_true",
        help="etl: install KGTK (pip) and wikibase-dump-filter (npm) below --work first; "
        "graph: rustworkx (pip); probes, fetching: img2dataset (pip); "
        "loading: webdataset 0.2.86 (pip)",
    )
    add(
        "--sizes",
        type=_sizes,
        default=default.sizes,
        metavar="SIZES",
        help="scale: comma-separated  [1G,2G,4G,8G]",
    )
    add("--lines", type=int, default=default.lines, metavar="N", help="stages  [20,000]")
    add("--records", type=parse_size, default=default.records, metavar="N", help="merge  [5M]")
    add("--items", type=parse_size, default=default.items, metavar="N", help="graph  [10M]")
    add("--images", type=parse_size, default=default.images, metavar="N", help="join  [20M]")
    add(
        "--likenesses",
        type=parse_size,
        default=default.likenesses,
        metavar="N",
        help="likeness: so many are clustered, and a fifth of them  [5M]",
    )
    add(
        "--changed",
        type=float,
        default=default.changed,
        metavar="SHARE",
        help="update: share of the entities that changed  [0.05]",
    )
    add("--kills", type=int, default=default.kills, metavar="N", help="kills, fetch_kills  [50]")
    add(
        "--photos",
        type=parse_size,
        default=default.photos,
        metavar="N",
        help="fetching; fetch_kills takes a tenth; loading 2000 at most  [4000]",
    )
    add(
        "--candidates",
        type=parse_size,
        default=default.candidates,
        metavar="N",
        help="hosts  [50,000]",
    )
    add(
        "--pairs",
        type=parse_size,
        default=default.pairs,
        metavar="N",
        help="retrieval: images, each with five texts  [33,000]",
    )
    add(
        "--probes",
        type=lambda text: tuple(text.split(",")),
        default=default.probes,
        metavar="NAMES",
        help="probes: comma-separated  [all]",
    )


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(sorted(parse_size(size) for size in text.split(",")))


def options_of(parsed: argparse.Namespace) -> Options:
    """The options that were parsed."""
    return Options(**{name: getattr(parsed, name) for name in Options.__dataclass_fields__})
