"""Other readers of a dump, each as it ships, on the same first part of a file.

- a plain loop, gzip and ujson, one process;
- qwikidata's WikidataJsonDump and WikidataItem, one process;
- KGTK's import-wikidata: nodes, edges and qualifiers as TSV, with ``--procs`` as many as ours. The
  command runs in an environment of its own, where nothing of KGTK but this command is loaded: its
  other commands want 3 GB of packages, some of which do not build for Python 3.11;
- wikibase-dump-filter: one process, fed by ``gzip -dc``; keeps what the store keeps.

The last two run where ``install`` has put them, below ``data/bench``.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import ujson
from qwikidata.entity import WikidataItem
from qwikidata.json_dump import WikidataJsonDump

from benchmarks import watch
from benchmarks.build import Rate
from etl.kept import DEFAULT_LANGUAGES

_LIMIT = 120.0  # seconds: KGTK is known to hang (usc-isi-i2/kgtk#648, #695)

_KGTK = "kgtk==1.5.4"
#: What import-wikidata imports; versions are KGTK's where it names them.
_KGTK_IMPORTS = (
    *("attrs", "iso-639", "pandas", "pycountry", "pyrallel.lib==0.0.9", "python-dateutil"),
    *("rfc3986", "setuptools<81", "sh==1.14.3", "simplejson"),
)
_IMPORT_WIKIDATA = """
import sys
from kgtk import cli_entry
cli_entry.handlers = [found for found in cli_entry.handlers if found[0] == "import_wikidata"]
sys.exit(cli_entry.cli_entry())
"""
_DUMP_FILTER = "wikibase-dump-filter@6.1.1"
#: Arguments of a Python whose packages are to be installed.
PIP = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet")
_PIPE = 'set -o pipefail; gzip -dc "$0" | "$@" > /dev/null'


def install(work: Path) -> list[str]:
    """Install KGTK and wikibase-dump-filter; a line for each that can't be."""
    kgtk = [
        [sys.executable, "-m", "venv", str(work / "kgtk")],
        [str(_kgtk(work)), *PIP, "--no-deps", _KGTK],
        [str(_kgtk(work)), *PIP, *_KGTK_IMPORTS],
    ]
    npm = [["npm", "install", "--no-fund", "--prefix", str(work / "node"), _DUMP_FILTER]]
    failed = [
        installed("KGTK", work / "kgtk", kgtk),
        installed("wikibase-dump-filter", work / "node", npm),
    ]
    return [line for line in failed if line is not None]


def put_below(directory: Path, package: str) -> str | None:
    """Install a package of this Python alone into a directory; a line where it can't be."""
    pip = [sys.executable, *PIP, "--upgrade", "--no-deps", "--target", str(directory), package]
    return installed(package, directory, [pip])


def installed(name: str, directory: Path, steps: list[list[str]]) -> str | None:
    """Install something into a directory, which is gone if it fails; a line that says why then."""
    try:
        for step in steps:
            subprocess.run(step, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        shutil.rmtree(directory, ignore_errors=True)
        return f"{name} did not install: {_reason(said)}"
    return None


def _reason(said: str) -> str:
    """The line of an installer's output that says why."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), (lines or ["no word"])[-1])


def _kgtk(work: Path) -> Path:
    return work / "kgtk" / "bin" / "python"


def _dump_filter(work: Path) -> Path:
    return work / "node" / "node_modules" / ".bin" / "wikibase-dump-filter"


# --- running them -------------------------------------------------------------------------------


def run(
    part: Path, json_bytes: int, entities: int, work: Path, workers: int, repeat: int
) -> Iterator[Rate | str]:
    """The best rate of each on ``part``, a .gz of ``entities`` lines; a line for one without any.

    Raises RuntimeError where one counts other entities than there are.
    """
    for name, loop in (("gzip + ujson loop", _plain_loop), ("qwikidata", _qwikidata_loop)):
        best = []
        for _ in range(repeat):
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                seen, *times = pool.submit(_timed, loop, part).result()
            if seen != entities:
                raise RuntimeError(f"{name} saw {seen:,} of {entities:,} entities")
            best.append(times)
        yield Rate(name, 1, json_bytes, entities, *min(best))
    for name, there, command, processes in (
        ("KGTK import-wikidata", _kgtk(work), _kgtk_command(part, work, workers), workers),
        ("wikibase-dump-filter", _dump_filter(work), _dump_filter_command(part, work), 1),
    ):
        if not there.exists():
            yield f"{name} was not measured: it is not installed (`--install-peers`)."
            continue
        measured, failed = [], ""
        for _ in range(repeat):
            try:
                watched = watch.run(command, work, _LIMIT)
                if there == _kgtk(work):
                    _check_nodes(work / "kgtk", entities)
                measured.append((watched.seconds, watched.cpu_seconds))
            except RuntimeError as error:
                said = str(error).removeprefix(" ".join(command)).splitlines()
                failed = " … ".join(line.strip(" :") for line in dict.fromkeys([said[0], said[-1]]))
        if measured:
            yield Rate(name, processes, json_bytes, entities, *min(measured))
        if failed:
            part_of = f" in {repeat - len(measured)} of {repeat} runs" if measured else ""
            yield f"{name} was not measured{part_of}: {failed}."


def _plain_loop(path: Path) -> int:
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
    return seen


def _qwikidata_loop(path: Path) -> int:
    """The loop of qwikidata's README: every item an object, its truthy P31."""
    seen = 0
    for entity in WikidataJsonDump(str(path)):
        if isinstance(entity, dict):
            if entity["type"] == "item":
                WikidataItem(entity).get_truthy_claim_group("P31")
            seen += 1
    return seen


def _timed(loop: Callable[[Path], int], path: Path) -> tuple[int, float, float]:
    started, cpu = time.perf_counter(), time.process_time()
    entities = loop(path)
    return entities, time.perf_counter() - started, time.process_time() - cpu


def _kgtk_command(part: Path, work: Path, workers: int) -> list[str]:
    out = [f"--{name}={work / 'kgtk' / f'{name}.tsv'}" for name in ("node", "edge", "qual")]
    command = [str(_kgtk(work)), "-c", _IMPORT_WIKIDATA, "import-wikidata", "-i", str(part)]
    return [*command, "--procs", str(workers), *out]


def _check_nodes(directory: Path, entities: int) -> None:
    """A worker that broke off early would be a fast one."""
    with (directory / "node.tsv").open("rb") as file:
        nodes = sum(1 for _ in file) - 1
    if nodes != entities:
        raise RuntimeError(f"KGTK wrote {nodes:,} nodes of {entities:,} entities")
    for path in directory.glob("*.tsv"):
        path.unlink()


def _dump_filter_command(part: Path, work: Path) -> list[str]:
    kept = ["--type", "both", "--keep", "type,labels,descriptions,aliases,claims,sitelinks"]
    languages = ["--languages", ",".join(DEFAULT_LANGUAGES)]
    command = [str(_dump_filter(work)), "--quiet", "--claim", "P31|P279|P171", *kept, *languages]
    return ["bash", "-c", _PIPE, str(part), *command]
