"""Tables of several sources → one: a row for each entity and URL, with all sources and reasons.

All tables have the order of the entities, so they are read side by side, a few entities at a time.
Rows about the same file of Wikimedia Commons, or the same URL, become one; what facts sources know
of a file is laid over them; and only then, when the width of the original is known if anybody knows
it, addresses are made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from download.candidates import CANDIDATES, FACTS, FOUND
from download.commons import Commons, addresses, page_url
from download.joining import connect, literally, record_batches
from etl.errors import UserError
from etl.progress import Progress
from etl.tables import TableWriter
from graph.tables import id_numbers

_ENTITIES = 200  # at a time: with 100 images each from every source some 50 MB
_PIECE = 1 << 15  # rows of several sources about the same images that are united at once
_READ = 1 << 15  # rows read from a table at once

#: Values that are of one revision of a file, and so come from one row.
_TOGETHER: Final = (("width", "height"), ("bytes", "sha1"))
#: What a facts source knows better than the rows of others; texts are given where there are none.
_FACTS: Final = ("source_id", "mime", "licence", "creator")
_LISTS: Final = ("reasons", "query_hashes", "fallback_urls")
_FIRST: Final = ("url", "file", "page_url", *_FACTS)

#: What is counted: rows; images left out because their file has no picture, or is no more; entities
#: with an image.
_COUNTS: Final = ("candidates", "no_picture", "gone", "with_images")


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

    Raises UserError where a source's table isn't what the columns FOUND say.
    """
    found = [part for part in parts if not part.facts]
    facts = [part for part in parts if part.facts]
    counts: Counter[str] = Counter()
    rows = [
        _Rows(part, [_Facts(_facts_of(part, known, scratch, quiet=quiet)) for known in facts])
        for part in found
    ]
    total = sum(pq.read_metadata(part.table).num_rows for part in found)
    with (
        Progress("merging", total, unit=" rows", quiet=quiet) as progress,
        TableWriter(out, CANDIDATES) as writer,
    ):
        for last in _bounds(entities):
            taken = [table for one in rows if (table := one.up_to(last)) is not None]
            if taken:
                table = pa.concat_tables(taken)
                writer.write(_merged(table, commons, counts))
                progress.add(table.num_rows)
        for one in rows:
            one.check_taken()
    counts["candidates"] = writer.rows
    return {name: counts[name] for name in _COUNTS}


def _bounds(entities: Path) -> Iterator[int]:
    """The number of the last of every so many entities."""
    file = pq.ParquetFile(entities, pre_buffer=False)
    for batch in file.iter_batches(_ENTITIES, columns=["id"]):
        yield int(id_numbers(batch.column(0))[-1])


# --- reading side by side -----------------------------------------------------------------------


def _facts_of(part: Part, facts: Part, scratch: Path, *, quiet: bool) -> Path:
    """What ``facts`` knows of the files in the rows of ``part``, in a table in their order.

    Its columns are ``row``, the number of a row, then those of FACTS but ``file``. The joins are
    done one after the other, each with all of the memory that a join may have.
    """
    out = scratch / f"{part.name}.{facts.name}.parquet"
    schema = pa.schema([("row", pa.int64()), *(field for field in FACTS if field.name != "file")])
    with (
        Progress(f"joining {facts.name}", None, unit=" rows", quiet=quiet) as progress,
        connect(scratch) as database,
        TableWriter(out, schema) as writer,
    ):
        for batch in record_batches(
            database,
            "SELECT found.file_row_number AS row, facts.* EXCLUDE (file) "
            "FROM read_parquet($found, file_row_number = true, hive_partitioning = false) AS found "
            "JOIN read_parquet($facts, hive_partitioning = false) AS facts USING (file) "
            "ORDER BY row",
            {"found": literally(part.table), "facts": literally(facts.table)},
        ):
            table = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
            writer.write(table)
            progress.add(table.num_rows)
    return out


