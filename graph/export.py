"""A table of a data set as text for other programs: JSON lines, CSV, GraphML.

    sparqless export table --graph data/graph/living --table entities --format csv --out living.csv

Rows are streamed, in the table's own order.

**jsonl** has every value as it is, lists as lists.  **csv** (RFC 4180, UTF-8) has lists as JSON
arrays in one cell and nothing for null.  Anybody may edit Wikidata, and a spreadsheet takes a cell
that begins with `=`, `+`, `-` or `@` (full-width ones, too) for a formula; such cells, and those
that begin with a tab or a line's end, get an apostrophe in front (OWASP, "CSV Injection"), and it
is said how many did.
**graphml** is for the hierarchy alone: all its nodes, with the attributes of the entities that the
data set keeps; lists, which GraphML lacks, are joined by spaces.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import ujson

from etl.entity import entity_id
from etl.errors import UserError
from graph.ontology import Ids, distinct
from graph.read import batches, columns_of, manifest_of
from graph.tables import id_numbers

TABLES: Final = ("entities", "memberships", "hierarchy", "attributes", "queries", "quality")

#: What a spreadsheet may take for the beginning of a formula (OWASP, "CSV Injection").
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

#: Attributes of a node in GraphML: column, and GraphML's type.
_NODE: Final = {
    "name": "string",
    "roots": "string",
    "depths": "string",
    "sitelinks": "int",
    "natural_type": "string",
    "natural_type_name": "string",
    "visual": "boolean",
}

# Characters that XML 1.0 can't hold in any form (its production "Char").
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Exported:
    """What was written."""

    rows: int  # of graphml: nodes and edges
    guarded: int = 0  # cells of a csv that got an apostrophe


def export_table(graph: Path, table: str, format: str, out: Path) -> Exported:
    """Write a table of a finished data set into a file, by a temporary one and a rename.

    Raises
    ------
    UserError : as :func:`write_table`; `out` is a directory or stands in the data set's.
    """
    check_outside(graph, out)
    if out.is_dir():
        raise UserError(f"{out} is a directory: name a file.")
    _check(graph, table, format)
    out.parent.mkdir(parents=True, exist_ok=True)
    with written(out) as file:
        return write_table(graph, table, format, file)


def write_table(graph: Path, table: str, format: str, file: IO[str]) -> Exported:
    """Write a table of a finished data set into an open file of text (UTF-8, newlines as written).

    Raises
    ------
    UserError : the data set is not finished or has no such table; `graphml` is asked of another
        table than the hierarchy.
    """
    _check(graph, table, format)
    if format == "jsonl":
        return _write_jsonl(graph, table, file)
    if format == "csv":
        return _write_csv(graph, table, file)
    return _write_graphml(graph, file)


def check_outside(graph: Path, out: Path) -> None:
    """Refuse to write into a data set: a build takes what it doesn't know there for somebody's.

    Raises
    ------
    UserError : `out` is the directory of the data set or lies in it, however deep.
    """
    if out.resolve().is_relative_to(graph.resolve()):
        raise UserError(f"{out} would stand in the data set itself: name another directory.")


def _check(graph: Path, table: str, format: str) -> None:
    outputs = manifest_of(graph)["outputs"]
    if f"{table}.parquet" not in outputs:
        there = ", ".join(name for name in TABLES if f"{name}.parquet" in outputs)
        raise UserError(f"{graph} has no table {table!r}: it has {there}.")
    if format == "graphml" and table != "hierarchy":
        raise UserError(f"graphml is for graphs: ask for --table hierarchy, not {table}.")


@contextmanager
def written(out: Path) -> Iterator[IO[str]]:
    """Give a text file that stands as `out` when the block ends well, and never in part."""
    temporary = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def as_json(value: Any) -> str:
    """Return a value as JSON in one line, other scripts as they are."""
    return ujson.dumps(value, ensure_ascii=False, escape_forward_slashes=False)


def _write_jsonl(graph: Path, table: str, file: IO[str]) -> Exported:
    rows = 0
    for batch in batches(graph, table):
        file.writelines(f"{as_json(row)}\n" for row in batch.to_pylist())
        rows += batch.num_rows
    return Exported(rows)


def _write_csv(graph: Path, table: str, file: IO[str]) -> Exported:
    # with both, so that a text with one of them alone is put into quotes
    writer = csv.writer(file, lineterminator="\r\n")
    rows, guarded = 0, 0
    writer.writerow(columns_of(graph, table))
    for batch in batches(graph, table):
        for row in batch.to_pylist():
            cells = [_cell(value) for value in row.values()]
            risky = [cell.startswith(_FORMULA) for cell in cells]
            guarded += sum(risky)
            writer.writerow(f"'{c}" if r else c for c, r in zip(cells, risky, strict=True))
        rows += batch.num_rows
    return Exported(rows, guarded)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | bool):
        return as_json(value)
    return str(value)


# --------------------------------------------------------------------------------------------------
# GraphML (graphml.graphdrawing.org/specification.html)
# --------------------------------------------------------------------------------------------------


def _write_graphml(graph: Path, file: IO[str]) -> Exported:
    file.write(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n'
    )
    for name, kind in _NODE.items():
        file.write(f'<key id="{name}" for="node" attr.name="{name}" attr.type="{kind}"/>\n')
    file.write('<key id="property" for="edge" attr.name="property" attr.type="string"/>\n')
    file.write('<graph edgedefault="directed">\n')
    count = 0
    for written_ in (_nodes(graph), _edges(graph)):
        for line in written_:
            file.write(line)
            count += 1
    file.write("</graph>\n</graphml>\n")
    return Exported(count)


def _nodes(graph: Path) -> Iterator[str]:
    """Yield the entities, then the ancestors that the data set doesn't keep, by number."""
    kept = [np.empty(0, np.int64)]
    for batch in batches(graph, "entities", ["id", *_NODE]):
        kept.append(id_numbers(batch.column("id")))
        for row in batch.to_pylist():
            data = "".join(_data(name, row.get(name)) for name in _NODE)
            yield f"<node id={quoteattr(row['id'])}>{data}</node>\n"
    for number in np.setdiff1d(_ends(graph), np.concatenate(kept)).tolist():
        yield f'<node id="{entity_id(number)}"/>\n'


def _ends(graph: Path) -> Ids:
    """Return all ids of the hierarchy, ascending."""
    found = [np.empty(0, np.int64)]
    for batch in batches(graph, "hierarchy", ["child", "parent"]):
        ends = [id_numbers(column) for column in batch.columns]
        found.append(distinct(np.concatenate(ends)))
    return distinct(np.concatenate(found))


def _edges(graph: Path) -> Iterator[str]:
    """Yield an edge for every child and parent; the rows of a child stand together."""
    child, parents = "", dict[str, list[str]]()
    for batch in batches(graph, "hierarchy"):
        for row in batch.to_pylist():
            if row["child"] != child:
                yield from _edges_of(child, parents)
                child, parents = row["child"], {}
            parents.setdefault(row["parent"], []).append(row["property"])
    yield from _edges_of(child, parents)


def _edges_of(child: str, parents: dict[str, list[str]]) -> Iterator[str]:
    for parent, properties in parents.items():
        ends = f"source={quoteattr(child)} target={quoteattr(parent)}"
        yield f"<edge {ends}>{_data('property', properties)}</edge>\n"


def _data(key: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        value = " ".join(map(str, value))
    text = as_json(value) if isinstance(value, bool) else str(value)
    return f'<data key="{key}">{escape(_NOT_XML.sub(_REPLACEMENT, text))}</data>'
