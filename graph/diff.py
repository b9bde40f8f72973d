"""Two builds of a data set compared: what came, went and changed, and by which statement.

    sparqless diff data/graph/last-week data/graph/this-week

Tables are compared as they lie on disk: rows are ordered by the numbers of their ids, so that two
files are merged batch by batch, and only rows that differ become Python objects.  What is held in
memory are the edges of both hierarchies as numbers, 16 bytes an edge, and the ids of both sets of
entities.

**By which statement** a membership went is read off its chain.  Seen from the root, its first edge
that is not in the other hierarchy is the one where the chain is broken: everything nearer to the
root still stands.  That this edge itself is gone is sure (rule `edge`) if the other data set knows
the edge's child, for then its other edges are there.  If it does not know the child, something else
may have taken it (a label, a sitelink, the recipe's `minus`), which the data sets alone can't tell
(rule `edge?`).  Their stores can: where one is named, the chain's statements are looked up in it,
and the recipe's rules about the entity are asked.

**Two builds of one store** have all statements in common: no edge is to blame, and edges that one
hierarchy lacks lead from entities that it doesn't keep.  Then the recipes decide: the sitelinks of
the entity are held against the minimum and against the last entity that `limit` kept (which the
manifest has), and what else the recipes say of the root is compared.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.entity import Record, numeric_id
from etl.errors import UserError
from etl.manifest import check_whole, read_manifest
from etl.show import printable
from etl.store import REDIRECTS, EntityStore
from graph.facts import Mask
from graph.naming import name_of
from graph.ontology import Ids, Nodes, among, distinct, pack
from graph.recipe import Root, recorded
from graph.records import Records
from graph.tables import id_numbers, step_column

Edge = tuple[str, str, str]  # child, property, parent

CAME: Final = "came"
WENT: Final = "went"
CHANGED: Final = "changed"

#: Columns of an entity whose changes are listed with both values; of the others, they are counted.
LISTED: Final = ("name", "natural_type", "visual")

#: What a store can say of an entity whose chain stands: the rule that keeps it out.
RULES: Final = ("absent", "any", "require", "labels", "min_sitelinks", "minus or limit")

#: Settings of a root that two recipes are compared by where no count of sitelinks decides.
_COMPARED: Final = ("any", "minus", "require", "labels")

_BATCH = 1 << 16  # rows of a file that are compared at a time


@dataclass(frozen=True)
class Change:
    """One difference from A to B."""

    what: str  # entity, edge, membership, or the column of an entity that changed
    change: str  # came, went, changed
    id: str  # the entity, or the edge's child
    name: str | None = None  # of the entity; of edges and memberships `changes` leaves it out
    root: str | None = None  # of a membership
    before: Any = None  # A's value: of a column, of a membership its chain, of an edge itself
    after: Any = None  # B's
    # why the one that lacks a membership does: `edge`, `edge?` (see above), `root` (its recipe
    # hasn't it), or, as all statements of the chain stand, `recipe` (the recipes differ) or
    # `entity` (its own data, or a limit); with the stores `edge`, or the rule of RULES; of two
    # builds of one store the root's setting, `recipe` or `version` (of this tool)
    rule: str | None = None
    edge: Edge | None = None
    detail: str | None = None  # what shows that it is this rule


@dataclass(frozen=True)
class Diff:
    """How two data sets differ."""

    manifests: tuple[tuple[str, str, str], ...]  # what, in A, in B
    same_store: bool  # both were built from one: no statement differs
    entities: tuple[int, int]  # rows in A, in B
    counts: Mapping[tuple[str, str], int]  # (what, change) -> number
    by_root: Mapping[tuple[str, str], int]  # (root, change) -> number of memberships
    changes: tuple[Change, ...]  # up to `limit` of every (what, change, root)


def diff(
    a: Path, b: Path, *, stores: tuple[Path | None, Path | None] = (None, None), limit: int = 20
) -> Diff:
    """Compare two finished graph data sets; `limit` bounds the changes of a kind that are kept.

    Raises
    ------
    UserError : one of them is not finished or has lost a file; a store is not the one that its
        data set was built from.
    """
    sides = _sides(a, b)
    seen: Counter[_Group] = Counter()
    kept = []
    for change in _changes(sides, stores):
        seen[_group(change)] += 1
        if seen[_group(change)] <= limit:
            kept.append(change)
    return _found(sides, seen, tuple(_with_names(kept, sides)))


_Group = tuple[str, str, str | None]  # what, change, root


def _group(change: Change) -> _Group:
    return change.what, change.change, change.root


def _found(sides: tuple[_Side, _Side], seen: Counter[_Group], kept: tuple[Change, ...]) -> Diff:
    counts: Counter[tuple[str, str]] = Counter()
    by_root: Counter[tuple[str, str]] = Counter()
    for (what, change, root), number in seen.items():
        counts[what, change] += number
        if root is not None:
            by_root[root, change] += number
    a, b = (int(side.manifest["counts"]["entities"]) for side in sides)
    manifests = tuple(_manifest_differences(*sides))
    return Diff(manifests, _have_one_store(*sides), (a, b), counts, by_root, kept)


def plain(
    a: Path, b: Path, *, stores: tuple[Path | None, Path | None] = (None, None)
) -> Iterator[dict[str, Any]]:
    """Yield every difference for JSON, and at the end what stands above them for people.

    Raises
    ------
    UserError : as :func:`diff`.
    """
    sides = _sides(a, b)
    seen: Counter[_Group] = Counter()
    for change in _changes(sides, stores):
        seen[_group(change)] += 1
        yield as_plain(change)
    yield summary(_found(sides, seen, ()))


def _with_names(kept: list[Change], sides: tuple[_Side, _Side]) -> Iterator[Change]:
    """Name the entities of memberships and edges, whose tables hold ids alone."""
    wanted = pa.array([change.id for change in kept if change.name is None], pa.string())
    names: dict[str, str] = {}
    for side in sides:
        rows = pq.read_table(
            side.path / "entities.parquet",
            columns=["id", "name"],
            filters=pc.field("id").isin(wanted),
        )
        names |= zip(*(column.to_pylist() for column in rows.columns), strict=True)
    return (replace(c, name=names.get(c.id)) if c.name is None else c for c in kept)


def changes(
    a: Path, b: Path, *, stores: tuple[Path | None, Path | None] = (None, None)
) -> Iterator[Change]:
    """Yield every difference: of entities, then of edges, then of memberships, in their order.

    Raises
    ------
    UserError : as :func:`diff`.
    """
    return _changes(_sides(a, b), stores)


@dataclass(frozen=True, eq=False)
class _Side:
    """One of the two data sets."""

    path: Path
    manifest: dict[str, Any]
    label: str  # A or B

    def file(self, table: str) -> pq.ParquetFile:
        return pq.ParquetFile(self.path / f"{table}.parquet")

    @property
    def texts(self) -> list[dict[str, str]]:
        return list(self.manifest["recipe"]["texts"])

    @property
    def roots(self) -> list[str]:
        return [root["root"] for root in self.manifest["counts"]["roots"]]


def _sides(a: Path, b: Path) -> tuple[_Side, _Side]:
    found = []
    for path, label in ((a, "A"), (b, "B")):
        manifest = read_manifest(path, "graph")
        check_whole(path, manifest, "build it again with `sparqless graph`")
        found.append(_Side(path, manifest, label))
    return found[0], found[1]


def _have_one_store(a: _Side, b: _Side) -> bool:
    """Say whether both were built from the same records and merged ids."""
    origins = [side.manifest["store"] for side in (a, b)]
    made_of = [(origin["contents"], origin["outputs"].get(REDIRECTS)) for origin in origins]
    return bool(made_of[0] == made_of[1])


def _changes(
    sides: tuple[_Side, _Side], stores: tuple[Path | None, Path | None]
) -> Iterator[Change]:
    with ExitStack() as open_stores:
        a, b = sides
        causes = _cause(a, b, stores[0], open_stores), _cause(b, a, stores[1], open_stores)
        yield from _entities(sides)
        yield from _edges(sides)
        yield from _memberships(sides, causes)


# --------------------------------------------------------------------------------------------------
# Two sorted files side by side
# --------------------------------------------------------------------------------------------------

Keys = Callable[[pa.Table], list[Ids]]


@dataclass(frozen=True, eq=False)
class _Window:
    """The rows of two files between two keys, and which of them are of the same key."""

    a: pa.Table
    b: pa.Table
    same_a: Nodes  # (S,) rows of a and
    same_b: Nodes  # (S,) rows of b that have one key

    def only(self, side: int) -> pa.Table:
        """Return the rows of one side whose key the other one hasn't."""
        table, same = ((self.a, self.same_a), (self.b, self.same_b))[side]
        alone = np.ones(table.num_rows, bool)
        alone[same] = False
        return table.filter(pa.array(alone))

    def differing(self, column: str) -> Mask:
        """Say of the rows of one key which differ in a column."""
        x, y = (
            table.column(column).combine_chunks().take(pa.array(same))
            for table, same in ((self.a, self.same_a), (self.b, self.same_b))
        )
        return _differ(_one_chunk(x), _one_chunk(y))


