"""The ontology as arrays: edges of the store as CSR blocks, and a networkx backend over them.

`Ontology.load` reads the truthy edges of a few properties into numpy arrays.  `Ontology.graph`
makes an :class:`ArrayGraph` of them, and `Ontology.product` one of the graph times an automaton,
whose nodes are (state, entity) and which walks exactly the chains that a property path matches.
Both are made of the same CSR arrays: a product costs nothing to build.

An `ArrayGraph` is a networkx graph by dispatch (entry point ``networkx.backends``): code calls
``nx.bfs_layers(graph, sources)`` and :class:`Backend` runs it on arrays, level by level, without a
Python object per edge.  A `DiGraph` of all of Wikidata would take some 10 GB for its hierarchy
alone; the arrays take 8 bytes an edge, and as much again for the direction walked backward.

Nodes on networkx' face are ints: 144 for Q144, -31 for P31; in a product, plain numbers from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import networkx as nx
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import UserError
from etl.manifest import read_manifest
from etl.merged_ids import Redirects
from etl.progress import Progress
from etl.tables import TRUTHY_ROWS
from graph.paths import Automaton

Ids = npt.NDArray[np.int64]  # ids as the store writes them: Q144 -> 144, P31 -> -31
Nodes = npt.NDArray[np.int64]  # node numbers of an ArrayGraph, 0 .. size - 1
Number = TypeVar("Number", bound=np.integer[Any])
Compact = npt.NDArray[np.uint32]  # node numbers as they are kept: 4 bytes, enough for 4.29e9

_MOST_NODES = 2**32

# --------------------------------------------------------------------------------------------------
# Edges
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Csr:
    """Neighbours by node, for the nodes that have any: compressed sparse rows.

    Only non-empty rows are kept, because most properties touch few of the nodes: of 118 million
    entities 5 million have a P279.  Finding a row costs a binary search.
    """

    rows: Compact  # (R,) nodes with neighbours, ascending
    start: Compact | Nodes  # (R + 1,) where a row's neighbours begin; 4 bytes if they will do
    neighbours: Compact  # (E,) ascending within a row

    def expand(self, nodes: Nodes) -> tuple[Nodes, Nodes]:
        """Return (i, neighbour) of every edge out of `nodes`, i being a position in `nodes`.

        Edges come in the order of `nodes`, and of one node in the order of its neighbours.
        """
        if not len(self.rows) or not len(nodes):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        row = np.searchsorted(self.rows, nodes.astype(np.uint32))
        row[row == len(self.rows)] = 0
        found = np.flatnonzero(self.rows[row] == nodes)
        row = row[found]
        first = self.start[row].astype(np.int64)
        count = self.start[row + 1].astype(np.int64) - first
        ends = np.cumsum(count)
        total = int(ends[-1]) if len(ends) else 0
        at = np.arange(total) + np.repeat(first - (ends - count), count)
        return np.repeat(found, count), self.neighbours[at].astype(np.int64)


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges of one property, as a set: pairs of node numbers, sorted, none twice."""

    subject: Compact  # (E,)
    object: Compact  # (E,)

    @classmethod
    def of(cls, subject: npt.ArrayLike, object: npt.ArrayLike) -> Edges:
        """Sort pairs and drop repeats (two statements may say the same)."""
        # Of a store's edges the subjects ascend already, which a stable sort makes use of: 0.02 s
        # instead of 0.66 for 10 million P31.
        return cls(*unpack(_sorted_pairs(subject, object, "stable")))

    @cached_property
    def forward(self) -> Csr:
        return _csr(self.subject, self.object)

    @cached_property
    def backward(self) -> Csr:
        target, source = unpack(_sorted_pairs(self.object, self.subject))
        return _csr(target, source)


def _sorted_pairs(
    high: npt.ArrayLike, low: npt.ArrayLike, kind: Literal["quicksort", "stable"] = "quicksort"
) -> npt.NDArray[np.uint64]:
    """Pack two columns of 32 bits into one of 64, sort, drop repeats.

    Sorting packed numbers in place is several times as fast as an argsort of one column and needs
    no index array: 120 million P31 edges take seconds.
    """
    packed = pack(np.asarray(high), np.asarray(low))
    packed.sort(kind=kind)
    if len(packed):
        fresh = np.empty(len(packed), bool)
        fresh[0] = True
        np.not_equal(packed[1:], packed[:-1], out=fresh[1:])
        if not fresh.all():
            packed = packed[fresh]
    return packed


