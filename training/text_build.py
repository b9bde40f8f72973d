"""A graph data set → the tables of texts of all its queries and entities, once for all epochs.

    tables = build(Path("data/graph/entitynet"), Path("data/texts"), TextOptions())

writes ``data/texts/<digest>/`` (`training/text_files.py`), or takes what stands there: the digest
is of the options, the data set's tables and this code. A killed build leaves a folder that ends in
``.tmp``, which the next removes.

Every query has a table, and every entity one, that of the query for its name: an image that was
found without a query (P18, what depicts it) is told to be what its entity is called. An entity
without such a query (none is asked for what isn't visual) has the same with its name for a query.
"""

from __future__ import annotations

import os
import shutil
import time
from array import array
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from socket import gethostname
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.entity import numeric_id
from etl.errors import UserError
from etl.manifest import (
    MANIFEST,
    check_whole,
    digest_of_data,
    digest_of_file,
    digests,
    flush,
    read_manifest,
    tool_versions,
    write_manifest,
)
from etl.progress import Progress
from etl.writing import disk_errors
from graph.read import batches, columns_of, manifest_of
from training.text_above import Above, rows_of
from training.text_files import (
    ENTITIES,
    NONE,
    OUTPUTS,
    QUERIES,
    STEP,
    Buckets,
    TableFiles,
    write_index,
)
from training.text_options import TextOptions
from training.text_rules import Parent, Subject, Text, texts_of

#: What is read of a data set.
_READ: Final = ("entities.parquet", "hierarchy.parquet", "queries.parquet")

#: The modules that decide what is in the tables.
_CODE: Final = (
    "text_above.py", "text_build.py", "text_files.py", "text_options.py", "text_rules.py",
)  # fmt: skip

_TOGETHER: Final = 1 << 12  # entities whose parents are looked for at once
_SEALED: Final = 1 << 16  # ids that are Python objects at a time
_COLUMNS: Final = (
    "query_hash", "query", "query_type", "entity", "attribute", "entity_type", "engine", "source",
)  # fmt: skip

_NOUNS: Final = ("name", "alias")

_Query = Mapping[str, Any]


@dataclass(frozen=True)
class Only:
    """Entities and queries whose tables are wanted, and no others."""

    entities: frozenset[str] = frozenset()
    queries: frozenset[str] = frozenset()


def build(
    graph: Path, folder: Path, options: TextOptions | None = None, *, quiet: bool = True
) -> Path:
    """Makes the tables below ``folder`` unless they stand there; the directory that has them.

    Two processes that begin at once both work, and the later takes what the first has made.

    Raises UserError where the data set is not finished or has no queries, and OSError or UserError
    where the disk is full.
    """
    options = options or TextOptions()
    manifest = _manifest(graph)
    key = _key(manifest, options)
    final = folder / key[:16]
    if (final / MANIFEST).exists():
        check_whole(final, read_manifest(final, STEP), f"remove {final}, and it is made again")
        return final
    folder.mkdir(parents=True, exist_ok=True)
    making = folder / f"{final.name}.{gethostname()}.{os.getpid()}.tmp"
    _remove_abandoned(folder)
    try:
        making.mkdir()
        with disk_errors(folder):
            _make(graph, making, options, manifest, quiet=quiet)
        try:
            making.rename(final)
        except OSError:
            if not (final / MANIFEST).exists():
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return final


def build_some(graph: Path, folder: Path, options: TextOptions, only: Only) -> Path:
    """Makes the tables of a few entities and queries in a folder of its own: seconds, not minutes.

    They are the same as in the tables of all. Raises UserError as :func:`build` does.
    """
    _make(graph, folder, options, _manifest(graph), only)
    return folder


