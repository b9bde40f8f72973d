"""Commons' mediainfo dump into the tables that image sources read, beside `sparqless etl`.

    python -m benchmarks mediainfo --json-bytes 2G --workers 2

makes a dump of files (kept in data/bench, made once) and reads it, in turn with etl, which reads
its own dump of as much JSON, in the same form and with as many workers. What counts is MB of JSON
a second of the whole process, start, merge and digests included, and memory: 400 MB a worker are
allowed. Each runs `--repeat` times and its best run counts.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks import watch
from benchmarks.build import Rate, build
from benchmarks.dump import write
from benchmarks.files import dump_of
from benchmarks.invented_files import VERSION, FilePlan
from benchmarks.options import ROOT, Options
from benchmarks.report import megabytes, table

#: What is aimed at: of etl's MB of JSON a second, and bytes a worker.
LEAST: Final = 0.8
MOST_MEMORY: Final = 400_000_000

_FORMS = (".json.gz", ".json.bz2")  # Wikimedia publishes both
_READ = (
    "import sys; from pathlib import Path; from download.reading import Options, read; "
    "read([sys.argv[1]], Path(sys.argv[2]), Options(workers=int(sys.argv[3]), quiet=True))"
)


def measure(options: Options) -> dict[str, Any]:
    """All figures, as plain data."""
    return {
        "workers": options.workers,
        "forms": [_form(options, suffix) for suffix in _FORMS],
    }


def _form(options: Options, suffix: str) -> dict[str, Any]:
    items, files = dump_of(options, suffix=suffix), _files_of(options, suffix)
    builds, readings = [], []
    for _ in range(options.repeat):
        builds.append(build(items, options.work / "store", options.workers))
        readings.append(_read(files, options.work / "mediainfo", options.workers))
    etl = min(builds, key=lambda built: built.rate.seconds)
    reading = min(readings, key=lambda found: found["rate"]["seconds"])
    return {
        "form": suffix,
        "etl": _rated(etl.rate) | {"worker_private": etl.watched.worker_private},
        "mediainfo": reading,
        "of_etl": reading["megabytes_per_second"] / etl.rate.megabytes,
        "file_bytes": files.stat().st_size,
    }


def _files_of(options: Options, suffix: str) -> Path:
    """The dump of files to measure on, made once."""
    size, seed = options.json_bytes, options.seed
    path = options.work / f"mediainfo-{size}-seed{seed}-v{VERSION}{suffix}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(FilePlan.of_size(size, seed), path, options.workers, quiet=False)
    return path.resolve()


def _read(path: Path, out: Path, workers: int) -> dict[str, Any]:
    """One reading, as a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-c", _READ, str(path), str(out), str(workers)]
    watched = watch.run(command, ROOT, disk=out)
    manifest = json.loads((out / "manifest.json").read_text())
    counts = manifest["counts"]
    rate = Rate(
        "mediainfo",
        workers,
        counts["json_bytes"],
        counts["files"],
        watched.seconds,
        watched.cpu_seconds,
    )
    return {
        **_rated(rate),
        "stages": {phase: manifest["seconds"][phase] for phase in ("read", "all")},
        "depicts": counts["depicts"],
        "table_bytes": sum(output["bytes"] for output in manifest["outputs"].values()),
        **asdict(watched),
    }


def _rated(rate: Rate) -> dict[str, Any]:
    return {
        "rate": asdict(rate),
        "megabytes_per_second": rate.megabytes,
        "lines_per_second": rate.lines,
    }


def tables(figures: dict[str, Any]) -> str:
    """The figures in markdown."""
    rows, notes = [], []
    for form in figures["forms"]:
        for name, ratio in (("etl", ""), ("mediainfo", f"**{form['of_etl']:.2f}**")):
            found = form[name]
            rate = found["rate"]
            rows.append(
                [
                    f"`{form['form']}` {name}",
                    megabytes(rate["json_bytes"]),
                    f"{rate['seconds']:.2f}",
                    f"{rate['cpu_seconds']:.2f}",
                    f"{found['megabytes_per_second']:,.0f}",
                    f"{found['lines_per_second']:,.0f}",
                    megabytes(found["worker_private"]),
                    ratio,
                ]
            )
        notes.append(_note(form))
    header = ["", "MB of JSON", "s", "CPU s", "MB/s", "lines/s", "MB a worker", "of etl"]
    aimed = f"Aimed at: {LEAST} of etl, at most {megabytes(MOST_MEMORY)} MB a worker; "
    lines = [table(header, rows), "", f"{aimed}{figures['workers']} workers.", "", *notes]
    return "\n".join(lines)


def _note(form: dict[str, Any]) -> str:
    found = form["mediainfo"]
    rate, stages = found["rate"], found["stages"]
    files = rate["entities"]
    return (
        f"- `{form['form']}`: {files:,} files of {rate['json_bytes'] / files:,.0f} bytes and "
        f"{found['depicts']:,} rows of what they depict; {stages['read']:.2f} s read and "
        f"{stages['all'] - stages['read']:.2f} merge and digest; tables "
        f"{found['table_bytes'] / files:,.0f} bytes a file, disk at its peak "
        f"{found['disk_peak'] / files:,.0f}; main process {megabytes(found['main_private'])} MB."
    )


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["mediainfo", *sys.argv[1:]])
