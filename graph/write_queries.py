"""The rows of `queries.parquet` and `queries.jsonl`: queries of a whole data set.

Two passes over the finished tables, none of which holds a row of them for long:

1. Which texts do several entities have (24 bytes a text), and which attribute queries does the
   budget take (16 bytes a query)?
2. Rows, in the order of the entities, then those for types.

The queries for types are held in memory: of 165,000 entities some 100,000, of 200 bytes each.

The **budget** is spent as water fills a vessel: every pair of entity (or type) and category gets as
many of its queries as every other, as long as it has any; what is left over goes to pairs one by
one.  Which queries of a pair, and which pairs get one more, a digest of seed and query decides.
EntityNet's `world_merge_attributes.py` cuts from the end of a list that is ordered by sitelinks,
so that rare things lose all they have.  Under the reference's rules its own budget holds, which was
spent when the models' answers were merged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, compress, groupby
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from etl.entity import numeric_id
from etl.fold import fold_whole
from etl.tables import TableWriter
from graph.attributes import ENGLISH
from graph.queries import (
    LONGEST_QUERY,
    Asked,
    Named,
    Trait,
    attribute_queries,
    engines,
    excluded,
    name_queries,
    or_terms,
    priority,
    told_apart,
    type_query,
)
from graph.settings import QuerySettings, Rules
from graph.tables import QUERIES

_BATCH: Final = 1 << 13  # rows of the tables that are Python objects at a time
_MOST_SHARING: Final = 100  # ids that `ambiguous_with` holds at most, the lowest

_ENTITY_COLUMNS: Final = (
    "id", "name", "name_lang", "aliases", "common_names", "taxon_names", "natural_type",
    "natural_type_name", "visual", "recipe",
)  # fmt: skip
_TRAIT_COLUMNS: Final = ("entity", "property", "category", "value", "query", "source")

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class _Entity:
    named: Named
    english: bool
    traits: list[Trait]


def write_queries(
    directory: Path,
    entities: Path,
    attributes: Path,
    settings: QuerySettings,
    rules: Mapping[str, Rules],
    advance: Callable[[int], None],
) -> dict[str, int]:
    """Write the queries of a data set into `directory`.

    `rules` are those of the recipe's parts, by name.  `advance` is called with the number of visual
    entities just done, twice in all for each.

    Returns
    -------
    The number of rows by type, those `ambiguous`, and `over_budget`: attribute queries left out.
    """
    texts, budget, types = _Texts(), _Budget(settings), _Types()
    for entity in _entities(entities, attributes, rules):
        of_attributes = _of_attributes(entity, settings)
        texts.add(entity, chain(name_queries(entity.named, settings.types), of_attributes))
        budget.add(of_attributes, entity.named.rules)
        types.add(entity)
        advance(1)
    of_types = list(types.queries(texts.digests())) if "attribute_type" in settings.types else []
    for query, rules_ in of_types:
        budget.add([query], rules_)
    shared, taken = texts.shared(), budget.taken()
    counts = dict.fromkeys([*settings.types, "ambiguous"], 0)
    with _Writer(directory, settings, counts) as writer:
        in_budget = iter(taken)  # of which `compress` takes one for each query, and no more
        for entity in _entities(entities, attributes, rules):
            queries = [*name_queries(entity.named, settings.types)]
            queries += compress(_of_attributes(entity, settings), in_budget)
            for query, text, others in _shown(queries, entity.named, shared):
                writer.add(query, text, entity.named, others)
            advance(1)
        for query, rules_ in compress(of_types, in_budget):
            writer.add(query, query.text, None, [], rules_)
    counts["over_budget"] = int(np.count_nonzero(~taken))
    return counts


def _of_attributes(entity: _Entity, settings: QuerySettings) -> list[Asked]:
    if "attribute_name" not in settings.types:
        return []
    return list(attribute_queries(entity.named, entity.traits))


# --------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------


def _entities(entities: Path, attributes: Path, rules: Mapping[str, Rules]) -> Iterator[_Entity]:
    """Yield the visual entities of a data set, with their attributes."""
    traits = _traits(attributes)
    waiting = next(traits, None)
    for batch in _batches(entities, _ENTITY_COLUMNS):
        for row in batch.to_pylist():
            its: list[Trait] = []
            if waiting is not None and waiting[0] == row["id"]:
                its, waiting = waiting[1], next(traits, None)
            if row["visual"]:
                yield _Entity(
                    Named.of_row(row, rules[row["recipe"]]),
                    row["name_lang"] in ENGLISH,
                    its,
                )


def _traits(attributes: Path) -> Iterator[tuple[str, list[Trait]]]:
    """Yield (entity, its attributes) in the order of the table, which is that of the entities."""
    rows = (row for batch in _batches(attributes, _TRAIT_COLUMNS) for row in batch.to_pylist())
    for entity, its in groupby(rows, key=lambda row: row["entity"]):
        yield (
            entity,
            [
                Trait(row["property"], row["category"], row["value"], row["query"], row["source"])
                for row in its
            ],
        )


def _batches(file: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    yield from pq.ParquetFile(file).iter_batches(batch_size=_BATCH, columns=list(columns))


# --------------------------------------------------------------------------------------------------
# What is asked of several entities
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shared:
    """The texts that several entities have: digest -> their numeric ids, the lowest.

    As they are asked, and as they are shown once those that are shared have been told apart: that
    may make one text of two again.
    """

    asked: dict[int, list[int]]
    shown: dict[int, list[int]]

    def others(self, query: Asked, named: Named) -> tuple[str, list[str]]:
        """Return a query's text as it is shown, and the ids of others that have or share it."""
        sharing = self.asked.get(_digest(query.text), [])
        text = told_apart(query.text, named) if sharing else query.text
        numbers = {*sharing, *self.shown.get(_digest(text), [])} - {numeric_id(named.id)}
        return text, [f"Q{number}" for number in sorted(numbers)]