def _make(
    graph: Path,
    folder: Path,
    options: TextOptions,
    manifest: Mapping[str, Any],
    only: Only | None = None,
    *,
    quiet: bool = True,
) -> None:
    """Writes the files and, last of all, their manifest."""
    started = time.monotonic()
    counts, groups = _write(graph, folder, options, only, quiet=quiet)
    flush(folder, OUTPUTS)
    write_manifest(
        folder,
        {
            "step": STEP,
            "versions": tool_versions(),
            "graph": {"manifest_sha256": manifest["manifest_sha256"]},
            "options": options.of_tables(),
            "counts": counts,
            "groups": groups,
            "seconds": {"all": round(time.monotonic() - started, 2)},
            "outputs": digests(folder, OUTPUTS, quiet=True),
        },
    )


def _manifest(graph: Path) -> dict[str, Any]:
    manifest = manifest_of(graph)
    missing = [name for name in _READ if name not in manifest["outputs"]]
    if missing:
        raise UserError(
            f"{graph} has no {missing[0]}, which texts are made of: an older version built it; "
            "build it again with `sparqless graph`."
        )
    return manifest


def _key(manifest: Mapping[str, Any], options: TextOptions) -> str:
    return digest_of_data(
        {
            "options": options.of_tables(),
            "tables": [manifest["outputs"][name]["sha256"] for name in _READ],
            "code": [digest_of_file(Path(__file__).with_name(f), lambda _: None) for f in _CODE],
        }
    )


def _remove_abandoned(folder: Path) -> None:
    """Removes what killed builds left, those of this machine: other nodes may write there, too."""
    for left in folder.glob("*.tmp"):
        begun, _, pid = left.name.removesuffix(".tmp").rpartition(".")
        if begun.endswith(f".{gethostname()}") and pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


# --- one pass over entities and queries, side by side --------------------------------------------