class _Rows:
    """The rows of one source, entities by entities, with what facts sources know of them."""

    def __init__(self, part: Part, facts: Sequence[_Facts]) -> None:
        self._part = part
        self._batches = pq.ParquetFile(part.table, pre_buffer=False).iter_batches(
            _READ, columns=FOUND.names
        )
        self._waiting = FOUND.empty_table()
        self._numbers = np.empty(0, np.int64)
        self._row = 0  # of the first row that waits
        self._last = 0  # number of the entity of the last row that was read
        self._facts = facts

    def up_to(self, last: int) -> pa.Table | None:
        """All rows not yet taken of entities up to a number; None where there are none."""
        while not len(self._numbers) or self._numbers[-1] <= last:
            batch = next(self._batches, None)
            if batch is None:
                break
            more = pa.Table.from_batches([batch]).cast(FOUND)
            self._waiting = pa.concat_tables([self._waiting, more])
            self._numbers = np.append(self._numbers, self._checked(more))
        count = int(np.searchsorted(self._numbers, last, side="right"))
        if not count:
            return None
        taken, self._waiting = self._waiting.slice(0, count), self._waiting.slice(count)
        self._numbers = self._numbers[count:]
        first, self._row = self._row, self._row + count
        gone = pa.chunked_array([np.zeros(count, bool)])
        taken = taken.append_column("gone", gone)
        lacking = pc.equal(pc.fill_null(pc.list_value_length(taken["texts"]), 0), 0)
        for facts in reversed(self._facts):  # the first that is named is laid over the others
            taken = facts.laid_over(taken, first, lacking)
        source = pa.array([self._part.name]).take(pa.array(np.zeros(count, np.int8)))
        return taken.append_column("source", source)

    def check_taken(self) -> None:
        """Refuses a table that has rows behind the last entity."""
        if len(self._numbers) or next(self._batches, None) is not None:
            raise self._wrong("has rows of entities that images are not wanted of")

    def _checked(self, rows: pa.Table) -> npt.NDArray[np.int64]:
        """The numbers of the entities of rows that are as a source has to write them."""
        numbers = id_numbers(rows["entity"])
        if (np.diff(numbers, prepend=self._last) < 0).any():
            raise self._wrong("is not ordered by entity")
        self._last = int(numbers[-1]) if len(numbers) else self._last
        nowhere = pc.equal(pc.is_valid(rows["file"]), pc.is_valid(rows["url"]))
        if pc.any(nowhere).as_py():
            raise self._wrong("has rows with both a file and a url, or with neither")
        lengths = (pc.fill_null(pc.list_value_length(rows[n]), 0) for n in ("texts", "text_langs"))
        if not pc.all(pc.equal(*lengths)).as_py():
            raise self._wrong("has other languages than texts")
        return numbers

    def _wrong(self, how: str) -> UserError:
        return UserError(
            f"the source {self._part.name} wrote a table that {how}: {self._part.table}; this is "
            "a fault of the source, or the table was changed since (`sparqless verify`)."
        )


class _Facts:
    """What one facts source knows of one source's rows, in their order."""

    def __init__(self, table: Path) -> None:
        self._batches = pq.ParquetFile(table, pre_buffer=False).iter_batches(_READ)
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
        theirs = {name: known[name].combine_chunks().take(places) for name in known.column_names}
        for name in _FACTS:
            rows = _set(rows, name, pc.coalesce(theirs[name], rows[name]))
        for names in _TOGETHER:
            valid = [pc.is_valid(theirs[name]) for name in names]
            better = pc.or_(*valid)
            for name in names:
                rows = _set(rows, name, pc.if_else(better, theirs[name], rows[name]))
        rows = _set(rows, "gone", pc.or_(rows["gone"], pc.fill_null(theirs["gone"], False)))
        texts = pc.fill_null(pc.greater(pc.list_value_length(theirs["texts"]), 0), False)
        given = pc.and_(lacking, texts)
        for name in ("texts", "text_langs"):
            rows = _set(rows, name, pc.if_else(given, theirs[name], rows[name]))
        return rows

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