class _Reader:
    """One file's rows, read ahead by a batch."""

    def __init__(self, file: pq.ParquetFile, columns: Sequence[str], keys: Keys) -> None:
        self._batches = file.iter_batches(_BATCH, columns=list(columns))
        self._keys_of = keys
        self.rows = file.schema_arrow.empty_table().select(list(columns))
        self.keys: list[Ids] = []

    def fill(self) -> bool:
        """Read on if no row waits; return whether one does."""
        while not self.rows.num_rows:
            batch = next(self._batches, None)
            if batch is None:
                return False
            self.rows = pa.table(batch)
            self.keys = self._keys_of(self.rows)
        return True

    @property
    def last(self) -> tuple[int, ...]:
        return tuple(int(key[-1]) for key in self.keys)

    def take(self, bound: tuple[int, ...]) -> tuple[pa.Table, list[Ids]]:
        """Hand out the waiting rows up to a key, that one included."""
        if not self.rows.num_rows:
            return self.rows, [np.empty(0, np.int64) for _ in bound]
        within = np.ones(self.rows.num_rows, bool)
        for key, most in zip(reversed(self.keys), reversed(bound), strict=True):
            within = (key < most) | ((key == most) & within)
        count = int(np.count_nonzero(within))
        taken = self.rows.slice(0, count), [key[:count] for key in self.keys]
        self.rows, self.keys = self.rows.slice(count), [key[count:] for key in self.keys]
        return taken


