"""What `sparqless quality` shows of a data set's `quality.parquet`: counts, and the worst of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ujson

from etl.errors import UserError
from etl.show import printable
from graph.findings import KINDS, Rows
from graph.quality import FOUND, QUALITY_FILE
from graph.read import manifest_of


@dataclass(frozen=True)
class Count:
    """How many findings of a kind there are: all, those in the table, of these in the data set."""

    kind: str
    found: int
    listed: int
    in_data_set: int


@dataclass(frozen=True)
class Quality:
    """Counts of the kinds that were looked for, and some rows, as the table has them."""

    counts: list[Count]
    rows: list[dict[str, Any]]


def read_quality(data_set: Path, kind: str | None = None, limit: int = 20) -> Quality:
    """Read the counts and the `limit` findings that are most worth a look, of one kind or of all.

    Those that touch the data set come before others, then those with the highest count.  Of all
    kinds, each gives one in turn, so that no kind crowds out the rest.

    Raises
    ------
    UserError : the directory is no finished data set, has lost a file or has no `quality.parquet`;
        there is no such kind, or the store did not keep what it takes to find it.
    """
    manifest_of(data_set)
    file = data_set / QUALITY_FILE
    if not file.is_file():
        raise UserError(
            f"{data_set} has no {QUALITY_FILE}: make the data set again with `sparqless graph`."
        )
    try:
        with pq.ParquetFile(file) as parquet:
            found = ujson.loads(parquet.metadata.metadata[FOUND.encode()])
            _check_kind(kind, found, data_set)
            heads = parquet.read(columns=["kind", "count", "in_data_set"])
            rows = _taken(parquet, _worst(heads, kind, limit))
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{file} can't be read ({' '.join(str(error).split())}); see what "
            f"`sparqless verify {data_set}` says."
        ) from error
    counts = [_count(name, number, heads) for name, number in found.items() if kind in (None, name)]
    return Quality(counts, rows)


def _check_kind(kind: str | None, found: dict[str, int], data_set: Path) -> None:
    if kind is not None and kind not in KINDS:
        raise UserError(f"there is no kind {kind!r}; kinds are {', '.join(KINDS)}.")
    if kind is not None and kind not in found:
        raise UserError(
            f"{kind} was not looked for in {data_set}: its store did not keep the property."
        )


def _count(kind: str, found: int, heads: pa.Table) -> Count:
    inside = heads.filter(pc.equal(heads.column("kind"), kind)).column("in_data_set")
    return Count(kind, found, len(inside), pc.sum(inside).as_py() or 0)


def _worst(heads: pa.Table, kind: str | None, limit: int) -> Rows:
    """Return the numbers of the rows to show: kind by kind, and of a kind the worst first."""
    rows = np.arange(len(heads))
    if kind is not None:
        rows = np.flatnonzero(pc.equal(heads.column("kind"), kind).to_numpy())
    heads = heads.take(pa.array(rows))
    kinds = heads.column("kind").combine_chunks().dictionary_encode().indices.to_numpy()
    inside, count = heads.column("in_data_set").to_numpy(), heads.column("count").to_numpy()
    order = np.lexsort((rows, -count, ~inside, kinds))
    kinds = kinds[order]
    turn = np.arange(len(order)) - np.searchsorted(kinds, kinds)  # place within its kind
    shown = np.sort(np.lexsort((kinds, turn))[:limit])
    taken: Rows = rows[order[shown]]
    return taken


def _taken(parquet: pq.ParquetFile, rows: Rows) -> list[dict[str, Any]]:
    """Return some rows of a file in the order given; reads the row groups that have them."""
    sizes = [parquet.metadata.row_group(n).num_rows for n in range(parquet.num_row_groups)]
    starts = np.cumsum([0, *sizes])
    found: dict[int, dict[str, Any]] = {}
    for group in np.unique(np.searchsorted(starts, rows, "right") - 1).tolist():
        inside = rows[(rows >= starts[group]) & (rows < starts[group + 1])]
        table = parquet.read_row_group(group).take(pa.array(inside - starts[group]))
        found |= zip(inside.tolist(), table.to_pylist(), strict=True)
    return [found[row] for row in rows.tolist()]


def as_plain(quality: Quality) -> dict[str, Any]:
    """What was read as plain data, for JSON."""
    counts = {
        count.kind: {
            "found": count.found,
            "listed": count.listed,
            "in_data_set": count.in_data_set,
        }
        for count in quality.counts
    }
    return {"counts": counts, "findings": quality.rows}


def lines(quality: Quality) -> Iterator[str]:
    """For people: a line per kind, then the findings under their kinds."""
    return map(printable, _lines(quality))


def _remark(count: Count) -> str:
    remark = KINDS[count.kind]
    if count.listed < count.found:
        remark += f"; {count.listed:,} are listed"
    if count.in_data_set < count.listed:
        remark += f"; {count.in_data_set:,} in the data set"
    return remark


def _lines(quality: Quality) -> Iterator[str]:
    kinds = max((len(count.kind) for count in quality.counts), default=0)
    numbers = max((len(f"{count.found:,}") for count in quality.counts), default=0)
    for count in quality.counts:
        yield f"{count.kind:<{kinds}}  {count.found:>{numbers},}  {_remark(count)}"
    for kind, rows in groupby(quality.rows, key=lambda row: str(row["kind"])):
        yield ""
        yield kind
        for row in rows:
            yield f"  {row['detail']}"