def _digest(text: str) -> int:
    """64 bits of a folded text: of a hundred million, the odds of any two alike are 1 in 3,700."""
    return priority(0, fold_whole(text))


class _Texts:
    """The texts of all queries that are about an entity, whether the budget takes them or not."""

    def __init__(self) -> None:
        self._digests, self._ids = _Column(np.uint64), _Column(np.int64)
        self._apart = _Column(np.uint64)  # digests of the texts as they are told apart

    def add(self, entity: _Entity, queries: Iterable[Asked]) -> None:
        """Add queries of an entity, no two of which have the same text."""
        number = numeric_id(entity.named.id)
        for query in queries:
            digest = _digest(query.text)
            apart = told_apart(query.text, entity.named)
            self._digests.append(digest)
            self._apart.append(digest if apart == query.text else _digest(apart))
            self._ids.append(number)

    def digests(self) -> Hashes:
        """Return the digests of all texts, some of them several times."""
        return self._digests.array()

    def shared(self) -> _Shared:
        """Return those that several entities have."""
        asked, ids = self.digests(), self._ids.array()
        again = _several(asked, ids)
        numbers = np.fromiter(again, np.uint64, len(again))
        shown = np.where(np.isin(asked, numbers), self._apart.array(), asked)
        return _Shared(again, _several(shown, ids))


def _several(digest: Hashes, id: npt.NDArray[np.int64]) -> dict[int, list[int]]:
    """Return digest -> ids for the digests that several ids have."""
    order = np.lexsort((id, digest))
    digest, id = digest[order], id[order]
    again = np.flatnonzero((digest[1:] == digest[:-1]) & (id[1:] != id[:-1]))
    found: dict[int, list[int]] = {}
    for at in np.union1d(again, again + 1).tolist():
        sharing = found.setdefault(int(digest[at]), [])
        if len(sharing) <= _MOST_SHARING and id[at] not in sharing[-1:]:
            sharing.append(int(id[at]))
    return found