def _windows(sides: tuple[_Side, _Side], table: str, keys: Keys) -> Iterator[_Window]:
    """Walk two tables side by side; the columns are those that both have."""
    files = [side.file(table) for side in sides]
    columns = [n for n in files[0].schema_arrow.names if n in files[1].schema_arrow.names]
    readers = [_Reader(file, columns, keys) for file in files]
    while waiting := [reader for reader in readers if reader.fill()]:
        bound = min(reader.last for reader in waiting)
        (a, keys_a), (b, keys_b) = (reader.take(bound) for reader in readers)
        yield _Window(a, b, *_matched(keys_a, keys_b))


def _matched(a: list[Ids], b: list[Ids]) -> tuple[Nodes, Nodes]:
    """Return the rows of a and those of b whose keys are the same, each key once a side."""
    both = [np.concatenate(pair) for pair in zip(a, b, strict=True)]
    order = np.lexsort(both[::-1])  # stable: of equal keys, a's row comes first
    same = np.ones(max(0, len(order) - 1), bool)
    for key in both:
        same &= key[order[1:]] == key[order[:-1]]
    count = len(a[0])
    same &= (order[:-1] < count) & (order[1:] >= count)
    return order[:-1][same], order[1:][same] - count


def _differ(x: pa.Array, y: pa.Array) -> Mask:
    """Say where two columns of one type differ; null is equal to null, lists are compared whole."""
    if not pa.types.is_list(x.type):
        equal = pc.fill_null(pc.equal(x, y), False)
        neither = pc.and_(pc.is_null(x), pc.is_null(y))
        return np.asarray(pc.invert(pc.or_(equal, neither)).to_numpy(zero_copy_only=False))
    lengths = [pc.fill_null(pc.list_value_length(c), -1).to_numpy() for c in (x, y)]
    differ = np.asarray(lengths[0] != lengths[1])
    alike = np.flatnonzero(~differ)
    x, y = (c.take(pa.array(alike)) for c in (x, y))
    row = alike[pc.list_parent_indices(x).to_numpy()]
    differ[row[_differ(pc.list_flatten(x), pc.list_flatten(y))]] = True
    return differ


