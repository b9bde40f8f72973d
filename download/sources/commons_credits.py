"""Licence, creator, captions and size of the files that other sources name.

The mediainfo dump knows them of every file, whatever it depicts. CC BY and its relatives ask for
them, so images of the source commons-p18, which has only names, want this one beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from download.mediainfo_files import OPTIONS, inputs
from download.sources import Request, Source

_WANTED: Final = """
CREATE TABLE wanted AS
SELECT DISTINCT file FROM read_parquet($tables, hive_partitioning = false) WHERE file IS NOT NULL
"""

_ROWS: Final = "SELECT files.* FROM files SEMI JOIN wanted USING (file) ORDER BY file"


def find(request: Request) -> Mapping[str, Any]:
    """Writes what the dump knows of each file, ordered by file."""
    from download.candidates import FACTS, FACTS_FILE
    from download.joining import count, literally, record_batches
    from download.mediainfo_files import Describer, opened
    from etl.progress import Progress
    from etl.tables import TableWriter

    tables = [literally(path) for path in request.found.values()]
    counts = {"wanted": 0, "found": 0, "with_licence": 0}
    with opened(request) as files:
        if tables:
            files.database.execute(_WANTED, {"tables": tables})
            counts["wanted"] = count(files.database, "SELECT count(*) FROM wanted")
        with (
            Describer(request) as describer,
            Progress("matching", counts["wanted"], unit=" files", quiet=request.quiet) as progress,
            TableWriter(request.out / FACTS_FILE, FACTS) as writer,
        ):
            for batch in record_batches(files.database, _ROWS, rows=1 << 15) if tables else ():
                facts = describer.facts(batch)
                writer.write(facts)
                counts["with_licence"] += facts.num_rows - facts["licence"].null_count
                progress.add(batch.num_rows)
        counts["found"] = writer.rows
        return {"counts": counts, "mediainfo": files.manifest, "warnings": files.warnings}


SOURCE: Final = Source(
    "commons-credits",
    "Licence, creator and captions of files that other sources name, from the mediainfo dump.",
    inputs,
    find,
    OPTIONS,
    kind="facts",
)
