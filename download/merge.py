"""Tables of several sources → one: a row for each entity and URL, with all sources and reasons.

All tables have the order of the entities, so they are read side by side, some thousands of
entities at a time. Rows about the same file of Wikimedia Commons, or the same URL, become one;
what facts sources know of a file is laid over them; and only then, when the width of the original
is known if anybody knows it, addresses are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from download.candidates import CANDIDATES, FACTS, FOUND
from download.commons import Commons, addresses, page_url
from download.joining import connect, literally, record_batches
from etl.progress import Progress
from etl.tables import TableWriter
from graph.tables import id_numbers

_ENTITIES = 200  # at a time: with 100 images each from every source some 50 MB
_READ = 1 << 15  # rows read from a table at once

#: What a facts source knows better than the rows of others; texts are added to theirs.
_FACTS: Final = [name for name in FACTS.names if name not in ("file", "texts", "text_langs")]
_LISTS: Final = ("reasons", "query_hashes", "fallback_urls")
_FIRST: Final = [
    field.name
    for field in FOUND
    if not pa.types.is_list(field.type) and field.name not in ("entity", "score")
]


@dataclass(frozen=True)
class Part:
    """One source's table; ``facts`` is about files, the others hold candidates."""

    name: str
    table: Path
    facts: bool = False


def merge(
    entities: Path,
    parts: Sequence[Part],
    commons: Commons,
    out: Path,
    scratch: Path,
    *,
    quiet: bool = False,
) -> dict[str, int]:
    """Writes the merged table to ``out``; returns its counts.

    ``entities`` has the columns ENTITIES, in the order that all tables have. Of several values for
    one image facts sources come first, then the others, each in the order of ``parts``. ``scratch``
    is a directory for what doesn't fit the memory.
    """
    found = [part for part in parts if not part.facts]
    facts = [part for part in parts if part.facts]
    counts = {"candidates": 0, "no_picture": 0, "with_images": 0}
    total = sum(pq.read_metadata(part.table).num_rows for part in found)
    with (
        Progress("merging", total, unit=" rows", quiet=quiet) as progress,
        connect(scratch) as database,
        TableWriter(out, CANDIDATES) as writer,
    ):
        rows = [_Rows(part, [_facts_of(database, part, f) for f in facts]) for part in found]
        for last in _bounds(entities):
            taken = [table for one in rows if (table := one.up_to(last)) is not None]
            if taken:
                table = pa.concat_tables(taken)
                writer.write(_merged(table, commons, counts))
                progress.add(table.num_rows)
    counts["candidates"] = writer.rows
    return counts


def _bounds(entities: Path) -> Iterator[int]:
    """The number of the last of every so many entities."""
    for batch in pq.ParquetFile(entities, pre_buffer=False).iter_batches(_ENTITIES, columns=["id"]):
        yield int(id_numbers(batch.column(0))[-1])


# --- reading side by side -----------------------------------------------------------------------


def _facts_of(
    database: duckdb.DuckDBPyConnection, part: Part, facts: Part
) -> Iterator[pa.RecordBatch]:
    """What ``facts`` knows of the files in the rows of ``part``: ``row``, then its columns."""
    return record_batches(
        database.cursor(),  # others are read at the same time
        "SELECT found.file_row_number AS row, facts.* EXCLUDE (file) "
        "FROM read_parquet($found, file_row_number = true) AS found "
        "JOIN read_parquet($facts) AS facts USING (file) ORDER BY row",
        {"found": literally(part.table), "facts": literally(facts.table)},
        _READ,
    )


