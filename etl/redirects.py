"""Redirects: ids that were merged into others, from the dumps of two of MediaWiki's tables.

    sparqless etl DUMP --redirects wikidatawiki-…-redirect.sql.gz --pages wikidatawiki-…-page.sql.gz

A JSON dump has no redirects, and its statements may still name an id that has become one. Table
``redirect`` says where a page leads, by the page's number; table ``page`` says which id that is.

Two steps. :func:`read_redirects` reads both dumps, before or beside a JSON dump's slices, into
pairs as they stand. :func:`build_redirects` settles them when the store's records are known: an id
that the store has a record of is no redirect, since dumps are written over days and a record is
the truth; chains are followed to their end. Who reads a store needs ``etl/merged_ids.py`` alone.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import ujson

from etl.dump import Input
from etl.entity import MAX_NUMBER, entity_id, key_of
from etl.errors import UserError
from etl.manifest import flush
from etl.merged_ids import Ids
from etl.progress import Tick
from etl.sql import STRING, VALUE, Table, check_head, describe, rows
from etl.store import DATA, REDIRECTED, REDIRECTS, open_database, open_environment
from etl.tables import TableWriter, write_table

_SCHEMA = pa.schema([("id", pa.int64()), ("target", pa.int64())])
_COUNTS = "counts"  # key in the footer of the pairs

# Namespaces of wikidata.org (its siteinfo; Wikibase's WBNamespaces extension of them).
_ITEMS, _PROPERTIES, _LEXEMES = 0, 120, 146
_LETTERS = {_ITEMS: b"Q", _PROPERTIES: b"P"}

# Stand for a page or a target that is neither an item nor a property.
_LEXEME, _OTHER = np.iinfo(np.int64).min, 0

# Redirects taken into memory, 16 bytes a table and some 60 while they are joined. Wikidata's own
# run to a few millions.
_MOST = 50_000_000

_BATCH = 1 << 17  # redirects in one transaction of LMDB
_ENTRY = 64  # bytes that LMDB takes for one, at most

_NUMBER = rb"[0-9]{1,18}"
_SPACE = rb"-?[0-9]{1,9}"
_TITLE = rb"(?:_binary )?+'(?P<title>[QP][1-9][0-9]{0,16})'|" + VALUE
_REDIRECTS = Table(
    "redirect",
    {
        "rd_from": b"(?P<page>%b)" % _NUMBER,
        "rd_namespace": b"(?P<space>%b)" % _SPACE,
        "rd_title": _TITLE,
        "rd_interwiki": rb"(?P<here>NULL|(?:_binary )?+'')|" + VALUE,
    },
)
_REDIRECT_PAGES = Table(
    "page",
    {
        "page_id": b"(?P<page>%b)" % _NUMBER,
        "page_namespace": b"(?P<space>%b)" % _SPACE,
        "page_title": _TITLE,
        "page_is_redirect": b"1",
    },
    unwanted={
        "page_id": b"[0-9]++",
        "page_namespace": b"-?[0-9]++",
        "page_title": STRING,
        "page_is_redirect": b"0",
    },
)


# --- before the work ----------------------------------------------------------------------------


def find_redirect_dumps(redirects: Path | None, pages: Path | None) -> list[Input]:
    """Dumps of tables ``redirect`` and ``page`` as inputs of a plan; none where none is given.

    Raises UserError where one comes without the other, can't be read or doesn't begin as it should.
    """
    if redirects is None and pages is None:
        return []
    if redirects is None or pages is None:
        both = ("--redirects", "--pages")
        given, other = both if pages is None else both[::-1]
        raise UserError(
            f"{given} needs {other} too: table `redirect` has the numbers of pages, and table "
            "`page` says which ids these are."
        )
    described = [describe(redirects), describe(pages)]
    check_head(redirects, _REDIRECTS)
    check_head(pages, _REDIRECT_PAGES)
    return described


# --- reading ------------------------------------------------------------------------------------


class RedirectJob(msgspec.Struct, frozen=True):
    """Dumps of tables ``redirect`` and ``page``, and the file for the pairs: paths."""

    redirects: str
    pages: str
    out: str


def read_redirects(job: RedirectJob, tick: Tick) -> dict[str, int]:
    """Reads both dumps into ``out``, as pairs of ids, unsettled; returns the counts.

    A task for an engine: ``tick`` is called with the compressed bytes read. ``out`` appears by
    rename when all is there, and is what a second call goes by. 5 million redirects among 120
    million pages take some 400 MB of memory and, with one core, about two minutes.

    Raises UserError where a file is broken or isn't what it should be.
    """
    out = Path(job.out)
    if out.exists():
        return read_counts(out)
    pairs, counts = _joined(
        job,
        _read(Path(job.redirects), _REDIRECTS, _target_of, tick),
        _read(Path(job.pages), _REDIRECT_PAGES, _id_of, tick),
    )
    temporary = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    try:
        with TableWriter(temporary, _SCHEMA) as writer:
            writer.write(pairs)
            writer.close(metadata={_COUNTS: ujson.dumps(counts)})
        flush(out.parent, [temporary.name])
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return counts


def read_counts(pairs: Path) -> dict[str, int]:
    """The counts of an earlier :func:`read_redirects`."""
    counts: dict[str, int] = ujson.loads(pq.read_metadata(pairs).metadata[_COUNTS.encode()])
    return counts


@dataclass(frozen=True, eq=False)
class _Pages:
    """Numbers of pages, and of each the id that it has or leads to."""

    page: Ids
    id: Ids


def _read(path: Path, table: Table, id_of: Callable[[re.Match[bytes]], int], tick: Tick) -> _Pages:
    page, id_ = array("q"), array("q")
    for match in rows(path, table, tick):
        page.append(int(match["page"]))
        id_.append(id_of(match))
        if len(page) > _MOST:
            raise UserError(
                f"{path} has more than {_MOST:,} redirects, ten times as many as Wikidata: is it "
                f"its table `{table.name}`?"
            )
    return _Pages(np.frombuffer(page, np.int64), np.frombuffer(id_, np.int64))


def _id_of(match: re.Match[bytes]) -> int:
    """The id that a namespace and a title are, :data:`_LEXEME` or :data:`_OTHER`."""
    title, space = match["title"], int(match["space"])
    if title is not None and title[:1] == _LETTERS.get(space):
        number = int(title[1:])
        if number <= MAX_NUMBER:
            return number if space == _ITEMS else -number
    return _LEXEME if space == _LEXEMES else _OTHER


def _target_of(match: re.Match[bytes]) -> int:
    """The id that a redirect leads to; what stands in another wiki is none."""
    return _OTHER if match["here"] is None else _id_of(match)


def _joined(job: RedirectJob, redirects: _Pages, pages: _Pages) -> tuple[pa.Table, dict[str, int]]:
    """Pairs of ids, ascending, each id once, and what became of the rest."""
    source, found = _ids_of(redirects.page, pages)
    target = redirects.id
    del redirects, pages  # 32 bytes a redirect
    entity = found & (source != _LEXEME) & (source != _OTHER)
    # Wikibase redirects an id to one of the same kind (its data model's EntityRedirect).
    good = entity & (target != _LEXEME) & (target != _OTHER) & ((source > 0) == (target > 0))
    counts = {
        "rows": len(found),
        "pageless": int(np.count_nonzero(~found)),
        "lexemes": int(np.count_nonzero(found & (source == _LEXEME))),
        "others": int(np.count_nonzero(found & (source == _OTHER))),
        "dropped": int(np.count_nonzero(entity & ~good)),
    }
    if 2 * counts["pageless"] > counts["rows"]:
        raise UserError(
            f"{counts['pageless']:,} of the {counts['rows']:,} redirects in {job.redirects} are of "
            f"pages that {job.pages} doesn't have as redirects: give the two tables of one dump."
        )
    if not good.any():
        raise UserError(
            f"none of the {counts['rows']:,} redirects in {job.redirects} is of an item or a "
            "property: give the tables of wikidatawiki."
        )
    source, target = source[good], target[good]
    order = np.argsort(source, kind="stable")
    source, target = source[order], target[order]
    last = np.append(source[1:] != source[:-1], True)  # of an id that comes twice
    return pa.table([source[last], target[last]], schema=_SCHEMA), counts


def _ids_of(numbers: Ids, pages: _Pages) -> tuple[Ids, npt.NDArray[np.bool_]]:
    """The ids that pages of some numbers have, :data:`_OTHER` where there is none, and where."""
    if not len(pages.page):
        return np.full(len(numbers), _OTHER, np.int64), np.zeros(len(numbers), bool)
    order = np.argsort(pages.page, kind="stable")
    at = np.searchsorted(pages.page, numbers, sorter=order)
    at[at == len(order)] = 0
    at = order[at]
    found: npt.NDArray[np.bool_] = pages.page[at] == numbers
    return np.where(found, pages.id[at], _OTHER), found


# --- settling -----------------------------------------------------------------------------------


def build_redirects(pairs: Path, store: Path) -> dict[str, int]:
    """Settles ``pairs`` by the records in ``store``, a directory with data.mdb and nodes.parquet.

    Writes redirects.parquet (an id and where its chain of redirects ends) beside them and the
    same into data.mdb, for look-ups; returns the counts for the manifest.

    Ids that the store has a record of are left out (``overruled``), and so are those whose chain
    never ends (``cycles``).
    """
    table = pq.read_table(pairs)
    ids, targets = (table.column(n).to_numpy() for n in ("id", "target"))
    recorded = _recorded(ids, store / "nodes.parquet")
    ids, targets = ids[~recorded], targets[~recorded]
    last = _followed(ids, targets)
    good = last >= 0
    counts = read_counts(pairs) | {
        "overruled": int(np.count_nonzero(recorded)),
        "cycles": int(np.count_nonzero(~good)),
        "chains": int(np.count_nonzero(good & (last != np.arange(len(ids))))),
        "redirects": int(np.count_nonzero(good)),
    }
    ids, targets = ids[good], targets[last[good]]
    order = np.lexsort((np.abs(ids), ids > 0))  # key order: properties by number, then items
    ids, targets = ids[order], targets[order]
    write_table(store / REDIRECTS, pa.table([ids, targets], schema=_SCHEMA))
    _write_lookups(store, ids, targets)
    return counts


def _recorded(ids: Ids, nodes: Path) -> npt.NDArray[np.bool_]:
    """Which of some ids, ascending, stand in nodes.parquet; read a row group at a time."""
    recorded = np.zeros(len(ids), bool)
    file = pq.ParquetFile(nodes)
    for group in range(file.num_row_groups):
        there = np.sort(file.read_row_group(group, columns=["id"]).column(0).to_numpy())
        if not len(there):
            continue
        first, last = np.searchsorted(ids, there[[0, -1]] + [0, 1])
        at = np.searchsorted(there, ids[first:last])
        recorded[first:last] |= there[at] == ids[first:last]
    return recorded


def _followed(ids: Ids, targets: Ids) -> npt.NDArray[np.int64]:
    """The row in which each row's chain of redirects ends, -1 where it never does.

    ``ids`` ascend. Every round doubles the links that are followed, so that as many rounds as the
    number of rows has bits reach the end of any chain.
    """
    rows_ = np.arange(len(ids))
    if not len(ids):
        return rows_
    at = np.searchsorted(ids, targets)
    at[at == len(ids)] = 0
    goes_on = ids[at] == targets
    last = np.where(goes_on, at, rows_)
    for _ in range(len(ids).bit_length()):
        last = last[last]
    return np.where(goes_on[last], -1, last)


def _write_lookups(store: Path, ids: Ids, targets: Ids) -> None:
    """Puts the table into the store's LMDB, whose answer takes microseconds and no pyarrow."""
    room = (store / DATA).stat().st_size + _ENTRY * len(ids) + (64 << 20)
    with open_environment(store, map_size=room) as environment:
        database = open_database(environment, REDIRECTED, create=True)
        for first in range(0, len(ids), _BATCH):
            batch = slice(first, first + _BATCH)
            pairs = [
                (key_of(entity_id(id_)).to_bytes(8, "big"), entity_id(target).encode())
                for id_, target in zip(ids[batch].tolist(), targets[batch].tolist(), strict=True)
            ]
            with environment.begin(write=True, db=database) as transaction:
                transaction.cursor().putmulti(pairs, append=True)
        environment.sync(True)
