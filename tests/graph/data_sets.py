"""Data sets of a test whose tables are changed after they were built."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from etl.manifest import digests, read_manifest, write_manifest


def rewrite(folder: Path, name: str, table: pa.Table, rows_a_group: int | None = None) -> None:
    """Put a table in place of a data set's, or beside them, and have its manifest list it."""
    pq.write_table(table, folder / f"{name}.parquet", row_group_size=rows_a_group)
    manifest = read_manifest(folder, "graph")
    manifest["outputs"] |= digests(folder, [f"{name}.parquet"], quiet=True)
    write_manifest(folder, {k: v for k, v in manifest.items() if k != "manifest_sha256"})


def without(folder: Path, name: str) -> None:
    """Take a table away, as if an older version had built the data set."""
    manifest = read_manifest(folder, "graph")
    del manifest["outputs"][f"{name}.parquet"]
    write_manifest(folder, {k: v for k, v in manifest.items() if k != "manifest_sha256"})


def with_columns(folder: Path, **values: dict[str, object]) -> None:
    """Set columns of entities.parquet: column -> {id: value}, null for the others."""
    table = pq.read_table(folder / "entities.parquet")
    ids = table.column("id").to_pylist()
    for name, by_id in values.items():
        at = table.schema.get_field_index(name)
        type_ = table.schema.field(at).type
        column = pa.array([by_id.get(id) for id in ids], type_)
        table = table.set_column(at, pa.field(name, type_), column)
    rewrite(folder, "entities", table)
