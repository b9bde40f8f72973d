"""What is wrong with the hierarchies of a store: cycles, mixed-up P31 and P279, missing parents.

Everything here is about direct, truthy statements of the whole store, whatever a data set takes of
it.  An id that was merged stands for what it was merged into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from etl.entity import entity_id
from etl.merged_ids import Redirects
from etl.progress import Progress, Tick
from etl.store import EntityStore
from graph.cycles import Cycle, cycles, cyclic_core, loops
from graph.entities import Grouped
from graph.facts import Facts
from graph.findings import NAMED, NO_IDS, Findings, Named, Rows, Scope, several
from graph.ontology import (
    Csr,
    Edges,
    Ids,
    Ontology,
    among,
    distinct,
    edge_file,
    pack,
    truthy_rows,
    unpack,
)
from graph.tables import grouped

INSTANCE_OF, SUBCLASS_OF, PARENT_TAXON = "P31", "P279", "P171"

_MOST_WAITING = 1 << 20  # ids, before repeats are dropped

_RELATION: Final = {
    SUBCLASS_OF: "a subclass of",
    PARENT_TAXON: "a child taxon of",
    INSTANCE_OF: "an instance of",
}


def check_ontology(
    store: EntityStore, facts: Facts, scope: Scope, quiet: bool
) -> Iterator[Findings]:
    """Yield what can be found of the properties that the store kept.

    P171 and P279 are loaded one after the other; P31, which has 120 million edges in all of
    Wikidata, is read a row group at a time.
    """
    outputs = store.manifest["outputs"]
    files = {p: edge_file(store.path, outputs, p) for p in (PARENT_TAXON, SUBCLASS_OF, INSTANCE_OF)}
    sizes = {p: truthy_rows(pq.ParquetFile(file)) for p, file in files.items() if file}
    total = sum(sizes.values()) + sizes.get(INSTANCE_OF, 0)  # which is read twice
    with Progress("checking", total, unit=" edges", quiet=quiet) as progress:
        for property_id, cycle, missing in (
            (PARENT_TAXON, "cycle_parent_taxon", "missing_parent_taxon"),
            (SUBCLASS_OF, "cycle_subclass", "missing_superclass"),
        ):
            if property_id not in store.properties:
                continue
            progress.note = property_id
            ontology = Ontology.load(store.path, [property_id])
            edges = ontology.edges.get(property_id, Edges.of([], []))
            progress.add(len(edges.subject))
            yield _cycles(cycle, property_id, ontology, edges, scope)
            yield _missing(missing, property_id, ontology, edges, facts, scope)
            if property_id == PARENT_TAXON:
                yield _several_parents(ontology, edges, scope)
            elif INSTANCE_OF in store.properties:
                progress.note = INSTANCE_OF
                redirects = Redirects.load(store.path, outputs)
                read = partial(_truthy, files[INSTANCE_OF], redirects, progress.add)
                yield from _instances(read, ontology, edges, scope)


def _cycles(
    kind: str, property_id: str, ontology: Ontology, edges: Edges, scope: Scope
) -> Findings:
    """Find components of items that are above each other, and items that are above themselves.

    `related` is a shortest cycle, `count` the items of the component.  A statement of an item about
    itself is a finding of its own: it is mended by itself.
    """
    core = cyclic_core(edges, ontology.size)
    found = [Cycle([node], [node]) for node in loops(edges).tolist()]
    try:
        found += cycles(core)
    except OverflowError:
        return _one_tangle(kind, property_id, core)
    return _of_cycles(kind, property_id, found, ontology.ids, scope)


def _of_cycles(kind: str, property_id: str, found: list[Cycle], ids: Ids, scope: Scope) -> Findings:
    """Make findings of cycles of nodes that are called `ids`."""
    found = sorted(found, key=lambda cycle: (cycle.nodes[0], len(cycle.component)))
    related = _grouped([ids[cycle.nodes] for cycle in found])
    components = _grouped([ids[cycle.component] for cycle in found])
    count = np.diff(components.start)

    def sentence(row: int, named: Named) -> str:
        start, end = related.start[row : row + 2].tolist()
        return _ring(related.values[start:end].tolist(), int(count[row]), property_id, named)

    firsts, inside = related.values[related.start[:-1]], scope.any_inside(components)
    return Findings(kind, property_id, firsts, count, inside, related, sentence)


def _ring(ids: list[int], items: int, property_id: str, named: Named) -> str:
    if len(ids) == 1:
        return f"{named(ids[0])} is {_RELATION[property_id]} itself ({property_id})."
    ring = [named(id) for id in ids[:NAMED]]
    ring += [f"… ({len(ids) - NAMED:,} more)"] * (len(ids) > NAMED)
    walk = " → ".join([*ring, ring[0]])
    together = f"; {items:,} items lie on such cycles together" if items > len(ids) else ""
    relation = f"Each is {_RELATION[property_id]} the next ({property_id})"
    if property_id == INSTANCE_OF:
        relation = (
            f"The first is an instance ({INSTANCE_OF}) of the next, the others are instances or "
            f"subclasses ({SUBCLASS_OF})"
        )
    return f"{relation}: {walk}{together}."


def _one_tangle(kind: str, property_id: str, core: Edges) -> Findings:
    """Return the one finding where so many items lie on cycles that they can't be told apart."""
    items = len(distinct(core.subject))
    text = (
        f"{items:,} items lie on cycles of {property_id} or between them, too many to list the "
        "cycles: is the store of a Wikidata dump?"
    )
    one = np.array([items])
    nothing = Grouped(np.zeros(2, np.int64), NO_IDS)
    return Findings(
        kind, property_id, np.zeros(1, np.int64), one, np.ones(1, bool), nothing, lambda *_: text
    )