class _Rows:
    """The rows of one source, entities by entities, with what facts sources know of them."""

    def __init__(self, part: Part, facts: Sequence[Iterator[pa.RecordBatch]]) -> None:
        self._name = part.name
        self._batches = pq.ParquetFile(part.table, pre_buffer=False).iter_batches(
            _READ, columns=FOUND.names
        )
        self._waiting = FOUND.empty_table()
        self._numbers = np.empty(0, np.int64)
        self._row = 0  # of the first row that waits
        self._facts = [_Facts(batches) for batches in facts]

    def up_to(self, last: int) -> pa.Table | None:
        """All rows not yet taken of entities up to a number; None where there are none."""
        while not len(self._numbers) or self._numbers[-1] <= last:
            batch = next(self._batches, None)
            if batch is None:
                break
            more = pa.Table.from_batches([batch]).cast(FOUND)
            self._waiting = pa.concat_tables([self._waiting, more])
            self._numbers = np.append(self._numbers, id_numbers(more["entity"]))
        count = int(np.searchsorted(self._numbers, last, side="right"))
        if not count:
            return None
        taken, self._waiting = self._waiting.slice(0, count), self._waiting.slice(count)
        self._numbers = self._numbers[count:]
        first, self._row = self._row, self._row + count
        lacking = pc.equal(pc.fill_null(pc.list_value_length(taken["texts"]), 0), 0)
        for facts in reversed(self._facts):  # the first that is named is laid over the others
            taken = facts.laid_over(taken, first, lacking)
        source = pa.array([self._name]).take(pa.array(np.zeros(count, np.int8)))
        return taken.append_column("source", source)


class _Facts:
    """What one facts source knows of one source's rows, in their order."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._waiting: pa.Table | None = None

    def laid_over(self, rows: pa.Table, first: int, lacking: pa.ChunkedArray) -> pa.Table:
        """``rows``, the first of which has the number ``first``, with what is known of them.

        Texts are given to those that are ``lacking`` any of their own.
        """
        known = self._until(first + rows.num_rows)
        if known is None or not known.num_rows:
            return rows
        at = np.full(rows.num_rows, -1)
        at[known["row"].to_numpy() - first] = np.arange(known.num_rows)
        places = pa.array(at, mask=at < 0)
        for name in _FACTS:
            better = known[name].combine_chunks().take(places).cast(FOUND.field(name).type)
            values = pc.coalesce(better, rows[name])
            rows = rows.set_column(rows.schema.get_field_index(name), FOUND.field(name), values)
        return _with_texts(rows, known, places, lacking)

    def _until(self, row: int) -> pa.Table | None:
        """What is known of rows below a number and wasn't given yet."""
        pieces = [] if self._waiting is None else [self._waiting]
        while not pieces or not pieces[-1].num_rows or pieces[-1]["row"][-1].as_py() < row:
            batch = next(self._batches, None)
            if batch is None:
                break
            pieces.append(pa.Table.from_batches([batch]))
        if not pieces:
            return None
        table = pa.concat_tables(pieces)
        count = int(np.searchsorted(table["row"].to_numpy(), row))
        self._waiting = table.slice(count)
        return table.slice(0, count)


def _with_texts(
    rows: pa.Table, known: pa.Table, places: pa.Array, lacking: pa.ChunkedArray
) -> pa.Table:
    """Gives rows without texts those that are known of their file."""
    there = pc.greater(pc.list_value_length(known["texts"].combine_chunks().take(places)), 0)
    given = pc.and_(lacking, pc.fill_null(there, False))
    for name in ("texts", "text_langs"):
        theirs = known[name].combine_chunks().take(places).cast(FOUND.field(name).type)
        values = pc.if_else(given, theirs, rows[name])
        rows = rows.set_column(rows.schema.get_field_index(name), FOUND.field(name), values)
    return rows


# --- uniting ------------------------------------------------------------------------------------


def _merged(rows: pa.Table, commons: Commons, counts: dict[str, int]) -> pa.Table:
    """Rows of some entities from all sources → merged rows in the order of the table."""
    image = pc.coalesce(pc.binary_join_element_wise("file", rows["file"], ":"), rows["url"])
    key = pc.binary_join_element_wise(rows["entity"], image, " ")
    code = pc.dictionary_encode(key).combine_chunks().indices.to_numpy()
    several = np.bincount(code)[code] > 1
    alone = _alone(rows.filter(pa.array(~several)))
    united = _united(rows.filter(pa.array(several)).to_pylist(), code[several])
    table = _addressed(pa.concat_tables([alone, united]), commons, counts)
    table = _ordered(_without_null_lists(table))
    counts["with_images"] += pc.count_distinct(table["entity"]).as_py()
    return table


