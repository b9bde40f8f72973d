"""Parquet as every stage writes it: options and row groups fixed, so equal rows are equal bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

#: Rows per row group, unless a file says why not. Part of the bytes' identity: never change it
#: lightly.
ROW_GROUP: Final = 1 << 17

#: Key–value pair in the footer of an edge file: how many rows, from the first on, are truthy.
TRUTHY_ROWS: Final = "truthy_rows"


class TableWriter:
    """A Parquet file fed with tables of any length, cut into row groups of ``row_group`` rows.

    The bytes depend on the rows alone, not on the pieces they came in. ``repeated`` are the
    columns whose values come again and again, where not all are worth a dictionary. ``close`` is
    called by ``with``; after an exception the file is left for the caller to remove.

    Raises OSError where the disk is full.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        *,
        row_group: int = ROW_GROUP,
        repeated: list[str] | None = None,
    ) -> None:
        self._row_group = row_group
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self.rows = 0
        self._writer = pq.ParquetWriter(
            path,
            schema,
            version="2.6",
            compression="zstd",
            compression_level=3,
            use_dictionary=True if repeated is None else repeated,
            write_statistics=True,
            data_page_version="1.0",
        )

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(flush=kind is None)

    def write(self, table: pa.Table) -> None:
        """Adds rows; whole row groups go to the file at once."""
        self._waiting.append(table)
        self._rows += table.num_rows
        self.rows += table.num_rows
        if self._rows < self._row_group:
            return
        joined = pa.concat_tables(self._waiting).combine_chunks()
        whole = self._rows - self._rows % self._row_group
        self._writer.write_table(joined.slice(0, whole), row_group_size=self._row_group)
        self._waiting = [joined.slice(whole)]
        self._rows -= whole

    def close(self, *, flush: bool = True, metadata: dict[str, str] | None = None) -> None:
        """Writes what waits and the footer; ``metadata`` joins the footer's key–value pairs."""
        if not self._writer.is_open:
            return
        if flush and self._rows:
            joined = pa.concat_tables(self._waiting).combine_chunks()
            self._writer.write_table(joined, row_group_size=self._row_group)
        self._waiting = []
        if metadata:
            self._writer.add_key_value_metadata(metadata)
        self._writer.close()


def write_table(path: Path, table: pa.Table) -> None:
    """Writes one table with the fixed options."""
    with TableWriter(path, table.schema) as writer:
        writer.write(table)
