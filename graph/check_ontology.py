"""What is wrong with the hierarchies of a store: cycles, mixed-up P31 and P279, missing parents.

Everything here is about direct, truthy statements of the whole store, whatever a data set takes of
it.  An id that was merged stands for what it was merged into.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from etl.entity import entity_id
from etl.merged_ids import Redirects
from etl.progress import Progress, Tick
from etl.store import EntityStore
from graph.cycles import cycles, cyclic_core, loops
from graph.entities import Grouped
from graph.facts import Facts
from graph.findings import NAMED, NO_IDS, Findings, Named, Rows, Scope, among, several
from graph.ontology import Csr, Edges, Ids, Number, Ontology, distinct, edge_file, truthy_rows
from graph.tables import grouped

INSTANCE_OF, SUBCLASS_OF, PARENT_TAXON = "P31", "P279", "P171"

_RELATION: Final = {
    SUBCLASS_OF: "a subclass of",
    PARENT_TAXON: "a child taxon of",
    INSTANCE_OF: "an instance of",
}


def check_ontology(
    store: EntityStore, facts: Facts, scope: Scope, quiet: bool
) -> Iterator[Findings]:
    """Yield what can be found of the properties that the store kept.

    P171 and P279 are loaded one after the other; of P31, which has 120 million edges in all of
    Wikidata, a row group at a time is compared with P279.
    """
    outputs = store.manifest["outputs"]
    files = {p: edge_file(store.path, outputs, p) for p in (PARENT_TAXON, SUBCLASS_OF, INSTANCE_OF)}
    total = sum(truthy_rows(pq.ParquetFile(file)) for file in files.values() if file)
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
                instances = _truthy(files[INSTANCE_OF], redirects, progress.add)
                yield from _instances(instances, ontology, edges, scope)


def _cycles(
    kind: str, property_id: str, ontology: Ontology, edges: Edges, scope: Scope
) -> Findings:
    """Find components of items that are above each other, and items that are above themselves.

    `related` is a shortest cycle, `count` the items of the component.  A statement of an item about
    itself is a finding of its own: it is mended by itself.
    """
    core = cyclic_core(edges, ontology.size)
    found = [([node], [node]) for node in loops(edges).tolist()]
    try:
        found += [(cycle.nodes, cycle.component) for cycle in cycles(core)]
    except OverflowError:
        return _one_tangle(kind, property_id, len(distinct(core.subject)))
    found.sort(key=lambda one: (one[0][0], len(one[1])))
    walks, components = ([ontology.ids[one[n]] for one in found] for n in (0, 1))
    count = np.array([len(component) for component in components], np.int64)
    related = _grouped(walks)

    def sentence(row: int, named: Named) -> str:
        start, end = related.start[row : row + 2].tolist()
        return _ring(related.values[start:end].tolist(), int(count[row]), property_id, named)

    inside = scope.any_inside(_grouped(components))
    firsts = related.values[related.start[:-1]]
    return Findings(kind, property_id, firsts, count, inside, related, sentence)


def _ring(ids: list[int], items: int, property_id: str, named: Named) -> str:
    relation = _RELATION[property_id]
    if len(ids) == 1:
        return f"{named(ids[0])} is {relation} itself ({property_id})."
    ring = [named(id) for id in ids[:NAMED]]
    ring += [f"… ({len(ids) - NAMED:,} more)"] * (len(ids) > NAMED)
    together = f"; {items:,} items lie on such cycles together" if items > len(ids) else ""
    walk = " → ".join([*ring, ring[0]])
    return f"Each is {relation} the next ({property_id}): {walk}{together}."


def _one_tangle(kind: str, property_id: str, items: int) -> Findings:
    """Return the one finding where so many items lie on cycles that they can't be told apart."""
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


def _truthy(file: Path | None, redirects: Redirects, advance: Tick) -> Iterator[tuple[Ids, Ids]]:
    """Yield subjects and objects of a file's truthy edges, a row group at a time."""
    if file is None:
        return
    parquet = pq.ParquetFile(file)
    left = truthy_rows(parquet)
    for group in range(parquet.num_row_groups):
        if left <= 0:
            break
        table = parquet.read_row_group(group, columns=["subject", "object"]).slice(0, left)
        # objects repeat: each is looked up once
        objects = table.column("object").combine_chunks().dictionary_encode()
        merged = redirects.followed(objects.dictionary.to_numpy(zero_copy_only=False))
        yield table.column("subject").to_numpy(), merged[objects.indices.to_numpy()]
        left -= len(table)
        advance(len(table))


def _instances(
    instances: Iterator[tuple[Ids, Ids]], ontology: Ontology, edges: Edges, scope: Scope
) -> Iterator[Findings]:
    """Find instances of themselves, and items that are instance and subclass of the same class."""
    subclass = _packed(edges.subject, edges.object)
    classes = ontology.ids[edges.forward.rows]
    itself, both = [NO_IDS], [np.empty(0, np.uint64)]
    for subject, object in instances:
        itself.append(subject[subject == object])
        rows = np.flatnonzero(among(subject, classes))
        nodes = [ontology.find(ids[rows]) for ids in (subject, object)]
        known = nodes[1] >= 0
        pairs = _packed(*(side[known] for side in nodes))
        both.append(pairs[among(pairs, subclass)])
    yield _of_themselves(distinct(np.concatenate(itself)), scope)
    pairs = distinct(np.concatenate(both))
    first, second = pairs >> np.uint64(32), pairs.astype(np.uint32)
    yield _instance_and_subclass(ontology.ids[first], ontology.ids[second], scope)


def _of_themselves(ids: Ids, scope: Scope) -> Findings:
    """Make findings of the items with a P31 to themselves.

    Only direct statements: `class` is an instance of itself by way of its own classes, and rightly.
    """
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


def _packed(high: npt.NDArray[Number], low: npt.NDArray[Number]) -> npt.NDArray[np.uint64]:
    """Pack two columns of node numbers, which have 32 bits, into one that sorts."""
    return (high.astype(np.uint64) << np.uint64(32)) | low.astype(np.uint64)