def _set(rows: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """``rows`` with other values in a column."""
    index = rows.schema.get_field_index(name)
    return rows.set_column(index, rows.schema.field(index), values)


# --- uniting ------------------------------------------------------------------------------------


def _merged(rows: pa.Table, commons: Commons, counts: Counter[str]) -> pa.Table:
    """Rows of some entities from all sources → merged rows in the order of the table."""
    image = pc.coalesce(pc.binary_join_element_wise("file", rows["file"], ":"), rows["url"])
    key = pc.binary_join_element_wise(rows["entity"], image, " ")
    code = pc.dictionary_encode(key).combine_chunks().indices.to_numpy()
    several = np.bincount(code)[code] > 1
    alone = _alone(rows.filter(pa.array(~several)))
    # rows of one image side by side, so that they can be united in pieces
    shared = np.flatnonzero(several)
    shared = shared[np.argsort(code[shared], kind="stable")]
    united = _united(rows.take(pa.array(shared)), code[shared])
    table = _addressed(pa.concat_tables([alone, *united]), commons, counts)
    table = _ordered(_without_null_lists(table))
    counts["with_images"] += pc.count_distinct(table["entity"]).as_py()
    return table


_ROW: Final = pa.schema([*CANDIDATES, ("gone", pa.bool_())])


def _alone(rows: pa.Table) -> pa.Table:
    """Rows that stand for themselves."""
    sources = rows["source"].combine_chunks()
    start = pa.array(np.arange(len(sources) + 1, dtype=np.int32))
    rows = rows.append_column("sources", pa.ListArray.from_arrays(start, sources))
    return rows.select(_ROW.names).cast(_ROW)


def _united(rows: pa.Table, codes: npt.NDArray[np.int32]) -> Iterator[pa.Table]:
    """One row for all of the same code, which stand side by side."""
    start = 0
    while start < len(codes):
        end = min(start + _PIECE, len(codes))
        end = int(np.searchsorted(codes, codes[end - 1], side="right"))
        groups: dict[int, list[dict[str, Any]]] = {}
        piece = rows.slice(start, end - start).to_pylist()
        for row, code in zip(piece, codes[start:end].tolist(), strict=True):
            groups.setdefault(code, []).append(row)
        yield pa.Table.from_pylist([_one_of(group) for group in groups.values()], schema=_ROW)
        start = end


def _one_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row of several about an image: lists joined, of single values the first there is."""
    texts = dict.fromkeys(
        pair
        for row in rows
        for pair in zip(row["texts"] or (), row["text_langs"] or (), strict=True)
    )
    made: dict[str, Any] = {
        "entity": rows[0]["entity"],
        "sources": _each_once(row["source"] for row in rows),
        **{name: _each_once(x for row in rows for x in row[name] or ()) for name in _LISTS},
        "texts": [text for text, _ in texts],
        "text_langs": [lang for _, lang in texts],
        **{name: next((r[name] for r in rows if r[name] is not None), None) for name in _FIRST},
        "score": max((row["score"] for row in rows if row["score"] is not None), default=None),
        "gone": any(row["gone"] for row in rows),
    }
    for names in _TOGETHER:
        known = (row for row in rows if any(row[name] is not None for name in names))
        first = next(known, rows[0])
        made |= {name: first[name] for name in names}
    return made


def _each_once(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _addressed(rows: pa.Table, commons: Commons, counts: Counter[str]) -> pa.Table:
    """Rows with the addresses of the files of Commons among them.

    Without those of files that have no picture or are no more. What a row has of other addresses
    is tried behind those of the file.
    """
    gone = rows["gone"].combine_chunks().to_numpy(zero_copy_only=False)
    counts["gone"] += int(np.count_nonzero(gone))
    rows = rows.filter(pa.array(~gone)).select(CANDIDATES.names)
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
        others = [*found.fallback_urls, *(columns["fallback_urls"][row] or ())]
        columns["url"][row] = found.url
        columns["fallback_urls"][row] = [url for url in _each_once(others) if url != found.url]
        columns["page_url"][row] = page_url(file)
    counts["no_picture"] += int(np.count_nonzero(~keep))
    for name, values in columns.items():
        rows = _set(rows, name, pa.array(values, CANDIDATES.field(name).type))
    return rows.filter(pa.array(keep))


def _without_null_lists(rows: pa.Table) -> pa.Table:
    """Rows whose lists are empty where they were null."""
    for index, field in enumerate(CANDIDATES):
        if pa.types.is_list(field.type) and rows.column(index).null_count:
            empty = pa.scalar([], field.type)
            valid = pc.is_valid(rows.column(index))
            rows = _set(rows, field.name, pc.if_else(valid, rows.column(index), empty))
    return rows


def _ordered(rows: pa.Table) -> pa.Table:
    """By the number of the entity, then the best score, then the URL."""
    number = pa.array(id_numbers(rows["entity"]))
    order = pc.sort_indices(
        pa.table({"number": number, "score": rows["score"], "url": rows["url"]}),
        [("number", "ascending"), ("score", "descending"), ("url", "ascending")],
    )
    return rows.take(order)