def _grouped(pieces: Sequence[Ids]) -> Grouped:
    start = np.cumsum([0, *map(len, pieces)])
    return Grouped(start, np.concatenate([NO_IDS, *pieces]))


def _rows_of(csr: Csr, rows: Rows, ids: Ids) -> Grouped:
    """Return the neighbours of some of a Csr's rows, as ids."""
    of, neighbours = csr.expand(csr.rows[rows].astype(np.int64))
    return Grouped(grouped(of, len(rows)), ids[neighbours])


def _missing(
    kind: str, property_id: str, ontology: Ontology, edges: Edges, facts: Facts, scope: Scope
) -> Findings:
    """Find values of a property that the store has no record of.

    `related` are the items that name them, `count` says how many these are.
    """
    csr = edges.backward
    ids = ontology.ids[csr.rows]
    rows = np.flatnonzero((facts.rows(ids) < 0) & (ids > 0))
    related = _rows_of(csr, rows, ontology.ids)
    count = np.diff(related.start)
    items = ids[rows]

    def sentence(row: int, named: Named) -> str:
        of = "item is" if count[row] == 1 else "items are"
        return (
            f"The store has no record of {entity_id(int(items[row]))} (deleted, merged or newer "
            f"than the dump), and {count[row]:,} {of} {_RELATION[property_id]} it "
            f"({property_id}): {several(related, row, named)}."
        )

    inside = scope.any_inside(related)
    return Findings(kind, property_id, items, count, inside, related, sentence)


def _several_parents(ontology: Ontology, edges: Edges, scope: Scope) -> Findings:
    """Find taxa with more than one parent: `related` are the parents."""
    csr = edges.forward
    rows = np.flatnonzero(np.diff(csr.start) > 1)
    ids, related = ontology.ids[csr.rows[rows]], _rows_of(csr, rows, ontology.ids)
    count = np.diff(related.start)

    def sentence(row: int, named: Named) -> str:
        return (
            f"{named(int(ids[row]))} has {count[row]:,} parent taxa ({PARENT_TAXON}): "
            f"{several(related, row, named)}."
        )

    kind = "several_parent_taxa"
    return Findings(kind, PARENT_TAXON, ids, count, scope.inside(ids), related, sentence)


# A piece of the P31 edges: subjects; the classes, of which one may come twice where a merged id
# stands for it; and for each subject the place of its class among them.
_Piece = tuple[Ids, Ids, Rows]


def _truthy(file: Path | None, redirects: Redirects, advance: Tick) -> Iterator[_Piece]:
    """Yield a file's truthy edges, a row group at a time."""
    if file is None:
        return
    parquet = pq.ParquetFile(file)
    left = truthy_rows(parquet)
    for group in range(parquet.num_row_groups):
        if left <= 0:
            break
        table = parquet.read_row_group(group, columns=["subject", "object"]).slice(0, left)
        coded = table.column("object").combine_chunks().dictionary_encode()
        classes = coded.dictionary.to_numpy(zero_copy_only=False)
        order = np.argsort(classes)  # looked up in order, they are found twice as fast
        merged = np.empty_like(classes)
        merged[order] = redirects.followed(classes[order])
        yield table.column("subject").to_numpy(), merged, coded.indices.to_numpy()
        left -= len(table)
        advance(len(table))