def _one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


# --------------------------------------------------------------------------------------------------
# Entities and edges
# --------------------------------------------------------------------------------------------------


def _entities(sides: tuple[_Side, _Side]) -> Iterator[Change]:
    for window in _windows(sides, "entities", lambda rows: [id_numbers(rows.column("id"))]):
        for side, change in enumerate((WENT, CAME)):
            alone = window.only(side).select(["id", "name"])
            for row in alone.to_pylist():
                yield Change("entity", change, row["id"], row["name"])
        for column in window.a.column_names:
            rows = np.flatnonzero(window.differing(column)) if column != "id" else ()
            if not len(rows):
                continue
            a, b = window.a.take(window.same_a[rows]), window.b.take(window.same_b[rows])
            listed = column in LISTED
            names = zip(*(a.column(n).to_pylist() for n in ("id", "name")), strict=True)
            values = [
                t.column(column).to_pylist() if listed else [None] * len(rows) for t in (a, b)
            ]
            for (id, name), before, after in zip(names, *values, strict=True):
                yield Change(column, CHANGED, id, name, before=before, after=after)


def _edge_keys(rows: pa.Table) -> list[Ids]:
    child, parent = (id_numbers(rows.column(name)) for name in ("child", "parent"))
    return [child, step_column(rows.column("property")), parent]


def _edges(sides: tuple[_Side, _Side]) -> Iterator[Change]:
    for window in _windows(sides, "hierarchy", _edge_keys):
        for side, change in enumerate((WENT, CAME)):
            for row in window.only(side).to_pylist():
                edge = (row["child"], row["property"], row["parent"])
                yield Change("edge", change, row["child"], edge=edge)


# --------------------------------------------------------------------------------------------------
# Memberships, and why
# --------------------------------------------------------------------------------------------------


def _membership_keys(rows: pa.Table) -> list[Ids]:
    return [id_numbers(rows.column(name)) for name in ("entity", "root")]