def pack(high: npt.NDArray[Number], low: npt.NDArray[Number]) -> npt.NDArray[np.uint64]:
    """Pack two columns of node numbers, which have 32 bits, into one that sorts."""
    packed = high.astype(np.uint64)
    packed <<= np.uint64(32)
    packed |= low.astype(np.uint64)
    return packed


def unpack(packed: npt.NDArray[np.uint64]) -> tuple[Compact, Compact]:
    """Return the two columns that were packed."""
    return (packed >> np.uint64(32)).astype(np.uint32), packed.astype(np.uint32)


def _csr(source: Compact, target: Compact) -> Csr:
    """Build rows from edges that are sorted by source."""
    if not len(source):
        return Csr(source, np.zeros(1, np.uint32), target)
    first = np.flatnonzero(np.concatenate(([True], source[1:] != source[:-1])))
    start = np.append(first, len(source))
    fits = len(source) <= np.iinfo(np.uint32).max
    return Csr(source[first], start.astype(np.uint32) if fits else start, target)


# --------------------------------------------------------------------------------------------------
# Graphs
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Block:
    """One property's edges, placed into a graph: from nodes at `source` to nodes at `target`."""

    edges: Edges
    property_id: str = ""
    inverse: bool = False  # walk the edges from object to subject
    source: int = 0
    target: int = 0

    @property
    def out(self) -> Csr:
        """The neighbours by the node that the block's edges start from."""
        return self.edges.backward if self.inverse else self.edges.forward

    def reversed(self) -> Block:
        return replace(self, inverse=not self.inverse, source=self.target, target=self.source)


