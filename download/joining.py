"""DuckDB for joins and sorts larger than memory, set up alike wherever it is used.

    with connect(request.scratch) as database:
        database.register("wanted", table)  # an Arrow table, or a RecordBatchReader
        query = (
            "SELECT file, width FROM wanted JOIN read_parquet($facts) USING (file) ORDER BY file"
        )
        for batch in record_batches(database, query, {"facts": str(path)}):
            ...

Values go in as parameters and tables as registered ones: no statement is made from data. Only an
ORDER BY over a key (columns that tell all rows apart) makes the same bytes each time.
"""

from __future__ import annotations

import glob
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from etl.errors import UserError
from etl.progress import Progress
from etl.show import in_bytes
from etl.tables import ROW_GROUP

#: What DuckDB keeps in memory before it goes to the disk. The limit is on its buffers: a process
#: that joins 20 million rows with as many and sorts them has 927 MB at its peak with 384 MB, and
#: 1,008 with 512 (benchmarks/join.py); the interpreter and Arrow are some 200 of these.
MEMORY: Final = "384MB"

#: Fixed, because every thread has buffers of its own, and a limit that does for two threads
#: doesn't for the 64 that DuckDB would start on a machine with as many cores.
_THREADS: Final = 2

_SETTINGS: Final[dict[str, bool | int]] = {
    "threads": _THREADS,
    # Keeping the order of rows that nobody asked an order of makes DuckDB hold back whole results
    # (its guide "Tuning Workloads"); all that is written from here has an ORDER BY.
    "preserve_insertion_order": False,
    # A statement sees what was registered and no variable that happens to have a table's name.
    "python_enable_replacements": False,
    # What a wheel has in it is enough; nothing is fetched while it works.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}

#: How the folders begin that it spills to.
SPILL: Final = "spill-"

_LOOK_SECONDS = 0.2


@contextmanager
def connect(work: Path, memory: str = MEMORY) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database in memory that spills below ``work`` and leaves nothing there.

    ``memory`` is DuckDB's ``memory_limit``. What a killed process left there is removed with
    ``work``, which is its caller's.

    Raises UserError where a statement doesn't get by with that, the disk is full, or a table
    can't be read.
    """
    spill = tempfile.mkdtemp(prefix=SPILL, dir=work)
    try:
        settings: dict[str, Any] = {**_SETTINGS, "memory_limit": memory, "temp_directory": spill}
        with duckdb.connect(":memory:", config=settings) as database:
            # else a statement that takes seconds draws a bar on standard output; see `shown`
            database.execute("SET enable_progress_bar = false")
            yield database
    except (duckdb.Error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's own, of a file that was being written
        raise _told(error, work, memory) from error
    finally:
        shutil.rmtree(spill, ignore_errors=True)


@contextmanager
def shown(database: duckdb.DuckDBPyConnection, what: str, *, quiet: bool) -> Iterator[None]:
    """Shows how much of each statement that runs meanwhile is done, as DuckDB estimates it."""
    database.execute("SET enable_progress_bar = true")  # reckoned, and not printed
    database.execute("SET enable_progress_bar_print = false")
    ended = threading.Event()
    with Progress(what, 100, unit="%", quiet=quiet) as progress:

        def look() -> None:
            while not ended.wait(_LOOK_SECONDS):
                progress.add(max(int(database.query_progress()), 0) - progress.done)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _told(error: Exception, work: Path, memory: str) -> Exception:
    """An error of a join in a sentence; one that is no user's is left as it is."""
    reason = str(error).partition("\n")[0].rstrip(".")
    if "failed to offload" in reason or "No space left" in reason:
        free = in_bytes(shutil.disk_usage(work).free)
        return UserError(
            f"{work}: a join can't be written ({reason}; {free} free): make room and run the same "
            "command again."
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return UserError(f"a join needs more memory than its limit, {memory} ({reason}).")
    unreadable = (duckdb.IOException, duckdb.DataError, duckdb.InvalidInputException, OSError)
    if isinstance(error, unreadable) or type(error) is duckdb.Error:
        return UserError(f"a table can't be read ({reason}): `sparqless verify` says which it is.")
    return error


def count(database: duckdb.DuckDBPyConnection, query: str) -> int:
    """The number that a query gives. ``count(DISTINCT x)`` keeps every x in memory, limit or not:

    SELECT count(*) FROM (SELECT DISTINCT x FROM …)
    """
    ((number,),) = database.execute(query).fetchall()
    return int(number)


def view(database: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
    """Makes a table at a path a view; in statements such a table is ::

        read_parquet($path, hive_partitioning = false)

    with :func:`literally`: else a directory named ``year=2026`` adds a column.
    """
    database.read_parquet(literally(path), hive_partitioning=False).create_view(name)


def literally(path: Path) -> str:
    """A path for ``read_parquet``, which takes ``*``, ``?`` and ``[`` as patterns."""
    return glob.escape(str(path.absolute()))


def record_batches(
    database: duckdb.DuckDBPyConnection,
    query: str,
    parameters: Mapping[str, Any] | None = None,
    rows: int = ROW_GROUP,
) -> Iterator[pa.RecordBatch]:
    """What a query gives, ``rows`` rows at a time.

    ``database.execute(query)`` would gather the whole answer first (464 MB of memory instead of
    1,106 for ten million rows of 56 bytes, sorted under a limit of 200 MB).
    """
    found = database.sql(query, params=parameters)
    assert found is not None, "a query has an answer"
    reader: pa.RecordBatchReader = found.to_arrow_reader(rows)
    yield from reader