def _memberships(sides: tuple[_Side, _Side], causes: tuple[_Cause, _Cause]) -> Iterator[Change]:
    """Compare memberships: what went is asked of B, what came of A, a changed chain of both."""
    for window in _windows(sides, "memberships", _membership_keys):
        for side, change in enumerate((WENT, CAME)):
            rows = window.only(side)
            why = causes[1 - side].of(rows)
            for row, (rule, edge, detail) in zip(rows.to_pylist(), why, strict=True):
                chain = {("before", "after")[side]: row["path"]}
                yield Change(
                    "membership", change, row["entity"], root=row["root"], rule=rule, edge=edge,
                    detail=detail, **chain,
                )  # fmt: skip
        differing = np.flatnonzero(window.differing("path"))
        a, b = window.a.take(window.same_a[differing]), window.b.take(window.same_b[differing])
        broken, made = causes[1].of(a, another=True), causes[0].of(b, another=True)
        for x, y, old, new in zip(a.to_pylist(), b.to_pylist(), broken, made, strict=True):
            # A chain is replaced because it is broken, or because there is a better one.
            rule, edge, _ = old if old[1] is not None else new
            yield Change(
                "membership", CHANGED, x["entity"], root=x["root"], before=x["path"],
                after=y["path"], rule=rule, edge=edge,
            )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Hierarchy:
    """The edges of a data set as numbers, to look others up in."""

    ends: Ids  # ids of children and parents, ascending; an edge's are numbers in it
    pairs: npt.NDArray[np.uint64]  # (E,) child and parent, packed, ascending
    codes: npt.NDArray[np.int64]  # (E',) place in pairs << 20 | step, ascending
    known: Ids  # children and entities, ascending: what the data set walks up from

    @classmethod
    def of(cls, side: _Side) -> _Hierarchy:
        columns: list[list[Ids]] = [[np.empty(0, np.int64)] for _ in range(3)]
        for batch in side.file("hierarchy").iter_batches(_BATCH):
            for column, key in zip(columns, _edge_keys(pa.table(batch)), strict=True):
                column.append(key)
        child, step, parent = map(np.concatenate, columns)
        entities = [np.empty(0, np.int64)]
        for batch in side.file("entities").iter_batches(_BATCH, columns=["id"]):
            entities.append(id_numbers(batch.column(0)))
        ends = distinct(np.concatenate((child, parent)))
        packed = pack(np.searchsorted(ends, child), np.searchsorted(ends, parent))
        pairs = distinct(packed)
        codes = distinct((np.searchsorted(pairs, packed) << 20) | step)
        return cls(ends, pairs, codes, distinct(np.concatenate((child, *entities))))

    def have(self, child: Ids, step: Ids, parent: Ids) -> Mask:
        """Say which of some edges are there."""
        if not len(self.pairs):
            return np.zeros(len(child), bool)
        known = among(child, self.ends) & among(parent, self.ends)
        packed = pack(np.searchsorted(self.ends, child), np.searchsorted(self.ends, parent))
        at = np.searchsorted(self.pairs, packed)
        at[at == len(self.pairs)] = 0
        there = (self.pairs[at] == packed) & among((at << 20) | step, self.codes)
        return np.asarray(known & there)

    def know(self, ids: Ids) -> Mask:
        """Say which items the data set walks up from."""
        return among(ids, self.known)


Why = tuple[str, Edge | None, str | None]  # rule, edge, detail


@dataclass(frozen=True)
class _Part:
    """A root as one part of a recipe has it, and where its limit ended in a build."""

    root: Root
    last_kept: Mapping[str, Any] | None  # entity and sitelinks, where `limit` took any


@dataclass(frozen=True, eq=False)
class _Sitelinks:
    """How many sitelinks entities have: 12 bytes an entity."""

    ids: Ids  # ascending
    count: npt.NDArray[np.int32]

    @classmethod
    def of(cls, side: _Side) -> _Sitelinks:
        table = side.file("entities").read(columns=["id", "sitelinks"])
        return cls(id_numbers(table.column("id")), table.column("sitelinks").to_numpy())

    def __getitem__(self, id: str) -> int:
        return int(self.count[np.searchsorted(self.ids, numeric_id(id))])