@dataclass(frozen=True, eq=False)
class ArrayGraph:
    """A directed graph of `size` nodes in CSR blocks; a graph to networkx by dispatch.

    The nodes of block offsets are 0 .. size - 1.  `ids`, ascending, gives them other names, under
    which networkx' functions take and return them; without it they are called by their number.
    `span` is the number of nodes that a block covers: the size, or in a product the number of
    entities, of which blocks' offsets are multiples.
    """

    size: int
    span: int
    blocks: tuple[Block, ...]
    ids: Ids | None = None

    __networkx_backend__ = "sparqless"

    def is_directed(self) -> bool:
        return True

    def is_multigraph(self) -> bool:
        return False

    def __len__(self) -> int:
        return self.size

    def __contains__(self, node: object) -> bool:
        return bool(self.find(np.array([node]))[0] >= 0) if _is_number(node) else False

    def __iter__(self) -> Iterator[int]:
        return iter(self.names(np.arange(self.size)).tolist())

    if not TYPE_CHECKING:  # a checker would take every name for one that exists

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"an ArrayGraph has no {name!r}: it is for graphs too large for networkx' objects; "
                "to_networkx() makes a DiGraph of a small one"
            )

    def number_of_nodes(self) -> int:
        return self.size

    def has_node(self, node: object) -> bool:
        return node in self

    def neighbors(self, node: int) -> Iterator[int]:
        """Iterate over the nodes that a node has an edge to, ascending.

        Raises
        ------
        networkx.NetworkXError : the node is not in the graph.
        """
        found = [to for _, _, to in self.steps(_only(self, node, nx.NetworkXError))]
        nodes = distinct(np.concatenate([np.empty(0, np.int64), *found]))
        return iter(self.names(nodes).tolist())

    successors = neighbors

    def reverse(self, copy: bool = False) -> ArrayGraph:
        """Return the graph with every edge turned round; it shares the arrays."""
        if copy:
            raise NotImplementedError("an ArrayGraph can't be changed, so it has no use for copies")
        return replace(self, blocks=tuple(block.reversed() for block in self.blocks))

    def names(self, nodes: Nodes) -> Ids:
        """Return the ids of node numbers."""
        return nodes if self.ids is None else self.ids[nodes]

    def find(self, ids: npt.ArrayLike) -> Nodes:
        """Return the node numbers of ids, -1 for those that are not in the graph."""
        wanted = np.asarray(ids, np.int64)
        if self.ids is None:
            return np.where((wanted >= 0) & (wanted < self.size), wanted, -1)
        if not self.size:
            return np.full(len(wanted), -1)
        at = np.searchsorted(self.ids, wanted)
        at[at == self.size] = 0
        return np.where(self.ids[at] == wanted, at, -1)

    def steps(self, nodes: Nodes) -> Iterator[tuple[Block, Nodes, Nodes]]:
        """Yield (block, i, target) of the edges out of `nodes`, i being a position in `nodes`.

        Within a block, edges come in the order of `nodes`.
        """
        part = None if self.size == self.span else nodes // self.span
        for block in self.blocks:
            if part is None:
                i, target = block.out.expand(nodes)
            else:
                inside = np.flatnonzero(part == block.source // self.span)
                i, target = block.out.expand(nodes[inside] - block.source)
                i = inside[i]
            if len(i):
                yield block, i, target + block.target

    def layers(self, sources: Nodes) -> Iterator[Nodes]:
        """Yield the nodes at distance 0, 1, 2, ... from `sources`, each once, ascending."""
        seen = np.zeros(self.size, bool)  # pages that no node touches cost nothing
        layer = distinct(sources)
        seen[layer] = True
        while len(layer):
            yield layer
            found = []
            for _, _, target in self.steps(layer):
                fresh = target[~seen[target]]
                seen[fresh] = True
                found.append(fresh)
            layer = distinct(np.concatenate([np.empty(0, np.int64), *found]))

    def reachable(self, sources: Nodes) -> Nodes:
        """Return the nodes that can be reached from `sources`, these included, ascending."""
        return np.sort(np.concatenate([np.empty(0, np.int64), *self.layers(sources)]))

    def to_networkx(self) -> nx.DiGraph[int]:
        """Return a plain DiGraph; `property` of an edge is a list, `^P31` for an inverse one.

        For graphs of the size of a result: it makes Python objects of all nodes and edges.
        """
        plain: nx.DiGraph[int] = nx.DiGraph()
        plain.add_nodes_from(self)
        every = np.arange(self.size)
        for block, i, target in self.steps(every):
            sign = "^" if block.inverse else ""
            pairs = zip(self.names(i).tolist(), self.names(target).tolist(), strict=True)
            for u, v in pairs:
                if not plain.has_edge(u, v):
                    plain.add_edge(u, v, property=[])
                plain.edges[u, v]["property"].append(f"{sign}{block.property_id}")
        return plain


# --------------------------------------------------------------------------------------------------
# The ontology
# --------------------------------------------------------------------------------------------------


#: Gives the ids at one end of a property's edges, "subject" or "object".
_Column = Callable[[str], pa.ChunkedArray]


@dataclass(frozen=True, eq=False)
class _Coded:
    """A column of ids that repeat: 4 bytes a row instead of 8."""

    values: Ids  # (V,) ascending; some may be there twice
    place: Nodes  # (V,) of each value in the order in which `row` counts them
    row: npt.NDArray[np.int32]  # (E,)

    @classmethod
    def of(cls, column: pa.ChunkedArray, followed: Callable[[Ids], Ids]) -> _Coded:
        encoded = column.combine_chunks().dictionary_encode()
        # A redirect may make two objects one, and an edge a repeat or a loop: a set holds it once,
        # and a loop is an edge like any other.
        values = followed(encoded.dictionary.to_numpy(zero_copy_only=False))
        place = np.argsort(values)
        return cls(values[place], place, encoded.indices.to_numpy())

    def numbers(self, ids: Ids) -> Compact:
        """Return every row's place in `ids`, ascending, which hold all values."""
        number = np.empty(len(self.values), np.uint32)
        # in their order, because a search stays near the one before it: a sixth of the time
        number[self.place] = np.searchsorted(ids, self.values)
        return number[self.row]


@dataclass(frozen=True, eq=False)
class Ontology:
    """Truthy edges between items and properties, property by property, over common nodes."""

    ids: Ids  # (N,) ascending: properties (negative) before items
    edges: Mapping[str, Edges]

    @classmethod
    def load(
        cls,
        store: Path,
        properties: Iterable[str],
        including: Iterable[int] = (),
        *,
        quiet: bool = True,
    ) -> Ontology:
        """Read the truthy edges of `properties` from the store's `edges/*.parquet`.

        Nodes are the ids at the ends of those edges and those of `including`.  A property whose
        file the store's manifest doesn't list has no edge.  An object that was merged into another
        by the store's table of redirects stands for that one.  Measured with the ids of the nodes
        and both directions, the process grows by 43 bytes an edge, by 58 while it sorts.

        Raises
        ------
        UserError : the store isn't finished, or a file that its manifest lists is not there.
        """
        outputs = read_manifest(store, "store")["outputs"]
        files = {
            name: file
            for name in dict.fromkeys(properties)
            if (file := edge_file(store, outputs, name)) is not None
        }
        rows = {name: truthy_rows(pq.ParquetFile(file)) for name, file in files.items()}
        redirects = Redirects.load(store, outputs)
        total = sum(rows.values())
        with Progress("loading", total, unit=" edges", quiet=quiet) as progress:

            def columns() -> Iterator[tuple[str, _Column]]:
                for name, file in files.items():
                    progress.note = name
                    yield name, partial(_truthy_column, file)
                    progress.add(rows[name])
                progress.note = "sorting"
                progress.add(0)

            return cls._of_columns(columns(), including, redirects.followed)

    @classmethod
    def of(
        cls, edges: Mapping[str, Iterable[tuple[int, int]]], including: Iterable[int] = ()
    ) -> Ontology:
        """Make an ontology of a few pairs of ids (subject, object) per property."""
        columns: list[tuple[str, _Column]] = []
        for name, pairs in edges.items():
            array = np.array(list(pairs), np.int64).reshape(-1, 2)
            table = pa.table({"subject": array[:, 0], "object": array[:, 1]})
            columns.append((name, table.column))
        return cls._of_columns(columns, including)

    @classmethod
    def _of_columns(
        cls,
        columns: Iterable[tuple[str, _Column]],
        including: Iterable[int],
        followed: Callable[[Ids], Ids] = lambda ids: ids,
    ) -> Ontology:
        # Objects repeat (12 million humans share one), so they are made unique by hashing before
        # anything is sorted; subjects stand in key order, so that their runs merge in linear time.
        # A column is dropped before the next is read: those of 120 million P31 take 1 GB each.
        subjects: dict[str, Ids] = {}
        coded: dict[str, _Coded] = {}
        for name, column in columns:
            subjects[name] = column("subject").to_numpy()
            coded[name] = _Coded.of(column("object"), followed)
            # Arrow keeps what it freed, and numpy can't have it: 240 MB with 10 million P31
            pa.default_memory_pool().release_unused()
        runs = [np.unique(np.fromiter(including, np.int64))]
        runs += [_without_repeats(subject) for subject in subjects.values()]
        runs += [objects.values for objects in coded.values()]
        ids = np.concatenate(runs)
        del runs
        ids.sort(kind="stable")
        ids = _without_repeats(ids)
        if len(ids) > _MOST_NODES:
            raise OverflowError("node numbers of 32 bits can't hold so many entities")
        edges = {}
        for name in list(subjects):
            subject = np.searchsorted(ids, subjects.pop(name)).astype(np.uint32)
            edges[name] = Edges.of(subject, coded.pop(name).numbers(ids))
        return cls(ids, edges)

    @property
    def size(self) -> int:
        return len(self.ids)

    def find(self, ids: npt.ArrayLike) -> Nodes:
        """Return the node numbers of ids, -1 for those that are not there."""
        return ArrayGraph(self.size, self.size, (), self.ids).find(ids)

    def graph(self, properties: Sequence[str] | None = None) -> ArrayGraph:
        """Return the graph of some properties (all if None), subject to object."""
        names = self.edges if properties is None else properties
        blocks = tuple(Block(self.edges[p], p) for p in names if p in self.edges)
        return ArrayGraph(self.size, self.size, blocks, self.ids)

    def product(self, automaton: Automaton) -> ArrayGraph:
        """Return the graph of (state, entity), numbered state * size + entity.

        It has an edge from (s, x) to (t, y) where the automaton has a transition s -> t along a
        property that links x to y.  So a chain from x to y matches a path if and only if the
        product has the walk from (the path's start, x) to (an accepting state, y).
        """
        blocks = tuple(
            Block(self.edges[t.property], t.property, t.inverse,
                  t.source * self.size, t.target * self.size)
            for t in automaton.transitions
            if t.property in self.edges
        )  # fmt: skip
        return ArrayGraph(self.size * automaton.states, self.size, blocks)


def edge_file(store: Path, outputs: Container[str], property_id: str) -> Path | None:
    """Return the file of a property's edges, None where the store's `outputs` list none.

    Raises
    ------
    UserError : the file is listed and not there; taken as "no edges", it would make a smaller graph
        of a broken store.
    """
    name = f"edges/{property_id}.parquet"
    if name not in outputs:
        return None
    if not (file := store / name).is_file():
        raise UserError(
            f"{file} is missing, which the store's manifest lists: copy the store again or build "
            "it with `sparqless etl --fresh`."
        )
    return file


def read_truthy(file: Path, columns: Sequence[str]) -> pa.Table:
    """Read the truthy rows of an edge file, which come first, and not a row group more."""
    parquet = pq.ParquetFile(file)
    wanted = truthy_rows(parquet)
    groups: list[int] = []
    rows = 0
    while rows < wanted:
        rows += parquet.metadata.row_group(len(groups)).num_rows
        groups.append(len(groups))
    return parquet.read_row_groups(groups, columns=list(columns)).slice(0, wanted)


def _truthy_column(file: Path, name: str) -> pa.ChunkedArray:
    return read_truthy(file, [name]).column(0)


def read_subjects(file: Path, objects: Ids) -> pa.Table:
    """Read the truthy rows of an edge file whose object is one of some, a row group at a time.

    The file is ordered by subject, so that all its objects are looked through.
    """
    parquet = pq.ParquetFile(file)
    left = truthy_rows(parquet)
    found = [parquet.schema_arrow.empty_table().select(["subject", "object"])]
    for group in range(parquet.num_row_groups):
        if left <= 0:
            break
        object = parquet.read_row_group(group, columns=["object"]).column(0).to_numpy()[:left]
        if (rows := np.flatnonzero(np.isin(object, objects))).size:
            found.append(parquet.read_row_group(group, columns=["subject", "object"]).take(rows))
        left -= parquet.metadata.row_group(group).num_rows
    return pa.concat_tables(found)


def truthy_rows(parquet: pq.ParquetFile) -> int:
    """Return the number of truthy rows that an edge file's metadata states."""
    return int(parquet.metadata.metadata[TRUTHY_ROWS.encode()])


def distinct(numbers: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Sort and drop repeats: what np.unique does, several times as fast."""
    return _without_repeats(np.sort(numbers))


def among(numbers: npt.NDArray[Number], ascending: npt.NDArray[Number]) -> npt.NDArray[np.bool_]:
    """Say which numbers are among some that ascend: np.isin without sorting these again."""
    if not len(ascending):
        return np.zeros(len(numbers), bool)
    at = np.searchsorted(ascending, numbers)
    at[at == len(ascending)] = 0
    return np.asarray(ascending[at] == numbers)


def _without_repeats(ascending: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Drop neighbours that are equal; input that isn't sorted keeps some repeats, and no harm."""
    if len(ascending) < 2:
        return ascending
    return ascending[np.concatenate(([True], ascending[1:] != ascending[:-1]))]


# --------------------------------------------------------------------------------------------------
# The networkx backend
# --------------------------------------------------------------------------------------------------


class Backend:
    """networkx' functions for an ArrayGraph; each means what networkx' own of that name means.

    networkx calls these when it is given an `ArrayGraph`, or told ``backend="sparqless"``.  What is
    missing here raises NotImplementedError instead of turning a huge graph into Python objects
    behind the caller's back: use :meth:`ArrayGraph.to_networkx`.
    """

    @staticmethod
    def can_run(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool | str:
        """Tell networkx which arguments we take: two ends, no weights."""
        if name in ("shortest_path", "shortest_path_length"):
            given = dict(zip(("G", "source", "target", "weight"), args, strict=False))
            given.update(kwargs)
            if given.get("weight") is not None:
                return "an ArrayGraph has no weights"
            if given.get("source") is None or given.get("target") is None:
                return "only the path between one source and one target is implemented"
        return True

    @staticmethod
    def convert_from_nx(graph: nx.Graph[Any], **_: object) -> ArrayGraph:
        """Turn a networkx graph whose nodes are ints into arrays."""
        if not all(isinstance(node, int) for node in graph):
            raise NotImplementedError("an ArrayGraph has ints for nodes: 144 for Q144, -31 for P31")
        pairs = list(graph.edges())
        if not graph.is_directed():
            pairs += [(v, u) for u, v in pairs]
        return Ontology.of({"": pairs}, including=graph).graph()

    @staticmethod
    def convert_to_nx(result: Any, **_: object) -> Any:
        """Turn an ArrayGraph into a DiGraph, and leave other results as they are."""
        return result.to_networkx() if isinstance(result, ArrayGraph) else result

    @staticmethod
    def bfs_layers(G: ArrayGraph, sources: Any) -> Iterator[Any]:  # noqa: N803
        """Yield the nodes at distance 0, 1, ... from a node or several, ascending.

        Layers are lists, as networkx' own; arrays for sources in an array.
        """
        if isinstance(sources, np.ndarray):
            numbers = G.find(sources)
            if (numbers < 0).any():
                missing = sources[np.argmax(numbers < 0)]
                raise nx.NetworkXError(f"The node {missing} is not in the graph.")
            return (G.names(layer) for layer in G.layers(numbers))
        several = [sources] if _is_number(sources) else list(sources)
        found = [_only(G, node, nx.NetworkXError) for node in several]
        numbers = np.concatenate([np.empty(0, np.int64), *found])
        return (G.names(layer).tolist() for layer in G.layers(numbers))

    @staticmethod
    def descendants(G: ArrayGraph, source: int) -> set[int]:  # noqa: N803
        """Return all nodes that can be reached from `source`, without it."""
        reached = G.reachable(_only(G, source, nx.NetworkXError))
        return set(G.names(reached).tolist()) - {source}

    @staticmethod
    def ancestors(G: ArrayGraph, source: int) -> set[int]:  # noqa: N803
        """Return all nodes that `source` can be reached from, without it."""
        return Backend.descendants(G.reverse(), source)

    @staticmethod
    def single_source_shortest_path_length(
        G: ArrayGraph,  # noqa: N803
        source: int,
        cutoff: float | None = None,
    ) -> dict[int, int]:
        """Return the distance from `source` of every node, up to the first not below `cutoff`."""
        lengths: dict[int, int] = {}
        for length, layer in enumerate(G.layers(_only(G, source, nx.NodeNotFound))):
            lengths.update(dict.fromkeys(G.names(layer).tolist(), length))
            if cutoff is not None and length >= cutoff:
                break
        return lengths

    @staticmethod
    def shortest_path(
        G: ArrayGraph,  # noqa: N803
        source: int,
        target: int,
        weight: None = None,
        method: str = "dijkstra",
    ) -> list[int]:
        """Return the shortest path; of several, the one with the lowest ids first."""
        _check_method(method)
        start, end = _only(G, source, nx.NodeNotFound), _only(G, target, nx.NodeNotFound)
        # Layers around the target, until the source is met; then walk down them.
        layers = []
        for layer in G.reverse().layers(end):
            layers.append(layer)
            if np.isin(start, layer)[0]:
                break
        else:
            raise nx.NetworkXNoPath(f"No path between {source} and {target}.")
        walk = [start]
        for layer in reversed(layers[:-1]):
            below = np.concatenate([to for _, _, to in G.steps(walk[-1])])
            walk.append(np.intersect1d(below, layer)[:1])
        path: list[int] = G.names(np.concatenate(walk)).tolist()
        return path

    @staticmethod
    def shortest_path_length(
        G: ArrayGraph,  # noqa: N803
        source: int,
        target: int,
        weight: None = None,
        method: str = "dijkstra",
    ) -> int:
        """Return the number of edges between `source` and `target`."""
        return len(Backend.shortest_path(G, source, target, weight, method)) - 1

    @staticmethod
    def has_path(G: ArrayGraph, source: int, target: int) -> bool:  # noqa: N803
        """Say whether `target` can be reached from `source`."""
        start, end = _only(G, source, nx.NodeNotFound), _only(G, target, nx.NodeNotFound)
        return any(np.isin(end, layer)[0] for layer in G.layers(start))


def _only(graph: ArrayGraph, node: object, error: type[nx.NetworkXException]) -> Nodes:
    if node not in graph:
        raise error(f"The node {node} is not in the graph.")
    return graph.find(np.array([node]))


def _is_number(node: object) -> bool:
    """Say whether something can be a node's id: an int of 64 bits."""
    return isinstance(node, int | np.integer) and -(2**63) <= int(node) < 2**63


def _check_method(method: str) -> None:
    if method not in ("dijkstra", "bellman-ford"):
        raise ValueError(f"method not supported: {method}")


#: What the entry point ``networkx.backends`` names.
backend = Backend()