class _Column:
    """Numbers appended one by one and kept in arrays."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype
        self._done: list[npt.NDArray[Any]] = []
        self._open: list[int] = []

    def append(self, value: int) -> None:
        self._open.append(value)
        if len(self._open) == 1 << 16:
            self._close()

    def _close(self) -> None:
        self._done.append(np.array(self._open, self._dtype))
        self._open = []

    def array(self) -> npt.NDArray[Any]:
        self._close()
        return np.concatenate(self._done)


# --------------------------------------------------------------------------------------------------
# The budget
# --------------------------------------------------------------------------------------------------


class _Budget:
    """Decides which of the attribute queries, in the order they were added, are taken.

    Those under the reference's rules all are: its budget is another, and spent already.
    """

    def __init__(self, settings: QuerySettings) -> None:
        self._settings = settings
        self._pairs, self._priorities = _Column(np.uint64), _Column(np.uint64)
        self._ours = _Column(np.bool_)

    def add(self, queries: Iterable[Asked], rules: Rules) -> None:
        seed = self._settings.seed
        for query in queries:
            owner = query.entity or f"{query.entity_type} type"
            self._pairs.append(priority(seed, owner, query.category))
            self._priorities.append(priority(seed, owner, query.category, query.text))
            self._ours.append(rules == "sparqless")

    def taken(self) -> npt.NDArray[np.bool_]:
        """Return for each query whether it is taken."""
        ours = self._ours.array()
        taken = np.ones(len(ours), bool)
        pairs, priorities = self._pairs.array()[ours], self._priorities.array()[ours]
        taken[ours] = water_filled(pairs, priorities, self._settings.budget)
        return taken


def water_filled(pairs: Hashes, priorities: Hashes, budget: int) -> npt.NDArray[np.bool_]:
    """Take `budget` of some queries, as evenly over pairs as they allow.

    Parameters
    ----------
    pairs : (N,) which pair of owner and category a query belongs to, as a number that is random
        enough to decide which pairs get one more than others.
    priorities : (N,) of a pair's queries, those with the lowest numbers are taken.
    """
    order = np.lexsort((priorities, pairs))
    sorted_pairs = pairs[order]
    place = np.arange(len(order)) - np.searchsorted(sorted_pairs, sorted_pairs)  # in its pair
    # Level by level: the queries in place 0 of their pairs, then those in place 1, ...; within the
    # level that the budget doesn't fill, by the number of the pair.
    by_level = np.lexsort((sorted_pairs, place))
    taken = np.zeros(len(order), bool)
    taken[order[by_level[:budget]]] = True
    return taken


# --------------------------------------------------------------------------------------------------
# Attributes and types
# --------------------------------------------------------------------------------------------------


class _Types:
    """The pairs of attribute and natural type that some entity has, each once.

    EntityNet wrote such queries for living things alone (`living_generate_attribute_queries.py`).
    """

    def __init__(self) -> None:
        self._met: dict[tuple[str, str], tuple[Asked, Rules]] = {}

    def add(self, entity: _Entity) -> None:
        type_id, type_name = entity.named.type_id, entity.named.type_name
        if type_id is None or not type_name or entity.named.rules == "reference-world":
            return
        for trait in entity.traits:
            if trait.query is None:
                continue
            text = type_query(trait.property, trait.value, type_name, english=entity.english)
            if text is None or len(text) > LONGEST_QUERY:
                continue
            if (key := (type_id, fold_whole(text))) not in self._met:
                asked = Asked(
                    text, "attribute_type", None, type_id, trait.value, trait.category, trait.source
                )
                self._met[key] = asked, entity.named.rules

    def queries(self, asked: Hashes) -> Iterator[tuple[Asked, Rules]]:
        """Yield queries by type, then by text, without those whose text is in `asked` already.

        With each, the rules of the entity that it was first made of.

        A type may be an entity of the data set, of which the same is asked by its name; and an
        attribute and a type may together be what another entity is called.
        """
        keys = sorted(self._met, key=lambda key: (numeric_id(key[0]), key[1]))
        digests = np.array([_digest(text) for _, text in keys], np.uint64)
        again = np.isin(digests, asked).tolist()
        for key, met in zip(keys, again, strict=True):
            if not met:
                yield self._met[key]


# --------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------


def _shown(
    queries: Iterable[Asked], named: Named, shared: _Shared
) -> Iterator[tuple[Asked, str, list[str]]]:
    """Yield an entity's queries, each with its text as it is told from others' and who they are.

    A name comes once: the "orange" that is told from others as "orange fruit" may have that for an
    alias.  Queries for attributes were held against both before the budget was spent.
    """
    met: set[str] = set()
    for query in queries:
        text, others = shared.others(query, named)
        if (folded := fold_whole(text)) not in met:
            met.add(folded)
            yield query, text, others


class _Writer:
    """Writes rows to both files and counts them."""

    def __init__(self, directory: Path, settings: QuerySettings, counts: dict[str, int]) -> None:
        self._engines = engines(settings)
        self._counts = counts
        self._rows: list[dict[str, Any]] = []
        self._files = ExitStack()
        self._table = self._files.enter_context(TableWriter(directory / "queries.parquet", QUERIES))
        self._lines = self._files.enter_context((directory / "queries.jsonl").open("wb"))
        self._encode = msgspec.json.Encoder().encode

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is None:
            self._flush()
        self._files.__exit__(kind, *rest)

    def add(
        self,
        query: Asked,
        text: str,
        named: Named | None,
        others: list[str],
        rules: Rules = "sparqless",
    ) -> None:
        """Add the rows of a query, one for each engine; `text` is how it is told from others'.

        `rules` are those of a query about a type, which has no name.
        """
        rules = named.rules if named else rules
        for engine in self._engines:
            self._rows.append(
                {
                    "query_hash": query.digest(engine),
                    "query": text,
                    "query_type": query.query_type,
                    "entity": query.entity,
                    "attribute": query.attribute,
                    "attribute_category": query.category,
                    "entity_type": query.entity_type,
                    "or_terms": or_terms(named, query, engine) if named else [],
                    "exclude": excluded(engine, rules),
                    "engine": engine,
                    "ambiguous_with": others[:_MOST_SHARING],
                    "source": query.source,
                }
            )
            self._counts[query.query_type] += 1
            self._counts["ambiguous"] += bool(others)
        if len(self._rows) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self._table.write(pa.Table.from_pylist(self._rows, QUERIES))
        for row in self._rows:
            # what has no value is left out
            self._lines.write(self._encode({k: v for k, v in row.items() if v not in (None, [])}))
            self._lines.write(b"\n")
        self._rows = []
