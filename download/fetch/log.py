"""What has been fetched: the log of attempts, and what came of every candidate.

Below ``fetches/`` of a directory of images::

    plan/            what is to be asked, and of whom (download/fetch/plan.py)
    log/PART.parquet one part for each finished batch, one row for each attempt (LOG)
    store/PART.bodies the bodies that a part stored, one after the other, and nothing else
    store/index/     LMDB: sha256 → where its body is; can be made again from the log
    open/            batches under way: PART.ndjson (a journal), PART.bodies
    results.parquet  what came of every candidate (RESULTS), row for row as in candidates.parquet
    manifest.json    of a run that came to its end

A part is named ``RRRRR-WWW-NNNNNN``: the run that wrote it, the worker, and the how-many-th of that
worker it is; so parts in the order of their names are in the order of runs. A part is complete if
it stands in ``log/``: what it stored is then on the disk, too. Parts are never changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.errors import UserError

#: Where all this stands in a directory of images.
FOLDER: Final = "fetches"
LOG_FOLDER: Final = "log"
STORE_FOLDER: Final = "store"
OPEN_FOLDER: Final = "open"
INDEX_FOLDER: Final = "store/index"
#: What came of every candidate (columns: RESULTS).
RESULTS_FILE: Final = "results.parquet"

#: One row for each attempt, in the order in which they ended.
LOG: Final = pa.schema(
    [
        ("url_hash", pa.binary(16)),  # of the planned URL, wherever redirects led
        ("url", pa.string()),  # what was asked for, without passwords and queries that are signed
        ("run", pa.int32()),
        ("attempt", pa.int16()),  # of this URL in this run, from 1
        ("at", pa.timestamp("ms", "UTC")),  # when it began
        ("seconds", pa.float32()),
        (
            "outcome",
            pa.string(),
        ),  # download.fetch.outcomes: ok, permanent, transient, refused, moved
        ("reason", pa.string()),  # ok, http_404, robots, …
        ("final", pa.bool_()),  # this run doesn't ask again
        ("status", pa.int16()),  # of HTTP; null where none came
        ("bytes", pa.int64()),  # of the body that came; null where none did
        ("mime", pa.string()),  # by the first bytes of the body, not as the server says
        ("sha256", pa.binary(32)),  # null unless ok
        ("offset", pa.int64()),  # of its body in this part; null where another body is the same
        ("final_url", pa.string()),  # where redirects led, without secrets; null where nowhere
        ("hops", pa.int16()),  # redirects that were followed, in earlier attempts too
        ("retry_after", pa.float32()),  # seconds that the server asked to wait
        ("next_url", pa.string()),  # of `moved`: where to go on, as the server gave it
    ]
)

#: One row for each candidate, in the order of candidates.parquet.
RESULTS: Final = pa.schema(
    [
        ("outcome", pa.string()),  # ok, permanent, transient, refused; null: not yet asked for
        ("reason", pa.string()),
        ("place", pa.int16()),  # of the address that decided: 0 `url`, 1 the first fallback; null
        ("sha256", pa.binary(32)),  # of the body; null unless ok
    ]
)


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt as it stands in a journal; its fields are the columns of LOG, in order."""

    url_hash: bytes
    url: str
    run: int
    attempt: int
    at: int  # milliseconds since 1970
    seconds: float
    outcome: str
    reason: str
    final: bool
    status: int | None = None
    size: int | None = None  # the column `bytes`
    mime: str | None = None
    sha256: bytes | None = None
    offset: int | None = None
    final_url: str | None = None
    hops: int = 0
    retry_after: float | None = None
    next_url: str | None = None


def table_of(rows: Iterable[Row]) -> pa.Table:
    """Rows as a table with the columns LOG."""
    columns = list(zip(*map(msgspec.structs.astuple, rows), strict=True)) or [()] * len(LOG)
    return pa.Table.from_arrays(
        [pa.array(values, field.type) for values, field in zip(columns, LOG, strict=True)],
        schema=LOG,
    )


def read_part(fetches: Path, part: str, columns: list[str], filters: Any = None) -> pa.Table:
    """Columns of a part's rows, in one piece each; those that a filter of Arrow's lets through.

    Raises UserError where it is damaged.
    """
    path = log_file(fetches, part)
    try:
        return pq.read_table(path, columns=columns, filters=filters).combine_chunks()
    except pa.ArrowInvalid as error:
        raise UserError(
            f"{path} is damaged; remove it, and `sparqless images fetch` asks again for what it "
            "had written there."
        ) from error


def asked_to_wait(fetches: Path, part: str) -> Iterator[tuple[str, float]]:
    """(URL, seconds since 1970) of the answers in a part that said until when to wait."""
    columns = ["url", "final_url", "at", "seconds", "retry_after"]
    said = pc.field("retry_after").is_valid()
    for row in read_part(fetches, part, columns, said).to_pylist():
        until = row["at"].timestamp() + row["seconds"] + row["retry_after"]
        yield row["final_url"] or row["url"], until


def part_name(run: int, worker: int, number: int) -> str:
    """The name of a part."""
    return f"{run:05}-{worker:03}-{number:06}"


def next_number(fetches: Path, run: int, worker: int) -> int:
    """The number of the next part that a worker may write."""
    begin = part_name(run, worker, 0)[:-6]
    found = [part for part in parts(fetches) if part.startswith(begin)]
    return int(found[-1].removeprefix(begin)) + 1 if found else 0


def run_of(part: str) -> int:
    """The run that wrote a part."""
    return int(part.partition("-")[0])


def log_file(fetches: Path, part: str) -> Path:
    """Where the rows of a part stand."""
    return fetches / LOG_FOLDER / f"{part}.parquet"


def bodies_file(fetches: Path, part: str) -> Path:
    """Where the bodies of a part stand, if it has any."""
    return fetches / STORE_FOLDER / f"{part}.bodies"


def parts(fetches: Path) -> list[str]:
    """The parts that are complete, in order."""
    return sorted(path.stem for path in (fetches / LOG_FOLDER).glob("*.parquet"))
