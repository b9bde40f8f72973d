"""Names that several entities of a data set share: labels and aliases, folded as `find` folds them.

A search for such a name finds the pictures of all of them, and a person who looks the item up takes
the wrong one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.names import fold_all
from graph.entities import Grouped
from graph.ontology import Compact, distinct
from graph.tables import id_numbers

Numbers = npt.NDArray[np.int64]

_LOW = np.uint64(32)


@dataclass(frozen=True, eq=False)
class SharedNames:
    """N names; those of most entities first, then by the folded name."""

    names: pa.StringArray  # (N,) as the best known entity of the name writes it
    count: Numbers  # (N,) entities
    entities: Grouped  # ids; by sitelinks, most first, then ascending


def shared_names(entities: Path) -> SharedNames:
    """Find the names (`name` and `aliases`) that two entities of an `entities.parquet` have.

    Names are compared folded (:func:`etl.names.fold`): case, compatibility forms and white space
    don't count.  At the peak it takes some 120 bytes a name of 20 letters: 3.7 GB for 10 million
    entities with 30 million names.
    """
    parquet = pq.ParquetFile(entities)
    owner, code, texts = _folded(parquet)
    pairs = distinct((code.astype(np.uint64) << _LOW) | owner)
    count = np.bincount((pairs >> _LOW).astype(np.int64), minlength=len(texts))
    pairs = pairs[count[pairs >> _LOW] > 1]
    shared = _in_order(np.flatnonzero(count > 1), count, texts)
    place = np.full(len(texts), -1)  # of a name in the answer
    place[shared] = np.arange(len(shared))

    head = parquet.read(columns=["id", "sitelinks"])
    ids = id_numbers(head.column("id").combine_chunks())
    sitelinks = head.column("sitelinks").to_numpy().astype(np.int64)
    who = pairs.astype(np.uint32).astype(np.int64)
    who = who[np.lexsort((who, -sitelinks[who], place[pairs >> _LOW]))]
    start = np.concatenate(([0], np.cumsum(count[shared])))
    names = _written(parquet, _first_written(owner, place[code], who[start[:-1]]))
    return SharedNames(names, count[shared], Grouped(start, ids[who]))


def _in_order(codes: Numbers, count: Numbers, texts: pa.LargeStringArray) -> Numbers:
    """Sort the numbers of names by how many have them, most first, then by the name."""
    keys = [("count", "descending"), ("folded", "ascending")]
    table = pa.table({"count": count[codes], "folded": texts.take(pa.array(codes))})
    ordered: Numbers = codes[pc.sort_indices(table, sort_keys=keys).to_numpy()]
    return ordered


def _names(parquet: pq.ParquetFile) -> Iterator[tuple[Numbers, pa.StringArray]]:
    """Yield the names of a row group and, for each, its entity's row in the file: labels first."""
    first = 0
    for group in range(parquet.num_row_groups):
        table = parquet.read_row_group(group, columns=["name", "aliases"]).combine_chunks()
        aliases = table.column("aliases").combine_chunks()
        label = table.column("name").combine_chunks()
        owners = [np.arange(len(table)), pc.list_parent_indices(aliases).to_numpy()]
        yield first + np.concatenate(owners), pa.concat_arrays([label, pc.list_flatten(aliases)])
        first += len(table)


def _folded(parquet: pq.ParquetFile) -> tuple[Compact, Compact, pa.LargeStringArray]:
    """Return of every name its entity's row and the number of its folded form; and the forms."""
    owners, folded = [np.empty(0, np.uint32)], [pa.array([], pa.large_string())]
    for owner, names in _names(parquet):
        texts = fold_all(names)
        # what folds to nothing is no name: as if all of it were one entity's, nobody shares it
        owners.append(np.where(pc.binary_length(texts).to_numpy() > 0, owner, 0).astype(np.uint32))
        folded.append(texts.cast(pa.large_string()))
    coded = pa.chunked_array(folded).dictionary_encode()
    codes = [np.empty(0, np.uint32)]
    codes += [chunk.indices.to_numpy().astype(np.uint32) for chunk in coded.chunks]
    # all chunks have the one dictionary, and without a name there is no chunk
    forms = coded.chunk(0).dictionary if coded.num_chunks else folded[0]
    return np.concatenate(owners), np.concatenate(codes), forms


def _first_written(owner: Compact, place: Numbers, best: Numbers) -> Numbers:
    """Return for each shared name the number of the first name by which its best entity has it.

    `owner` and `place` (-1: not shared) are of every name, `best` of every shared one.
    """
    shared = np.flatnonzero(place >= 0)
    written = shared[owner[shared] == best[place[shared]]]
    _, first = np.unique(place[written], return_index=True)
    numbers: Numbers = written[first]
    return numbers


def _written(parquet: pq.ParquetFile, wanted: Numbers) -> pa.StringArray:
    """Return names by their numbers, in a second pass over the file."""
    order = np.argsort(wanted, kind="stable")
    found = [pa.array([], pa.string())]
    first = 0
    for _, names in _names(parquet):
        low, high = np.searchsorted(wanted[order], [first, first + len(names)])
        found.append(names.take(pa.array(wanted[order[low:high]] - first)))
        first += len(names)
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return pa.concat_arrays(found).take(pa.array(back))
