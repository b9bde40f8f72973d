"""The measuring room.

    python -m benchmarks                          lists what there is
    python -m benchmarks etl --json-bytes 2G      runs one, prints its tables
    python -m benchmarks all --write              runs all, for the record

``--write`` puts the tables into docs/performance.md, each into its own place, so that a figure
there is always one that a run printed. Compare ratios, not seconds: machines differ, and other
work on them only ever adds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys

from benchmarks import options, report

#: In the order in which they run; each is a module with ``measure`` and ``tables``.
NAMES = {
    "etl": "a dump into a store, beside the machine's limit and other readers",
    "formats": "the same JSON in every format, beside the tool that inflates it",
    "stages": "where the processor time of a line goes",
    "merge": "the merge alone, in records a second",
    "scale": "time and memory from 1 to 8 GB of JSON",
    "update": "--update-from beside a full build",
    "kills": "processes killed at random, and what is in the store in the end",
    "explain": "one explanation, beside the interpreter's start",
    "judged": "how often natural types and visuality are right, on items that were judged",
    "mediainfo": "Commons' files into tables, beside etl",
    "join": "sizes of files from 20 million rows of MediaWiki's table `image`",
    "candidates": "where images of 150,000 entities are, from 20 million files",
    "likeness": "how often copies are found and look-alikes merged; clusters of 5 million",
    "fetching": "images of a local nginx into shards, beside img2dataset and the machine's limit",
    "probes": "what a hostile server gets done, to us and to img2dataset",
    "hosts": "50,000 candidates over 200 hosts that fail in all ways",
    "fetch_kills": "processes of a fetch and a pack killed at random, and the shards in the end",
    "texts": "tables of texts of a million queries, and draws a second from them",
    "training": "images a second of `train`, beside open_clip_train; the step alone on a GPU",
    "loading": "images of shards for training, without a model, beside open_clip_train's loader",
    "retrieval": "recalls of 33,000 images and 165,000 texts, beside the matrix products alone",
    "graph": "a data set of a store of 10 million items, beside networkx and rustworkx",
}

#: Not part of `all`: they need what isn't part of the project.
_APART = {"judged", "retrieval"}

#: Those that measure on a dump that is given, too.
_GIVEN = {"etl", "merge", "stages"}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        "python -m benchmarks",
        description=f"{__doc__}\n{_list()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)} or all")
    parser.add_argument("--write", action="store_true", help="put the tables into the docs")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    options.add_to(parser)
    parsed = parser.parse_args(arguments)
    unknown = set(parsed.names) - {*NAMES, "all"}
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if not parsed.names:
        print(_list())
        return
    every = [name for name in NAMES if name not in _APART]
    chosen = every if "all" in parsed.names else parsed.names
    if parsed.dump and not parsed.dump.name.endswith(".json.gz"):
        parser.error(f"--dump {parsed.dump}: only a .json.gz has members to share out")
    if parsed.dump and set(chosen) - _GIVEN:
        parser.error(f"--dump is for {', '.join(sorted(_GIVEN))}: the others need made ones")
    for name in chosen:
        _run(name, parsed, arguments)


def _run(name: str, parsed: argparse.Namespace, arguments: list[str]) -> None:
    """One benchmark; with JSON, a line of it."""
    module = importlib.import_module(f"benchmarks.{name}")
    machine = report.machine()
    figures = module.measure(options.options_of(parsed))
    if parsed.json:
        print(json.dumps({"benchmark": name, "machine": machine, **figures}), flush=True)
        return
    given = [a for a in arguments if a not in (*NAMES, "all", "--write")]
    command = shlex.join(["python", "-m", "benchmarks", name, *given])
    text = f"{module.tables(figures)}\n\n*{machine}; `{command}`*"
    print(f"\n## {name}\n\n{text}", flush=True)
    if parsed.write:
        report.put(name, text, getattr(module, "PAGE", report.PAGE))


def _list() -> str:
    return "\n".join(["benchmarks:", *(f"  {name:11} {what}" for name, what in NAMES.items())])


if __name__ == "__main__":
    main()