@dataclass(frozen=True, eq=False)
class _Recipes:
    """Two recipes over one store: which setting of a root keeps an entity out of one build."""

    label: str  # of the data set that lacks the entity
    parts: Mapping[str, list[_Part]]  # by root, of that one
    others: Mapping[str, list[_Part]]  # by root, of the one that has it
    sitelinks: _Sitelinks  # of the latter's entities

    def rule(self, root: str, entity: str) -> tuple[str, str | None]:
        """Return the setting and what shows it; `recipe` where several may be the reason."""
        parts, others = self.parts.get(root, []), self.others.get(root, [])
        here, there = _without(parts, others), _without(others, parts)
        links = self.sitelinks[entity]
        found = dict(self._of_part(part, there, entity, links) for part in here)
        return next(iter(found.items())) if len(found) == 1 else ("recipe", None)

    def _of_part(
        self, part: _Part, others: list[_Part], entity: str, links: int
    ) -> tuple[str, str | None]:
        if links < part.root.min_sitelinks:
            return "min_sitelinks", f"it has {links}, and {part.root.min_sitelinks} are asked for"
        last = part.last_kept
        if last is not None and (links, -numeric_id(entity)) < (
            last["sitelinks"],
            -numeric_id(last["entity"]),
        ):
            return "limit", (
                f"the last kept of root {part.root.id} in {self.label}, {last['entity']}, "
                f"has {last['sitelinks']} sitelinks"
            )
        differing = [
            name
            for name in _COMPARED
            if all(getattr(other.root, name) != getattr(part.root, name) for other in others)
        ]
        return (differing[0] if len(differing) == 1 else "recipe"), None


def _without(parts: list[_Part], others: list[_Part]) -> list[_Part]:
    """Return the parts that the others lack: what both have keeps the same entities."""
    both = [other.root for other in others]
    return [part for part in parts if part.root not in both]


@dataclass(frozen=True, eq=False)
class _Cause:
    """Why a data set lacks memberships that another one has."""

    hierarchy: _Hierarchy
    parts: Mapping[str, list[_Part]]  # of its recipe, by root; one id may come once per part
    same_recipe: bool
    recipes: _Recipes | None  # where both data sets are of one store
    records: Records | None  # of its store, if that is named

    def of(self, rows: pa.Table, *, another: bool = False) -> list[Why]:
        """Return why this data set lacks memberships, or has `another` chain for them."""
        if self.recipes is not None:
            return [self._by_recipes(self.recipes, row, another) for row in rows.to_pylist()]
        broken = self._broken(_one_chunk(rows.column("path")))
        children = pa.array([edge[0] for edge in broken if edge], pa.string())
        sure = iter(self.hierarchy.know(id_numbers(children)).tolist())
        return [
            self._why(row, edge, edge is not None and next(sure))
            for row, edge in zip(rows.to_pylist(), broken, strict=True)
        ]

    def _why(self, row: Mapping[str, Any], broken: Edge | None, sure: bool) -> Why:
        if row["root"] not in self.parts:
            return "root", None, None
        if self.records is not None:
            return self._by_store(self.records, row)
        if broken is not None:
            return ("edge" if sure else "edge?"), broken, None
        return ("entity" if self.same_recipe else "recipe"), None, None

    def _by_recipes(self, recipes: _Recipes, row: Mapping[str, Any], another: bool) -> Why:
        if row["root"] not in self.parts:
            return "root", None, None
        if self.same_recipe:
            return "version", None, None
        rule, detail = ("recipe", None) if another else recipes.rule(row["root"], row["entity"])
        if rule == "recipe" and not another and self.records is not None:
            return self._by_store(self.records, row)
        return rule, None, detail

    def _broken(self, paths: pa.ListArray) -> list[Edge | None]:
        """Return of every chain the last edge, as seen from its entity, that is not there."""
        values = pc.list_flatten(paths)
        row = pc.list_parent_indices(paths).to_numpy()
        first = np.searchsorted(row, row)  # where each value's chain begins
        step = np.flatnonzero((np.arange(len(row)) - first) % 2 == 1)
        edges = [values.take(pa.array(step + shift)) for shift in (-1, 0, 1)]
        there = self.hierarchy.have(
            id_numbers(edges[0]), step_column(edges[1]), id_numbers(edges[2])
        )
        lost = np.flatnonzero(~there)
        last = np.full(len(paths), -1)
        np.maximum.at(last, row[step[lost]], lost)
        taken = pa.array(last[last >= 0])
        found = zip(*(column.take(taken).to_pylist() for column in edges), strict=True)
        return [next(found) if place >= 0 else None for place in last.tolist()]

    def _by_store(self, records: Records, row: Mapping[str, Any]) -> Why:
        """Ask the store: is every statement of the chain there, and what does the recipe say?"""
        path = row["path"]
        for child, step, parent in zip(path[::2], path[1::2], path[2::2], strict=False):
            subject, object = (parent, child) if step.startswith("^") else (child, parent)
            if object not in records.objects(subject, step.lstrip("^")):
                return "edge", (child, step, parent), None
        record = records.get(row["entity"])
        if record is None:
            return "absent", None, None
        rules = {_rule(part.root, record) for part in self.parts[row["root"]]}
        return max(rules, key=RULES.index), None, None