def _write(
    graph: Path, folder: Path, options: TextOptions, only: Only | None, *, quiet: bool
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Writes the files of :data:`OUTPUTS`; counts, and the groups of queries."""
    missing = [name for name in _COLUMNS if name not in columns_of(graph, "queries")]
    if missing:
        raise UserError(
            f"{graph}/queries.parquet has no column {missing[0]}: build the data set again with "
            "`sparqless graph`."
        )
    wanted = None if only is None else _wanted(graph, only)
    above = Above(graph, options, None if wanted is None else sorted(wanted))
    total = pq.read_metadata(graph / "entities.parquet").num_rows
    with TableFiles(folder) as files, Progress("texts", total, unit=" entities", quiet=quiet) as p:
        asked = _Asked(files, options, above.types)
        stream = _queries(graph, only)
        pending = next(stream, None)
        subjects = _subjects(graph, wanted)
        while some := list(islice(subjects, _TOGETHER)):
            for subject, parents in zip(some, above.of(some), strict=True):
                own: list[_Query] = []
                while pending is not None and _before_or_at(pending, subject.id):
                    if pending["entity"] == subject.id:
                        own.append(pending)
                    else:
                        asked.stray(pending)
                    pending = next(stream, None)
                asked.entity(subject, parents, own)
            files.flush()
            p.add(len(some))
        _add_types(asked, above, chain([pending] if pending else [], stream), files)
        files.close()
        asked.write(folder)
    return asked.counts(), asked.groups()


def _subjects(graph: Path, wanted: set[str] | None) -> Iterator[Subject]:
    ids = None
    if wanted is not None:
        ids = np.array(sorted(numeric_id(id_) for id_ in wanted), np.int64)
    last = 0
    for row in rows_of(graph, ids):
        number = numeric_id(row["id"])
        if number <= last:
            raise UserError(
                f"{graph}/entities.parquet: {row['id']} comes after Q{last}, but rows stand by "
                "number; build the data set again with `sparqless graph`."
            )
        last = number
        yield Subject.of_row(row)


def _queries(graph: Path, only: Only | None) -> Iterator[_Query]:
    """Queries in the order of the entities, then those that are about a type alone."""
    last = 0
    for table in batches(graph, "queries", list(_COLUMNS)):
        if only is not None:
            table = table.filter(_chosen(table, only))
        for some in table.to_batches(max_chunksize=1 << 13):
            for row in some.to_pylist():
                number = numeric_id(row["entity"]) if row["entity"] else _TYPES_LAST
                if number < last:
                    raise UserError(
                        f"{graph}/queries.parquet: the query {row['query_hash']} stands after "
                        "those of later entities; build the data set again with `sparqless graph`."
                    )
                last = number
                yield row


_TYPES_LAST: Final = 1 << 62


def _chosen(table: pa.Table, only: Only) -> pa.ChunkedArray:
    """The queries that are wanted, and those for the names of entities that are."""
    by_hash = pc.is_in(table.column("query_hash"), pa.array(sorted(only.queries), pa.string()))
    own = pc.is_in(table.column("entity"), pa.array(sorted(only.entities), pa.string()))
    return pc.or_(by_hash, pc.and_(own, pc.equal(table.column("query_type"), "name")))


def _wanted(graph: Path, only: Only) -> set[str]:
    """Ids whose rows are needed: entities that are wanted, and what wanted queries are about."""
    found = set(only.entities)
    if only.queries:
        hashes = pa.array(sorted(only.queries), pa.string())
        for table in batches(graph, "queries", ["query_hash", "entity", "entity_type"]):
            for row in table.filter(pc.is_in(table.column("query_hash"), hashes)).to_pylist():
                found |= {id_ for id_ in (row["entity"] or row["entity_type"],) if id_}
    return found


def _before_or_at(query: _Query, entity: str) -> bool:
    return bool(query["entity"]) and numeric_id(query["entity"]) <= numeric_id(entity)


def _add_types(asked: _Asked, above: Above, queries: Iterator[_Query], files: TableFiles) -> None:
    """Queries that are about a type, or about an entity that the data set doesn't keep."""
    while some := list(islice(queries, _TOGETHER)):
        types = {q["entity_type"] for q in some if not q["entity"] and q["entity_type"]}
        subjects = [above.type_of(id_) for id_ in sorted(types)]
        found = {s.id: (s, p) for s, p in zip(subjects, above.of(subjects), strict=True)}
        for query in some:
            if query["entity"] or query["entity_type"] not in found:
                asked.stray(query)
            else:
                asked.type(query, *found[query["entity_type"]])
        files.flush()


class _Asked:
    """Queries and entities with their tables, gathered in the order in which they come."""

    def __init__(self, files: TableFiles, options: TextOptions, types: Container[str]) -> None:
        self._files, self._options, self._types = files, options, types
        self._strays = self._without = 0
        self._groups: dict[tuple[str, str, str, tuple[str, ...]], int] = {}
        self._queries = _Listed("about")
        self._entities = _Listed("named")
        self._type_numbers: dict[str, int] = {}  # of entities that are the types of others

    def entity(self, subject: Subject, above: Sequence[Parent], queries: Sequence[_Query]) -> None:
        """Adds an entity and its queries."""
        tables: dict[tuple[Any, ...], int] = {}
        number = len(self._entities)
        best: tuple[str, str] | None = None
        rows, group, named = 0, 0, NONE
        for query in queries:
            like = _alike(query)
            if like not in tables:
                tables[like] = self._table(query, subject, above)
            own_group = self._group_of(query, subject.roots)
            place = self._queries.add(query["query_hash"], tables[like], own_group, number)
            # that of no engine in particular, else the first hash: as `images pack` chooses
            rank = query["engine"] or "", query["query_hash"]
            if query["query_type"] == "name" and (best is None or rank < best):
                best, rows, group, named = rank, tables[like], own_group, place
        if best is None:
            name = subject.names[0] if subject.names else ""
            rows = self._add(texts_of(name, "name", None, subject, above, self._options))
            group = self._group("name", "", "", subject.roots)
        self._entities.add(subject.id, rows, group, named)
        if subject.id in self._types:
            self._type_numbers[subject.id] = number

    def type(self, query: _Query, subject: Subject, above: Sequence[Parent]) -> None:
        """Adds a query that is about a type, which may be an entity, too."""
        rows, group = self._table(query, subject, above), self._group_of(query, subject.roots)
        about = self._type_numbers.get(subject.id, NONE)
        self._queries.add(query["query_hash"], rows, group, about)

    def stray(self, query: _Query) -> None:
        """Adds a query about something of which nothing else is known: it stands for itself."""
        self._strays += 1
        rows = self._table(query, Subject(query["entity"] or ""), ())
        self._queries.add(query["query_hash"], rows, self._group_of(query, ()), NONE)

    def _table(self, query: _Query, subject: Subject, above: Sequence[Parent]) -> int:
        text, type_, attribute = query["query"] or "", query["query_type"], query["attribute"]
        return self._add(texts_of(text, type_, attribute, subject, above, self._options))

    def _add(self, texts: Sequence[Text]) -> int:
        self._without += not texts
        return self._files.add(texts)

    def _group_of(self, query: _Query, roots: tuple[str, ...]) -> int:
        type_, engine, source = query["query_type"], query["engine"] or "", query["source"] or ""
        return self._group(type_, engine, source, roots)

    def _group(self, type_: str, engine: str, source: str, roots: tuple[str, ...]) -> int:
        return self._groups.setdefault((type_, engine, source, roots), len(self._groups))

    def groups(self) -> list[dict[str, Any]]:
        """By what a filter tells queries apart, in the order of their numbers."""
        return [
            {"type": type_, "engine": engine, "source": source, "roots": list(roots)}
            for type_, engine, source, roots in self._groups
        ]

    def counts(self) -> dict[str, int]:
        """How much there is of each."""
        return {
            "queries": len(self._queries),
            "entities": len(self._entities),
            "tables": self._files.tables,
            "texts": self._files.rows,
            "strays": self._strays,  # about something that the data set doesn't have
            "without_text": self._without,
        }

    def write(self, folder: Path) -> None:
        """Writes both indexes, in each of which stands where to look in the other."""
        query_ids, queries = self._queries.ids(), self._queries.columns()
        entity_ids, entities = self._entities.ids(), self._entities.columns()
        in_queries, in_entities = Buckets.of(query_ids), Buckets.of(entity_ids)
        _follow(queries["about"], in_entities)
        _follow(entities["named"], in_queries)
        write_index(folder, QUERIES, query_ids, queries, in_queries)
        write_index(folder, ENTITIES, entity_ids, entities, in_entities)


def _follow(rows: npt.NDArray[np.uint32], buckets: Buckets) -> None:
    """Puts in place of the rows of another table where these come to stand."""
    known = rows != NONE
    rows[known] = buckets.place()[rows[known]]


def _alike(query: _Query) -> tuple[Any, ...]:
    """Queries of one entity that agree in this have the same texts: those of two engines do."""
    kind = "noun" if query["query_type"] in _NOUNS else query["query_type"]
    return kind, query["query"], query["attribute"]


class _Listed:
    """Ids, and numbers beside them: 50 bytes a row, and few Python objects."""

    def __init__(self, beside: str) -> None:
        self._values = {"rows": array("Q"), "group": array("I"), beside: array("I")}
        self._waiting: list[str] = []
        self._chunks: list[pa.Array] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, id_: str, *values: int) -> int:
        """Adds a row; its number."""
        for column, value in zip(self._values.values(), values, strict=True):
            column.append(value)
        self._waiting.append(id_)
        if len(self._waiting) == _SEALED:
            self._seal()
        self._count += 1
        return self._count - 1

    def ids(self) -> pa.LargeStringArray:
        """All ids, in the order of the rows."""
        self._seal()
        return pa.concat_arrays(self._chunks)

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The numbers, as arrays that may be changed."""
        return {name: np.array(values) for name, values in self._values.items()}

    def _seal(self) -> None:
        self._chunks.append(pa.array(self._waiting, pa.large_string()))
        self._waiting.clear()