def _instances(
    read: Callable[[], Iterator[_Piece]], ontology: Ontology, edges: Edges, scope: Scope
) -> Iterator[Findings]:
    """Find what P31 has to do with P279; `read` reads P31 from its beginning, `edges` are P279's.

    Two passes over P31, so that nothing of it stays but what may be on a cycle.
    """
    subclass = pack(edges.subject, edges.object)
    below = ontology.ids[edges.forward.rows]
    itself, both, used = [NO_IDS], [np.empty(0, np.uint64)], [NO_IDS]
    for subject, classes, place in read():
        used.append(classes)
        if sum(map(len, used[1:])) > _MOST_WAITING:
            used = [distinct(np.concatenate(used))]
        itself.append(subject[subject == classes[place]])
        rows = np.flatnonzero(among(subject, below))
        item, class_ = ontology.find(subject[rows]), ontology.find(classes[place[rows]])
        pairs = pack(item[class_ >= 0], class_[class_ >= 0])
        both.append(pairs[among(pairs, subclass)])
    yield _of_themselves(distinct(np.concatenate(itself)), scope)
    pairs = distinct(np.concatenate(both))
    instance, superclass = unpack(pairs)
    yield _instance_and_subclass(ontology.ids[instance], ontology.ids[superclass], scope)
    yield _mixed_cycles(read(), np.concatenate(used), ontology, edges, scope)


def _mixed_cycles(
    instances: Iterator[_Piece], used: Ids, ontology: Ontology, edges: Edges, scope: Scope
) -> Findings:
    """Find components that P31 and P279 make together, and in each a shortest cycle with a P31.

    Only items that are used as a class can be on a cycle: `used` are the values of P31.
    """
    above = distinct(np.concatenate([used, ontology.ids[edges.backward.rows]]))
    subjects, objects = [NO_IDS], [NO_IDS]
    for subject, classes, place in instances:
        rows = np.flatnonzero(among(subject, above))
        subjects.append(subject[rows])
        objects.append(classes[place[rows]])
    kept = among(ontology.ids, above)[edges.subject]
    pairs = [np.concatenate(subjects), np.concatenate(objects)]
    joined = [
        np.concatenate([column, ontology.ids[side[kept]]])
        for column, side in zip(pairs, (edges.subject, edges.object), strict=True)
    ]
    ids = distinct(np.concatenate(joined))
    instance_of, all_edges = (
        Edges.of(*(np.searchsorted(ids, column) for column in columns))
        for columns in (pairs, joined)
    )
    core = cyclic_core(all_edges, len(ids))
    try:
        found = list(cycles(core, through=instance_of))
    except OverflowError:
        return _one_tangle("cycle_mixed", INSTANCE_OF, core)
    return _of_cycles("cycle_mixed", INSTANCE_OF, found, ids, scope)


def _of_themselves(ids: Ids, scope: Scope) -> Findings:
    """Make findings of the items with a P31 to themselves."""
    ones = np.ones(len(ids), np.int64)
    related = Grouped(np.arange(len(ids) + 1), ids)

    def sentence(row: int, named: Named) -> str:
        return f"{named(int(ids[row]))} is an instance of itself ({INSTANCE_OF})."

    kind = "instance_of_itself"
    return Findings(kind, INSTANCE_OF, ids, ones, scope.inside(ids), related, sentence)


def _instance_and_subclass(subject: Ids, object: Ids, scope: Scope) -> Findings:
    """Make findings of the pairs that P31 and P279 both link; `related` are the classes."""
    ids, first = np.unique(subject, return_index=True)
    related = Grouped(np.append(first, len(subject)), object)

    def sentence(row: int, named: Named) -> str:
        return (
            f"{named(int(ids[row]))} is both an instance ({INSTANCE_OF}) and a subclass "
            f"({SUBCLASS_OF}) of {several(related, row, named)}, by direct statements."
        )

    count, inside = np.diff(related.start), scope.inside(ids)
    kind = "instance_and_subclass"
    return Findings(kind, INSTANCE_OF, ids, count, inside, related, sentence)