def _alone(rows: pa.Table) -> pa.Table:
    """Rows that stand for themselves."""
    sources = rows["source"].combine_chunks()
    start = pa.array(np.arange(len(sources) + 1, dtype=np.int32))
    rows = rows.append_column("sources", pa.ListArray.from_arrays(start, sources))
    return rows.select(CANDIDATES.names).cast(CANDIDATES)


def _united(rows: Iterable[dict[str, Any]], codes: npt.NDArray[np.int32]) -> pa.Table:
    """One row for all of the same code: lists joined, of single values the first that is one."""
    groups: dict[int, list[dict[str, Any]]] = {}
    for row, code in zip(rows, codes.tolist(), strict=True):
        groups.setdefault(code, []).append(row)
    return pa.Table.from_pylist([_one_of(group) for group in groups.values()], schema=CANDIDATES)


def _one_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    texts = [
        pair
        for row in rows
        for pair in zip(row["texts"] or (), row["text_langs"] or (), strict=True)
    ]
    return {
        "entity": rows[0]["entity"],
        "sources": list(dict.fromkeys(row["source"] for row in rows)),
        **{n: list(dict.fromkeys(x for row in rows for x in row[n] or ())) for n in _LISTS},
        "texts": [text for text, _ in dict.fromkeys(texts)],
        "text_langs": [lang for _, lang in dict.fromkeys(texts)],
        **{n: next((row[n] for row in rows if row[n] is not None), None) for n in _FIRST},
        "score": max((row["score"] for row in rows if row["score"] is not None), default=None),
    }


def _addressed(rows: pa.Table, commons: Commons, counts: dict[str, int]) -> pa.Table:
    """Rows with the addresses of the files of Commons among them; without those of no picture."""
    files = np.flatnonzero(pc.is_valid(rows["file"]).to_numpy())
    columns = {n: rows[n].to_pylist() for n in ("url", "fallback_urls", "page_url")}
    keep = np.ones(rows.num_rows, bool)
    named = rows.select(["file", "width", "height"]).take(pa.array(files))
    known = zip(*(named[n].to_pylist() for n in named.column_names), strict=True)
    for row, (file, width, height) in zip(files.tolist(), known, strict=True):
        found = addresses(commons, file, width, height)
        if found is None:
            keep[row] = False
            continue
        columns["url"][row] = found.url
        columns["fallback_urls"][row] = list(found.fallback_urls)
        columns["page_url"][row] = page_url(file)
    counts["no_picture"] += int(np.count_nonzero(~keep))
    for name, values in columns.items():
        field = CANDIDATES.field(name)
        rows = rows.set_column(
            CANDIDATES.get_field_index(name), field, pa.array(values, field.type)
        )
    return rows.filter(pa.array(keep))


def _without_null_lists(rows: pa.Table) -> pa.Table:
    """Rows whose lists are empty where they were null."""
    for index, field in enumerate(CANDIDATES):
        if pa.types.is_list(field.type) and rows.column(index).null_count:
            empty = pa.scalar([], field.type)
            values = pc.if_else(pc.is_valid(rows.column(index)), rows.column(index), empty)
            rows = rows.set_column(index, field, values)
    return rows


def _ordered(rows: pa.Table) -> pa.Table:
    """By the number of the entity, then the best score, then the URL."""
    number = pa.array(id_numbers(rows["entity"]))
    order = pc.sort_indices(
        pa.table({"number": number, "score": rows["score"], "url": rows["url"]}),
        [("number", "ascending"), ("score", "descending"), ("url", "ascending")],
    )
    return rows.take(order)