def _rule(root: Root, record: Record) -> str:
    """Return the rule about the entity itself that keeps it out, in the order of a build."""
    if any(not record.truthy(property_id) for property_id in root.require):
        return "require"
    if name_of(record, root.labels) is None:
        return "labels"
    if record.sitelinks < root.min_sitelinks:
        return "min_sitelinks"
    return "minus or limit" if root.minus or root.limit is not None else "any"


def _cause(side: _Side, other: _Side, store: Path | None, stack: ExitStack) -> _Cause:
    parts = _parts(side)
    recipes = None
    if _have_one_store(side, other):
        recipes = _Recipes(side.label, parts, _parts(other), _Sitelinks.of(other))
    records = None
    if store is not None:
        opened = stack.enter_context(EntityStore(store))
        if opened.manifest["contents"] != side.manifest["store"]["contents"]:
            raise UserError(f"{side.path} was not built from {store}: name its store.")
        records = Records(opened)
    return _Cause(_Hierarchy.of(side), parts, side.texts == other.texts, recipes, records)


def _parts(side: _Side) -> dict[str, list[_Part]]:
    """Return what each part of a data set's recipe says of its roots, by the ids that they have."""
    counts = side.manifest["counts"]["roots"]
    last_kept = {(root["root"], root["recipe"]): root.get("last_kept") for root in counts}
    merged = side.manifest["recipe"]["merged"]
    found: dict[str, list[_Part]] = {id: [] for id in side.roots}
    for part in recorded(side.texts).parts():
        for root in part.roots:
            id = merged.get(root.id, root.id)
            found.setdefault(id, []).append(_Part(root, last_kept.get((id, part.name))))
    return found


# --------------------------------------------------------------------------------------------------
# What the manifests say, and what people see
# --------------------------------------------------------------------------------------------------


def _manifest_differences(a: _Side, b: _Side) -> Iterator[tuple[str, str, str]]:
    """Yield what the two were made from and with, where it differs: (what, in A, in B)."""
    for what, of in _FACTS.items():
        left, right = of(a.manifest), of(b.manifest)
        if left != right:
            yield what, left, right
    texts = [{text["name"]: text["text"] for text in side.texts} for side in (a, b)]
    for name in dict.fromkeys([*texts[0], *texts[1]]):
        if texts[0].get(name) != texts[1].get(name):
            yield f"recipe {name}", _told(texts[0].get(name)), _told(texts[1].get(name))
    versions = [side.manifest["versions"] for side in (a, b)]
    for name in dict.fromkeys([*versions[0], *versions[1]]):
        left, right = (version.get(name, "none") for version in versions)
        if left != right:
            yield f"version of {name}", left, right


def _told(text: str | None) -> str:
    return "none" if text is None else f"sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]}"


_FACTS: Final[Mapping[str, Callable[[dict[str, Any]], str]]] = {
    "recipe": lambda m: str(m["recipe"]["name"]),
    "dump": lambda m: ", ".join(
        f"{i['name']} ({i['size']:,} bytes)" for i in m["store"]["inputs"]
    ),
    "records of the store": lambda m: (
        f"{m['store']['contents']['records']:,} "
        f"(values {m['store']['contents']['values_sha256'][:12]})"
    ),
    "--limit of the store": lambda m: str(m["store"]["limit"] or "none"),
    "damaged places of the dump": lambda m: str(len(m["store"]["damage"])),
    "format": lambda m: str(m["format"]),
}  # fmt: skip


