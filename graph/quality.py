"""What is wrong, or looks wrong, with the ontology of a store and with a data set made of it.

    sparqless quality --graph data/graph/living

Wikidata's hierarchies are made by many hands: classes are subclasses of themselves by way of
others, taxa have two parents, and a data set inherits all that.  `quality.parquet` lists it: of the
whole store, for those who mend Wikidata, with a mark (`in_data_set`) on what touches the data set,
for those who use it.  docs/quality.md says of every kind why it matters and how it is mended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ujson

from etl.entity import entity_id
from etl.progress import Progress
from etl.store import EntityStore
from etl.tables import TableWriter
from graph.check_data_set import names_in_common, swallowed_roots, unlabelled_classes
from graph.check_ontology import check_ontology
from graph.facts import Facts
from graph.findings import KINDS, MOST_ROWS, NAMED, Findings, Rows, Scope
from graph.naming import name_of
from graph.ontology import Ids, among, distinct
from graph.recipe import Recipe
from graph.tables import QUALITY, id_strings, lists

QUALITY_FILE: Final = "quality.parquet"

#: What is read of `entities.parquet`, here and where names and classes are checked.
READ_OF_ENTITIES: Final = ("id", "name", "aliases", "sitelinks")

#: Key in the footer of the table: how many of every kind were found, as JSON.  A kind that was not
#: looked for, because the store did not keep its property, is not there.
FOUND: Final = "found"

_BATCH = 1 << 12  # rows that are Python objects at a time


def write_quality(
    file: Path,
    data_set: Path,
    store: EntityStore,
    facts: Facts,
    recipe: Recipe,
    *,
    quiet: bool = True,
) -> dict[str, int]:
    """Write `quality.parquet` of a store and of the data set that stands in a directory.

    The directory needs its entities, memberships and hierarchy, no manifest.  `recipe` is theirs,
    with ids that were merged followed (:func:`graph.recipe.followed`).

    Returns
    -------
    How many findings of every kind there are, in the order of the kinds; more than the table has
    where a kind has over `MOST_ROWS`.  Kinds whose property the store did not keep are left out.

    Raises
    ------
    UserError : a file of the store is missing.
    """
    scope = Scope.load(data_set)
    labels = list(dict.fromkeys(label for part in recipe.parts() for label in part.labels))
    found = [
        *check_ontology(store, facts, scope, quiet),
        swallowed_roots(data_set / "memberships.parquet", recipe.root_ids()),
        names_in_common(data_set / "entities.parquet"),
        unlabelled_classes(scope, facts, labels),
    ]
    found.sort(key=lambda findings: list(KINDS).index(findings.kind))
    counts = {findings.kind: len(findings.ids) for findings in found}
    naming = _Naming(data_set / "entities.parquet", scope.entities, store, labels)
    rows = sum(min(count, MOST_ROWS) for count in counts.values())
    with (
        Progress("writing", rows, unit=" findings", quiet=quiet) as progress,
        TableWriter(file, QUALITY) as writer,
    ):
        for findings in found:
            for listed in _batches(findings.listed()):
                writer.write(_table(findings, listed, naming))
                progress.add(len(listed))
        writer.close(metadata={FOUND: ujson.dumps(counts)})
    return counts


class _Naming:
    """Names of items by id: as the data set has them, else as the store does."""

    def __init__(
        self, file: Path, entities: Ids, store: EntityStore, labels: Sequence[str]
    ) -> None:
        self._entities = entities
        self._names = pq.read_table(file, columns=["name"]).column(0)
        self._store = store
        self._labels = labels

    def of(self, ids: Ids) -> dict[int, str | None]:
        """Return the names of ids that ascend; None for what has none."""
        inside = among(ids, self._entities)
        known, others = ids[inside], ids[~inside].tolist()
        rows = pa.array(np.searchsorted(self._entities, known))
        names = dict(zip(known.tolist(), self._names.take(rows).to_pylist(), strict=True))
        records = self._store.get_many(map(entity_id, others))
        for id, record in zip(others, records, strict=True):
            named = name_of(record, self._labels) if record else None
            names[id] = named[0] if named else None
        return names


def _batches(rows: Rows) -> Iterator[Rows]:
    return (rows[first : first + _BATCH] for first in range(0, len(rows), _BATCH))


def _table(findings: Findings, rows: Rows, naming: _Naming) -> pa.Table:
    """Make the table's rows of some findings."""
    related = [findings.related_to(row) for row in rows.tolist()]
    ids = findings.ids[rows]
    told = [id for group in related for id in group[:NAMED]]
    names = naming.of(distinct(np.concatenate([ids[ids != 0], np.array(told, np.int64)])))

    def named(id: int) -> str:
        return f"{names[id]} ({entity_id(id)})" if names[id] else entity_id(id)

    flat = np.array([id for group in related for id in group], np.int64)
    start = np.cumsum([0, *map(len, related)])
    own = None if findings.names is None else findings.names.take(pa.array(rows))
    columns = {
        "kind": pa.array([findings.kind] * len(rows)),
        "id": pc.if_else(pa.array(ids != 0), id_strings(ids), None),
        "name": own or pa.array([names.get(id) for id in ids.tolist()], pa.string()),
        "property": pa.array([findings.property] * len(rows), pa.string()),
        "related": lists(start, id_strings(flat)),
        "count": pa.array(findings.count[rows]),
        "in_data_set": pa.array(findings.inside[rows]),
        "detail": pa.array([findings.sentence(row, named) for row in rows.tolist()], pa.string()),
    }
    return pa.table([columns[field.name] for field in QUALITY], schema=QUALITY)