def as_plain(change: Change) -> dict[str, Any]:
    """Return a change for JSON, without what it doesn't have."""
    plain = {name: getattr(change, name) for name in Change.__dataclass_fields__}
    return {name: value for name, value in plain.items() if value is not None}


def summary(found: Diff) -> dict[str, Any]:
    """Return what stands above the changes, for JSON."""
    return {
        "manifests": [dict(zip(("what", "a", "b"), row, strict=True)) for row in found.manifests],
        "same_store": found.same_store,
        "entities": dict(zip("ab", found.entities, strict=True)),
        "counts": _nested(found.counts),
        "memberships": _nested(found.by_root),
    }


def _nested(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (what, change), number in counts.items():
        nested.setdefault(what, {})[change] = number
    return nested


def described(found: Diff) -> Iterator[str]:
    """Yield lines for a terminal: how they were made, counts, changes by root."""
    return map(printable, _described(found))


def _described(found: Diff) -> Iterator[str]:
    for what, a, b in found.manifests:
        yield f"{what}: {a} -> {b}"
    if found.same_store:
        yield "store: one for both, so no statement differs; what does is by recipe or version"
    yield f"entities: {found.entities[0]:,} -> {found.entities[1]:,}"
    if not found.counts:
        yield "no row differs"
    for what, by_change in _nested(found.counts).items():
        told = ", ".join(f"{n:,} {change}" for change, n in by_change.items())
        yield f"  {what}: {told}{'' if what in _SHOWN else ' (counted, not listed)'}"
    shown: tuple[str, str, str | None] | None = None
    for change in sorted(found.changes, key=lambda c: (c.what == "membership", c.root or "")):
        group = change.what, change.change, change.root
        if change.what not in _SHOWN:
            continue
        if group != shown:
            number = found.by_root.get((change.root or "", change.change))
            total = number or found.counts[change.what, change.change]
            yield ""
            yield f"{_heading(change, found.same_store)} ({total:,})"
            shown = group
        yield f"  {_line(change)}"


_SHOWN: Final = ("entity", "edge", "membership", *LISTED)


def _heading(change: Change, same_store: bool) -> str:
    root = f" of {change.root}" if change.root else ""
    heading = f"{change.what}{root} {change.change}"
    if change.what == "edge" and same_store:
        heading += ", as a statement of what is kept in one of the two only"
    return heading


def _line(change: Change) -> str:
    named = f"{change.id} {change.name}" if change.name else change.id
    if change.what == "edge" and change.edge:
        return f"{named}: {' '.join(change.edge)}"
    if change.what == "membership":
        edge = " ".join(change.edge or ())
        chains = [" ".join(path) for path in (change.before, change.after) if path is not None]
        why = _WHY[change.rule or ""].format(edge=edge)
        detail = f": {change.detail}" if change.detail else ""
        return f"{named}: {why}{detail} ({' -> '.join(chains)})"
    if change.what in LISTED:
        return f"{named}: {change.before} -> {change.after}"
    return named


#: What is lacking, in the data set that has not the membership or has another chain for it.
_WHY: Final[Mapping[str, str]] = {
    "edge": "{edge} is not there",
    "edge?": "{edge} is not there, or a rule keeps the entity out (name the store to know)",
    "root": "the recipe doesn't have this root",
    "recipe": "all statements are there, the recipe is another",
    "entity": "all statements are there: a rule about the entity, or a limit",
    "version": "store and recipe are the same, the version of sparqless is another",
    **{
        rule: f"all statements are there, kept out by {rule}" for rule in (*RULES, "minus", "limit")
    },
    "absent": "the store has no record of it",
}
